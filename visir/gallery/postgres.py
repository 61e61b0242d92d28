"""A gallery in PostgreSQL with pgvector: for many writers, many readers, and more than one machine.

Vectors are kept in single precision. From a number of images on, each has a lead beside its vector
and searches are exact by leads (`visir.gallery.postgres_leads`); before, they compare with every
image of the part.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from visir.core.types import FloatArray, InputError
from visir.data.ranges import Ranges, as_json
from visir.gallery import postgres_leads as leads
from visir.gallery.id_list import in_steps
from visir.gallery.postgres_connection import Connection
from visir.gallery.postgres_tables import (
    FIELDS,
    NEWEST,
    SCHEMA,
    condition,
    first,
    insert,
    stored,
    unpacked,
)
from visir.gallery.store import (
    EVERYTHING,
    FORMAT,
    NOTHING_NEAR,
    Filter,
    Mode,
    ModelId,
    Nearest,
    Stats,
    Store,
    Stored,
    require_format,
    require_look,
    require_same_model,
    require_storable,
    require_unit_rows,
)
from visir.sources.crop import Entry

if TYPE_CHECKING:
    import psycopg

SMALL = 2000  # up to so many images a search compares with every one
_LOCKS = {"create": 7651001, "settle": 7651002}
FORMER = (
    "its index is of an earlier version and can miss images, so searches compare every image, "
    "which is slower; `visir index add` with any of its inputs makes the index anew"
)


class FormerGalleryWarning(UserWarning):
    """A gallery that an earlier version made answers slowly until images are added."""


class PostgresStore(Store):
    """A gallery in a database's tables visir_items and visir_meta, open.

    Args:
        address: postgresql://user:password@host/database; `?options=-csearch_path=site` chooses a
            schema, so that one database holds several galleries.
        create: make it if it does not exist.

    Raises:
        InputError: psycopg is not installed, no such server or gallery, or pgvector is missing.
    """

    def __init__(self, address: str, create: bool = False) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise InputError(
                'a gallery in PostgreSQL needs psycopg; pip install "visir[postgres]"'
            ) from error
        self.name = address.rpartition("@")[2]  # without a password
        self.basis: leads.Basis | None = None
        try:
            self.connection = Connection(address, self.name)
            if create:
                self._create()
            known = self._setting("format")
            former = leads.found_index(self.db, leads.FORMER_INDEX)
            if former and not create and self._setting("leads") is None:
                warnings.warn(f"{self.name}: {FORMER}", FormerGalleryWarning, stacklevel=2)
        except psycopg.errors.UndefinedTable:
            raise InputError(
                f"{self.name}: holds no gallery; make one with `visir index add`"
            ) from None
        except psycopg.Error as error:
            raise InputError(
                f"{self.name}: cannot be opened ({' '.join(str(error).split())}); check the "
                "address, that the server runs, and that pgvector 0.8 or newer is installed there"
            ) from error
        require_format(known, self.name)

    @property
    def db(self) -> psycopg.Connection[Any]:
        """The connection as it is, lost or not."""
        return self.connection.db

    def _create(self) -> None:
        with self.db.transaction():
            # Two processes that start at once would make the same tables.
            self.db.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCKS["create"]])
            if not first(self.db, NEWEST):  # changing tables would wait for every search
                self.db.execute(SCHEMA)
            if self._setting("format") is None:
                self._set("format", FORMAT)

    def add(
        self,
        model: ModelId,
        entries: Sequence[Entry],
        vectors_ND: FloatArray,
        replaced: Sequence[int] = (),
    ) -> list[int | None]:
        """As `Store.add`."""
        require_storable(entries)
        vectors_ND = require_unit_rows(vectors_ND, len(entries), model.width, self.name)
        now = time.time()
        with self.connection.asking() as db, db.transaction():
            if self.model() is None:
                db.execute(
                    "INSERT INTO visir_meta VALUES ('model', %s) ON CONFLICT DO NOTHING",
                    [json.dumps(model._asdict())],
                )
            require_same_model(self.model(), model, self.name)
            if replaced:
                self.remove(replaced)
            basis = self._basis(db)
            made = None if basis is None else basis.leads_of(vectors_ND)
            kept = insert(db, entries, vectors_ND, made, now)
            ids = [kept.pop(entry.source, None) for entry in entries]
            if any(item is not None for item in ids):
                db.execute("SELECT nextval('visir_changes')")
        return ids

    def remove(self, ids: Iterable[int]) -> int:
        """As `Store.remove`."""
        gone = 0
        for some in in_steps(ids):
            with self.connection.asking() as db, db.transaction():
                found = db.execute("DELETE FROM visir_items WHERE id = ANY(%s)", [some]).rowcount
                if found:
                    db.execute("SELECT nextval('visir_changes')")
            gone += found
        return gone

    def select(self, where: Filter, limit: int | None = None, after: int = 0) -> list[Stored]:
        """As `Store.select`."""
        part, values = condition(where)
        with self.connection.asking() as db:
            rows = db.execute(
                f"SELECT {FIELDS} FROM visir_items WHERE id > %s AND {part} ORDER BY id LIMIT %s",
                [after, *values, limit],
            ).fetchall()
        return [stored(row) for row in rows]

    def get(self, ids: Sequence[int]) -> dict[int, Stored]:
        """As `Store.get`."""
        with self.connection.asking() as db:
            rows = db.execute(
                f"SELECT {FIELDS} FROM visir_items WHERE id = ANY(%s)", [list(ids)]
            ).fetchall()
        return {row[0]: stored(row) for row in rows}

    def known(self, sources: Sequence[str]) -> dict[str, int]:
        """As `Store.known`."""
        with self.connection.asking() as db:
            rows = db.execute(
                "SELECT source, id FROM visir_items WHERE source = ANY(%s)", [list(sources)]
            ).fetchall()
        return {source: int(item) for source, item in rows}

    def below(self, folder: str) -> dict[str, int]:
        """As `Store.below`."""
        with self.connection.asking() as db:
            rows = db.execute(
                "SELECT source, id FROM visir_items WHERE starts_with(source, %s) "
                "OR starts_with(source, %s)",
                [f"{folder}/", f"{folder}::"],
            ).fetchall()
        return {source: int(item) for source, item in rows}

    def marks(self, ids: Sequence[int]) -> dict[int, str]:
        """As `Store.marks`."""
        with self.connection.asking() as db:
            rows = db.execute(
                "SELECT id, mark FROM visir_items WHERE id = ANY(%s) AND mark IS NOT NULL",
                [list(ids)],
            ).fetchall()
        return dict(rows)

    def vectors(self, ids: Sequence[int]) -> FloatArray:
        """As `Store.vectors`."""
        model = self.model()
        width = model.width if model else 0
        with self.connection.asking() as db, db.cursor(binary=True) as cursor:
            rows = cursor.execute(
                "SELECT id, vector FROM visir_items WHERE id = ANY(%s)", [list(ids)]
            ).fetchall()
        places = {item: place for place, (item, _) in enumerate(rows)}
        kept = unpacked([vector for _, vector in rows], width)
        found = np.zeros((len(ids), width), np.float32)
        for row, item in enumerate(ids):
            if item in places:
                found[row] = kept[places[item]]
        return found

    def thumbnail(self, item: int) -> bytes | None:
        """As `Store.thumbnail`."""
        with self.connection.asking() as db:
            row = db.execute("SELECT thumbnail FROM visir_items WHERE id = %s", [item]).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def nearest(
        self, query_D: FloatArray, k: int, where: Filter = EVERYTHING, mode: Mode = "auto"
    ) -> Nearest:
        """As `Store.nearest`; exact in every mode, "exact" without the help of leads."""
        require_look(k, mode)
        query_D = np.asarray(query_D, np.float32)
        with self.connection.asking() as db, db.transaction():
            # Every statement of this search sees the same images and the same basis. Compiling a
            # query takes longer than it saves.
            db.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL jit = off"
            )
            basis = None if mode == "exact" else self._basis(db)
            if basis is None:
                rows = leads.compare_all(db, query_D, k, where)
            else:
                rows = leads.nearest(db, basis, query_D, k, where)
        if not rows:
            return NOTHING_NEAR
        ids, scores = zip(*rows, strict=True)
        return Nearest(np.array(ids, np.int64), np.array(scores, np.float32))

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        part, values = condition(where)
        with self.connection.asking() as db:
            row = db.execute(f"SELECT count(*) FROM visir_items WHERE {part}", values).fetchone()
        return int(row[0]) if row else 0

    def keep_ranges(self, ranges: Ranges) -> None:
        """As `Store.keep_ranges`."""
        with self.connection.asking():
            self._set("ranges", json.dumps(as_json(ranges)))

    def keep_for(self, days: float | None) -> None:
        """As `Store.keep_for`."""
        with self.connection.asking():
            self._set("retention", json.dumps(days))

    def settle(self) -> None:
        """As `Store.settle`: leads and the index, once there are enough images for them."""
        model = self.model()
        with self.connection.asking() as db:
            if model is None or self.setting("settled") == str(self.version()):
                return
            # Of two processes the second finds the work done. A lost connection frees the lock.
            db.execute("SELECT pg_advisory_lock(%s)", [_LOCKS["settle"]])
            try:
                version, basis = self.version(), self._basis(db)
                if basis is None and self.count() <= SMALL:
                    return
                leads.bring_up_to_date(db, basis, model.width)
                self._set("settled", str(version))
            finally:
                if not db.closed:
                    db.execute("SELECT pg_advisory_unlock(%s)", [_LOCKS["settle"]])

    def version(self) -> int:
        """As `Store.version`."""
        with self.connection.asking() as db:
            row = db.execute(
                "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM visir_changes"
            ).fetchone()
        return int(row[0]) if row else 0

    def stats(self) -> Stats:
        """As `Store.stats`."""
        with self.connection.asking() as db:
            cameras = db.execute(
                "SELECT camera, count(*) FROM visir_items GROUP BY camera ORDER BY camera"
            ).fetchall()
            kinds: dict[str, int] = dict(
                db.execute("SELECT modality, count(*) FROM visir_items GROUP BY modality")
            )
            first, last, size = db.execute(
                "SELECT min(time), max(time), pg_total_relation_size('visir_items') "
                "FROM visir_items"
            ).fetchone() or (None, None, 0)
        return Stats(
            images=sum(kinds.values()),
            by_camera=dict(cameras),
            by_modality=kinds,
            earliest=first,
            latest=last,
            bytes_on_disk=size,
            version=self.version(),
            retention=self.retention(),
            engine="PostgreSQL and pgvector",
        )

    def close(self) -> None:
        """As `Store.close`."""
        self.connection.close()

    def setting(self, key: str) -> str | None:
        """As `Store.setting`."""
        with self.connection.asking():
            return self._setting(key)

    def _setting(self, key: str) -> str | None:
        found = first(self.db, "SELECT value FROM visir_meta WHERE key = %s", key)
        return None if found is None else str(found)

    def _set(self, key: str, value: str) -> None:
        self.db.execute(
            "INSERT INTO visir_meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET "
            "value = excluded.value",
            [key, value],
        )

    def _basis(self, db: psycopg.Connection[Any]) -> leads.Basis | None:
        """What the gallery's leads are made with; None while it has none."""
        self.basis = leads.read_basis(db, self.basis)
        return self.basis
