"""A gallery in PostgreSQL with pgvector: for many writers, many readers, and more than one machine.

Vectors are kept in single precision; an HNSW index holds them in half precision. A search takes
more candidates than it needs from the index and orders them by exact products. It compares with the
whole part if the part is small, or if the vectors are too wide for an index (more than 4,000
numbers).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from typing import Any, LiteralString

import numpy as np

from visir.core.types import FloatArray, InputError, Modality
from visir.data.ranges import Ranges, as_json
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
    require_same_model,
    require_unit_rows,
)
from visir.sources.crop import Entry

MAX_INDEXED_WIDTH = 4000  # pgvector's limit for half precision
SMALL_PART = 20_000  # up to so many images a search compares with every one
_OVERSAMPLE = 8
_SCHEMA: LiteralString = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS visir_meta (key text PRIMARY KEY, value text NOT NULL);
CREATE SEQUENCE IF NOT EXISTS visir_changes;
CREATE TABLE IF NOT EXISTS visir_items (
    id bigserial PRIMARY KEY, source text NOT NULL UNIQUE, camera text NOT NULL,
    modality text NOT NULL, time double precision, tags text[] NOT NULL,
    added double precision NOT NULL, vector vector NOT NULL, thumbnail bytea);
ALTER TABLE visir_items ADD COLUMN IF NOT EXISTS mark text;
CREATE INDEX IF NOT EXISTS visir_camera ON visir_items (camera);
CREATE INDEX IF NOT EXISTS visir_time ON visir_items (time);
CREATE INDEX IF NOT EXISTS visir_tags ON visir_items USING gin (tags);
"""
_FIELDS: LiteralString = "id, source, camera, modality, time, tags, added"


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
        self.lock = threading.RLock()
        try:
            self.db = psycopg.connect(address, autocommit=True)
            if create:
                self._create()
            known = self.setting("format")
        except psycopg.errors.UndefinedTable:
            raise InputError(
                f"{self.name}: holds no gallery; make one with `visir index add`"
            ) from None
        except psycopg.Error as error:
            raise InputError(
                f"{self.name}: cannot be opened ({' '.join(str(error).split())}); check the "
                "address, that the server runs, and that pgvector is installed there"
            ) from error
        require_format(known, self.name)

    def _create(self) -> None:
        with self.db.transaction():
            # Two processes that start at once would make the same tables.
            self.db.execute("SELECT pg_advisory_xact_lock(7651001)")
            self.db.execute(_SCHEMA)
            self._set("format", FORMAT)

    def add(
        self, model: ModelId, entries: Sequence[Entry], vectors_ND: FloatArray
    ) -> list[int | None]:
        """As `Store.add`."""
        vectors_ND = require_unit_rows(vectors_ND, len(entries), model.width, self.name)
        now = time.time()
        with self.lock, self.db.transaction():
            if self.model() is None:
                self.db.execute(
                    "INSERT INTO visir_meta VALUES ('model', %s) ON CONFLICT DO NOTHING",
                    [json.dumps(model._asdict())],
                )
            require_same_model(self.model(), model, self.name)
            kept = self._insert(entries, vectors_ND, now)
            ids = [kept.pop(entry.source, None) for entry in entries]
            if any(item is not None for item in ids):
                self.db.execute("SELECT nextval('visir_changes')")
        return ids

    def remove(self, ids: Sequence[int]) -> int:
        """As `Store.remove`."""
        with self.lock, self.db.transaction():
            gone = self.db.execute("DELETE FROM visir_items WHERE id = ANY(%s)", [list(ids)])
            if gone.rowcount:
                self.db.execute("SELECT nextval('visir_changes')")
        return gone.rowcount

    def select(self, where: Filter, limit: int | None = None, after: int = 0) -> list[Stored]:
        """As `Store.select`."""
        part, values = _condition(where)
        with self.lock:
            rows = self.db.execute(
                f"SELECT {_FIELDS} FROM visir_items WHERE id > %s AND {part} ORDER BY id LIMIT %s",
                [after, *values, limit],
            ).fetchall()
        return [_stored(row) for row in rows]

    def get(self, ids: Sequence[int]) -> dict[int, Stored]:
        """As `Store.get`."""
        with self.lock:
            rows = self.db.execute(
                f"SELECT {_FIELDS} FROM visir_items WHERE id = ANY(%s)", [list(ids)]
            ).fetchall()
        return {row[0]: _stored(row) for row in rows}

    def known(self, sources: Sequence[str]) -> dict[str, int]:
        """As `Store.known`."""
        with self.lock:
            rows = self.db.execute(
                "SELECT source, id FROM visir_items WHERE source = ANY(%s)", [list(sources)]
            ).fetchall()
        return {source: int(item) for source, item in rows}

    def below(self, folder: str) -> dict[str, int]:
        """As `Store.below`."""
        with self.lock:
            rows = self.db.execute(
                "SELECT source, id FROM visir_items WHERE starts_with(source, %s) "
                "OR starts_with(source, %s)",
                [f"{folder}/", f"{folder}::"],
            ).fetchall()
        return {source: int(item) for source, item in rows}

    def marks(self, ids: Sequence[int]) -> dict[int, str]:
        """As `Store.marks`."""
        with self.lock:
            rows = self.db.execute(
                "SELECT id, mark FROM visir_items WHERE id = ANY(%s) AND mark IS NOT NULL",
                [list(ids)],
            ).fetchall()
        return dict(rows)

    def vectors(self, ids: Sequence[int]) -> FloatArray:
        """As `Store.vectors`."""
        model = self.model()
        with self.lock:
            rows = self.db.execute(
                "SELECT id, vector::real[] FROM visir_items WHERE id = ANY(%s)", [list(ids)]
            ).fetchall()
        kept: dict[int, list[float]] = dict(rows)
        found = np.zeros((len(ids), model.width if model else 0), np.float32)
        for row, item in enumerate(ids):
            if item in kept:
                found[row] = kept[item]
        return found

    def thumbnail(self, item: int) -> bytes | None:
        """As `Store.thumbnail`."""
        with self.lock:
            row = self.db.execute(
                "SELECT thumbnail FROM visir_items WHERE id = %s", [item]
            ).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def nearest(
        self, query_D: FloatArray, k: int, where: Filter = EVERYTHING, mode: Mode = "auto"
    ) -> Nearest:
        """As `Store.nearest`."""
        model = self.model()
        if model is None:
            return NOTHING_NEAR
        indexed = self._indexed(model) and mode != "exact" and self.count(where) > SMALL_PART
        part, values = _condition(where)
        query, width = _text(np.asarray(query_D, np.float32)), model.width
        with self.lock, self.db.transaction():
            if indexed:
                self.db.execute("SET LOCAL hnsw.iterative_scan = strict_order")
                self.db.execute(
                    f"SET LOCAL hnsw.ef_search = {min(1000, max(100, _OVERSAMPLE * k))}"
                )
                likely: LiteralString = (
                    f"SELECT id, vector FROM visir_items WHERE {part} ORDER BY "
                    f"(vector::halfvec({int(width)})) <#> %s::halfvec({int(width)}) LIMIT %s"
                )
                rows = self.db.execute(
                    f"SELECT id, -(vector <#> %s::vector) AS score FROM ({likely}) AS likely "
                    "ORDER BY score DESC, id LIMIT %s",
                    [query, *values, query, _OVERSAMPLE * k, k],
                ).fetchall()
            else:
                self.db.execute("SET LOCAL enable_indexscan = off")
                rows = self.db.execute(
                    f"SELECT id, -(vector <#> %s::vector) AS score FROM visir_items WHERE {part} "
                    "ORDER BY score DESC, id LIMIT %s",
                    [query, *values, k],
                ).fetchall()
        ids, scores = zip(*rows, strict=True) if rows else ((), ())
        return Nearest(np.array(ids, np.int64), np.array(scores, np.float32))

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        part, values = _condition(where)
        with self.lock:
            row = self.db.execute(
                f"SELECT count(*) FROM visir_items WHERE {part}", values
            ).fetchone()
        return int(row[0]) if row else 0

    def keep_ranges(self, ranges: Ranges) -> None:
        """As `Store.keep_ranges`."""
        with self.lock:
            self._set("ranges", json.dumps(as_json(ranges)))

    def keep_for(self, days: float | None) -> None:
        """As `Store.keep_for`."""
        with self.lock:
            self._set("retention", json.dumps(days))

    def settle(self) -> None:
        """As `Store.settle`: makes the index once there are enough images for one."""
        model = self.model()
        if model is None or model.width > MAX_INDEXED_WIDTH or self._indexed(model):
            return
        if self.count() > SMALL_PART:
            width = int(model.width)
            with self.lock:
                self.db.execute(
                    "CREATE INDEX IF NOT EXISTS visir_nearest ON visir_items USING hnsw "
                    f"((vector::halfvec({width})) halfvec_ip_ops)"
                )
                self.db.execute("ANALYZE visir_items")

    def version(self) -> int:
        """As `Store.version`."""
        with self.lock:
            row = self.db.execute(
                "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM visir_changes"
            ).fetchone()
        return int(row[0]) if row else 0

    def stats(self) -> Stats:
        """As `Store.stats`."""
        with self.lock:
            cameras = self.db.execute(
                "SELECT camera, count(*) FROM visir_items GROUP BY camera ORDER BY camera"
            ).fetchall()
            kinds: dict[str, int] = dict(
                self.db.execute("SELECT modality, count(*) FROM visir_items GROUP BY modality")
            )
            first, last, size = self.db.execute(
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
        with self.lock:
            self.db.close()

    def _insert(
        self, entries: Sequence[Entry], vectors_ND: FloatArray, now: float
    ) -> dict[str, int]:
        """Copy images in: the ids of the sources that are new."""
        self.db.execute(
            "CREATE TEMP TABLE incoming (place int, source text, camera text, modality text, "
            "time double precision, tags text[], added double precision, vector vector, "
            "thumbnail bytea, mark text) ON COMMIT DROP"
        )
        with self.db.cursor() as cursor, cursor.copy("COPY incoming FROM STDIN") as copy:
            for place, (e, vector) in enumerate(zip(entries, vectors_ND, strict=True)):
                tags = list(dict.fromkeys(e.tags))
                copy.write_row(
                    (place, e.source, e.camera, e.modality.value, e.time, tags, now, _text(vector),
                     e.thumbnail, e.mark)
                )  # fmt: skip
        rows = self.db.execute(
            "INSERT INTO visir_items (source, camera, modality, time, tags, added, vector, "
            "thumbnail, mark) SELECT source, camera, modality, time, tags, added, vector, "
            "thumbnail, mark FROM incoming ORDER BY place ON CONFLICT (source) DO NOTHING "
            "RETURNING source, id"
        )
        return {source: int(item) for source, item in rows}

    def _indexed(self, model: ModelId) -> bool:
        if model.width > MAX_INDEXED_WIDTH:
            return False
        with self.lock:
            row = self.db.execute("SELECT to_regclass('visir_nearest')").fetchone()
        return row is not None and row[0] is not None

    def setting(self, key: str) -> str | None:
        """As `Store.setting`."""
        with self.lock:
            row = self.db.execute("SELECT value FROM visir_meta WHERE key = %s", [key]).fetchone()
        return None if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        self.db.execute(
            "INSERT INTO visir_meta VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET "
            "value = excluded.value",
            [key, value],
        )


def _condition(where: Filter) -> tuple[LiteralString, list[Any]]:
    """An SQL condition on items, and its values."""
    asked: list[tuple[LiteralString, Any]] = [
        ("camera = ANY(%s)", list(where.cameras) or None),
        ("modality = %s", None if where.modality is None else where.modality.value),
        ("time >= %s", where.since),
        ("time <= %s", where.until),
        ("coalesce(time, added) < %s", where.before),
        ("tags @> %s", list(where.tags) or None),
    ]
    held = [(test, value) for test, value in asked if value is not None]
    return " AND ".join(["true", *(test for test, _ in held)]), [value for _, value in held]


def _stored(row: Sequence[Any]) -> Stored:
    item, source, camera, modality, moment, tags, added = row
    return Stored(
        item,
        source,
        camera=camera,
        modality=Modality(modality),
        time=moment,
        tags=tuple(tags),
        added=added,
    )


def _text(vector_D: FloatArray) -> str:
    """A vector as pgvector reads it, exactly."""
    return f"[{','.join(map(repr, vector_D.tolist()))}]"
