"""A gallery in a folder: SQLite holds the images, memory-mapped arrays beside it make search fast.

The arrays (`visir.gallery.scan`) are derived from the database and are rebuilt if they are missing
or damaged.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from visir.core.types import BoolArray, FloatArray, InputError, IntArray, Modality
from visir.data.ranges import Ranges, as_json
from visir.gallery.scan.matrix import DEAD, KIND, Rows, Scan
from visir.gallery.sqlite_tables import MARKS, OF_ITEMS, SCHEMA, SELECT, condition, insert, stored
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

DATABASE = "gallery.sqlite"
# Up to so many rows "auto" compares with every one: about a fiftieth of a second on two cores.
EXACT_UP_TO = 2_000_000
LIKELY = 32  # rows that "approx" reads, as a multiple of the square root of their number
_CHUNK = 16_384


class SqliteStore(Store):
    """A gallery folder, open. Several threads and processes may use it at once.

    Args:
        folder: the gallery's folder.
        create: make it if it does not exist.

    Raises:
        InputError: there is no gallery, or its file is damaged or of another version.
    """

    folder: Path

    def __init__(self, folder: Path, create: bool = False) -> None:
        self.folder, self.name = folder, str(folder)
        self.lock = threading.RLock()
        file = folder / DATABASE
        if not file.is_file() and not create:
            raise InputError(f"{folder}: holds no gallery; make one with `visir index add`")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(
                file, timeout=60, check_same_thread=False, isolation_level=None
            )
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise InputError(
                f"{file}: cannot be opened as a gallery ({error}); restore the file from a "
                "backup, or make a new gallery"
            ) from error
        self.scan: Scan | None = None
        self.seen = -1

    def _prepare(self) -> None:
        self.db.execute("PRAGMA page_size = 16384")
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("PRAGMA secure_delete = ON")  # deleted rows are overwritten
        with self._changing():
            known = self.db.execute("SELECT name FROM sqlite_master WHERE name = 'meta'").fetchone()
            if known is None:
                for statement in filter(str.strip, SCHEMA.split(";")):
                    self.db.execute(statement)
                self._set("format", FORMAT)
                self._set("version", "0")
            self.db.execute(MARKS)  # galleries made before it have none
        require_format(self.setting("format"), self.name)

    def add(
        self, model: ModelId, entries: Sequence[Entry], vectors_ND: FloatArray
    ) -> list[int | None]:
        """As `Store.add`."""
        vectors_ND = require_unit_rows(vectors_ND, len(entries), model.width, self.name)
        with self.lock, self._changing():
            require_same_model(self.model(), model, self.name)
            if self.model() is None:
                self._set("model", json.dumps(model._asdict()))
            last = self.db.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = 'items'")
            following = (last.fetchone()[0] or 0) + 1
            ids: list[int | None] = []
            taken = {*self.known([entry.source for entry in entries])}
            for entry in entries:
                new = entry.source not in taken
                taken.add(entry.source)
                ids.append(following if new else None)
                if new:
                    following += 1
            kept = [(row, found) for row, found in enumerate(ids) if found is not None]
            if kept:
                insert(self.db, [item for _, item in kept], [entries[row] for row, _ in kept])
                blobs = ((item, vectors_ND[row].tobytes()) for row, item in kept)
                self.db.executemany("INSERT INTO vectors VALUES (?, ?)", blobs)
                self._changed()
        return ids

    def remove(self, ids: Sequence[int]) -> int:
        """As `Store.remove`."""
        with self.lock, self._changing():
            there = [item for item in dict.fromkeys(ids) if item in self.get([item])]
            gone = [(item,) for item in there]
            for table in OF_ITEMS:
                self.db.executemany(f"DELETE FROM {table} WHERE id = ?", gone)
            self.db.executemany("INSERT INTO removed (id) VALUES (?)", gone)
            if gone:
                self._changed()
        self._wipe()
        return len(there)

    def select(self, where: Filter, limit: int | None = None, after: int = 0) -> list[Stored]:
        """As `Store.select`."""
        part, values = condition(where)
        with self.lock:
            rows = self.db.execute(
                f"{SELECT} WHERE items.id > ? AND {part} ORDER BY items.id LIMIT ?",
                [after, *values, -1 if limit is None else limit],
            ).fetchall()
        return [stored(row) for row in rows]

    def get(self, ids: Sequence[int]) -> dict[int, Stored]:
        """As `Store.get`."""
        with self.lock:
            rows = [
                self.db.execute(f"{SELECT} WHERE items.id = ?", [int(item)]).fetchone()
                for item in ids
            ]
        return {row[0]: stored(row) for row in rows if row is not None}

    def known(self, sources: Sequence[str]) -> dict[str, int]:
        """As `Store.known`."""
        found: dict[str, int] = {}
        for start in range(0, len(sources), 500):
            part = sources[start : start + 500]
            marks = ", ".join("?" * len(part))
            with self.lock:
                rows = self.db.execute(
                    f"SELECT source, id FROM items WHERE source IN ({marks})", part
                )
                found.update(rows.fetchall())
        return found

    def below(self, folder: str) -> dict[str, int]:
        """As `Store.below`."""
        found: dict[str, int] = {}
        for first in (f"{folder}/", f"{folder}::"):
            after = first[:-1] + chr(ord(first[-1]) + 1)
            with self.lock:
                found.update(
                    self.db.execute(
                        "SELECT source, id FROM items WHERE source >= ? AND source < ?",
                        [first, after],
                    ).fetchall()
                )
        return found

    def marks(self, ids: Sequence[int]) -> dict[int, str]:
        """As `Store.marks`."""
        with self.lock:
            rows = [
                self.db.execute("SELECT id, mark FROM marks WHERE id = ?", [int(item)]).fetchone()
                for item in ids
            ]
        return dict(row for row in rows if row is not None)

    def vectors(self, ids: Sequence[int] | IntArray) -> FloatArray:
        """As `Store.vectors`."""
        model = self.model()
        found = np.zeros((len(ids), model.width if model else 0), np.float32)
        with self.lock:
            for row, item in enumerate(ids):
                kept = self.db.execute("SELECT vector FROM vectors WHERE id = ?", [int(item)])
                blob = kept.fetchone()
                if blob is not None:
                    found[row] = np.frombuffer(blob[0], np.float32)
        return found

    def thumbnail(self, item: int) -> bytes | None:
        """As `Store.thumbnail`."""
        with self.lock:
            kept = self.db.execute("SELECT jpeg FROM thumbnails WHERE id = ?", [item]).fetchone()
        return None if kept is None else bytes(kept[0])

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        part, values = condition(where)
        with self.lock:
            query = f"SELECT count(*) FROM items WHERE {part}"
            return int(self.db.execute(query, values).fetchone()[0])

    def nearest(
        self, query_D: FloatArray, k: int, where: Filter = EVERYTHING, mode: Mode = "auto"
    ) -> Nearest:
        """As `Store.nearest`."""
        query_D = np.ascontiguousarray(query_D, np.float32)
        with self.lock:
            scan = self._scanned()
            if scan is None:
                return NOTHING_NEAR
            rows = self._rows(scan, query_D, k, where, mode)
            ids, _ = scan.best(query_D, k, rows)
            scores = self.vectors(ids).astype(np.float64) @ query_D.astype(np.float64)
        order = np.lexsort((ids, -scores))[:k]
        return Nearest(ids[order], scores[order].astype(np.float32))

    def keep_ranges(self, ranges: Ranges) -> None:
        """As `Store.keep_ranges`."""
        with self.lock, self._changing():
            self._set("ranges", json.dumps(as_json(ranges)))

    def keep_for(self, days: float | None) -> None:
        """As `Store.keep_for`."""
        with self.lock, self._changing():
            self._set("retention", json.dumps(days))

    def settle(self) -> None:
        """As `Store.settle`."""
        with self.lock:
            scan = self._scanned()
            if scan is not None and scan.needs_sorting():
                with scan.changing():
                    scan.settle()

    def version(self) -> int:
        """As `Store.version`."""
        return int(self.setting("version") or 0)

    def stats(self) -> Stats:
        """As `Store.stats`."""
        with self.lock:
            cameras = self.db.execute(
                "SELECT name, count(*) FROM items JOIN cameras ON cameras.id = camera "
                "GROUP BY name ORDER BY name"
            ).fetchall()
            kinds = self.db.execute("SELECT modality, count(*) FROM items GROUP BY modality")
            modalities = dict(kinds.fetchall())
            span = self.db.execute("SELECT min(time), max(time) FROM items").fetchone()
        files = (file for file in self.folder.rglob("*") if file.is_file())
        return Stats(
            images=sum(modalities.values()),
            by_camera=dict(cameras),
            by_modality=modalities,
            earliest=span[0],
            latest=span[1],
            bytes_on_disk=sum(file.stat().st_size for file in files),
            version=self.version(),
            retention=self.retention(),
            engine="SQLite and a scanned matrix",
        )

    def close(self) -> None:
        """As `Store.close`."""
        with self.lock:
            self.db.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction: all or nothing, on disk when it ends."""
        with self.lock:
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.db.execute("ROLLBACK")
                raise
            self.db.execute("COMMIT")

    def _rows(self, scan: Scan, query_D: FloatArray, k: int, where: Filter, mode: Mode) -> IntArray:
        """The rows to compare with: the whole part, or the likely ones of it."""
        kind = None if where.modality is None else KIND[where.modality]
        wanted = self._wanted(scan, where)
        many = int(np.count_nonzero(wanted))
        if mode == "exact" or scan.cells is None or (mode == "auto" and many <= EXACT_UP_TO):
            return np.flatnonzero(wanted)
        enough = max(200 * k, LIKELY * int(len(wanted) ** 0.5))
        if many <= 8 * enough:  # a narrow part is read whole in less time
            return np.flatnonzero(wanted)
        share = many / max(len(wanted) - scan.state["dead"], 1)
        assert scan.basis is not None  # cells come with it
        rows = scan.cells.likely(query_D @ scan.basis, kind, int(enough / share))
        late = np.arange(scan.state["sorted"], scan.state["rows"])
        rows = np.concatenate([rows, late])
        return rows[wanted[rows]]

    def _wanted(self, scan: Scan, where: Filter) -> BoolArray:
        """(N,) which rows exist and belong to the part."""
        columns = scan.columns
        if where.modality is None:
            wanted = columns["kinds"] != DEAD
        else:
            wanted = columns["kinds"] == KIND[where.modality]
        if where.cameras:
            names = ", ".join("?" * len(where.cameras))
            query = f"SELECT id FROM cameras WHERE name IN ({names})"
            numbers = [row[0] for row in self.db.execute(query, where.cameras)]
            wanted &= np.isin(columns["cameras"], numbers)
        if where.since is not None:
            wanted &= columns["times"] >= where.since  # NaN is not
        if where.until is not None:
            wanted &= columns["times"] <= where.until
        if where.tags or where.before is not None:
            part, values = condition(Filter(tags=where.tags, before=where.before))
            query = f"SELECT items.id FROM items WHERE {part}"
            ids = np.array([row[0] for row in self.db.execute(query, values)], np.int64)
            wanted &= np.isin(columns["ids"], ids)
        return np.asarray(wanted, np.bool_)

    def _scanned(self) -> Scan | None:
        """The scan, brought up to date; None while the gallery is empty and new."""
        model = self.model()
        if model is None:
            return None
        if self.scan is None:
            self.scan = self._opened(model.width)
        now = self.version()
        if now != self.seen:
            with self.scan.changing():
                self._catch_up(self.scan)
            self.seen = now
        return self.scan

    def _opened(self, width: int) -> Scan:
        folder = self.folder / "scan"
        try:
            scan = Scan(folder, width)
        except (OSError, ValueError, KeyError):  # damaged; it is rebuilt from the database
            shutil.rmtree(folder)
            scan = Scan(folder, width)
        return scan

    def _catch_up(self, scan: Scan) -> None:
        gone = self.db.execute(
            "SELECT seq, id FROM removed WHERE seq > ? ORDER BY seq", [scan.state["removed"]]
        ).fetchall()
        if gone:
            scan.drop(np.array([item for _, item in gone], np.int64), gone[-1][0])
        added = self.db.execute(
            "SELECT items.id, time, camera, modality, vector FROM items JOIN vectors USING (id) "
            "WHERE items.id > ? ORDER BY items.id",
            [scan.state["last"]],
        )
        while rows := added.fetchmany(_CHUNK):
            ids, times, cameras, modalities, blobs = zip(*rows, strict=True)
            vectors = np.frombuffer(b"".join(blobs), np.float32).reshape(len(ids), -1)
            scan.append(
                Rows(
                    np.array(ids),
                    np.array(times, np.float64),
                    np.array(cameras, np.int32),
                    np.array([KIND[Modality(name)] for name in modalities], np.int8),
                    vectors,
                )
            )

    def _wipe(self) -> None:
        """Overwrite removed images in the scan and in the journal too."""
        with self.lock:
            self._scanned()
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _changed(self) -> None:
        self._set("version", str(self.version() + 1))

    def setting(self, key: str) -> str | None:
        """As `Store.setting`."""
        with self.lock:
            row = self.db.execute("SELECT value FROM meta WHERE key = ?", [key]).fetchone()
        return None if row is None else str(row[0])

    def _set(self, key: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value])
