"""A gallery in a folder: SQLite holds the images, arrays beside it make search fast.

The arrays (`visir.gallery.scan`) are derived from the database and are rebuilt if they are missing,
damaged, or of another state of the database.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from visir.core.types import FloatArray, InputError, IntArray
from visir.data.ranges import Ranges, as_json
from visir.gallery.id_list import in_steps
from visir.gallery.scan.matrix import Scan
from visir.gallery.sqlite_file import Database
from visir.gallery.sqlite_scan import LARGE, SqliteScan, vectors
from visir.gallery.sqlite_tables import (
    ADDED,
    OF_ITEMS,
    SCHEMA,
    SELECT,
    condition,
    insert,
    mark,
    note_change,
    put,
    setting,
    stamp,
    stored,
    version,
)
from visir.gallery.store import (
    EVERYTHING,
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

DATABASE = "gallery.sqlite"
UNWIPED = "unwiped"
"""The setting that says that a removal is not finished: removed images may be in files still."""
T = TypeVar("T")


class UnfinishedWarning(UserWarning):
    """Removed images could not be overwritten in every file yet."""


class SqliteStore(Store):
    """A gallery folder, open. Several threads and processes may use it at once.

    Args:
        folder: the gallery's folder.
        create: make it if it does not exist.
        writable: False to search and list only; the folder may then be one that cannot be written.
        large: images beyond which the scan keeps codes, and vectors are read from the database.

    Raises:
        InputError: there is no gallery, or its file is damaged or of another version.
    """

    folder: Path

    def __init__(
        self, folder: Path, create: bool = False, writable: bool = True, large: int = LARGE
    ) -> None:
        self.folder, self.name = folder, str(folder)
        file = folder / DATABASE
        if not file.exists() and not create:
            raise InputError(f"{folder}: holds no gallery; make one with `visir index add`")
        self.db = Database(file, SCHEMA + ADDED if create else None, writable)
        self.lock = self.db.lock
        require_format(self.setting("format"), self.name)
        if not writable and self._unfinished() and os.access(file, os.W_OK):
            self.db.close()
            self.db = Database(file, None)
        self._kept = SqliteScan(self.db, folder / "scan", large)
        if self.db.writable:
            self._prepare()

    @property
    def scan(self) -> Scan | None:
        """The scan as it was last used."""
        return self._kept.scan

    def _unfinished(self) -> bool:
        """Whether it was made by a former version, or a removal in it is not finished."""
        tables = self.db.run(
            "SELECT count(*) FROM sqlite_master WHERE name IN ('marks', 'changes')"
        )
        if tables[0][0] < 2 or self.setting(UNWIPED) is not None:
            return True
        return self.version() > 0 and not mark(self.db).stamp

    def _prepare(self) -> None:
        if not self._unfinished():
            return
        with self.db.changing():
            for statement in filter(str.strip, ADDED.split(";")):
                self.db.run(statement)
            if self.version() and not mark(self.db).stamp:
                stamp(self.db)
        self._finish()

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
        with self.db.changing():
            require_same_model(self.model(), model, self.name)
            gone = self._delete(replaced)
            if self.model() is None:
                put(self.db, "model", json.dumps(model._asdict()))
            last = self.db.run("SELECT max(seq) FROM sqlite_sequence WHERE name = 'items'")
            following = (last[0][0] or 0) + 1
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
                self.db.run_many("INSERT INTO vectors VALUES (?, ?)", blobs)
                note_change(self.db)
        if gone:
            self._wipe()
        self.db.flush()
        return ids

    def remove(self, ids: Iterable[int]) -> int:
        """As `Store.remove`; what was removed is overwritten after the last step."""
        gone = 0
        for some in in_steps(ids):
            with self.db.changing():
                gone += self._delete(some)
        with self.lock:
            if gone or self.setting(UNWIPED) is not None:
                self._wipe()
        return gone

    def _delete(self, ids: Sequence[int]) -> int:
        """Delete rows, inside a transaction: how many images there were."""
        wanted = list(dict.fromkeys(map(int, ids)))
        gone = self.db.run_for("SELECT id FROM items WHERE id IN", wanted)
        for table in OF_ITEMS:
            self.db.run_many(f"DELETE FROM {table} WHERE id = ?", gone)
        self.db.run_many("INSERT INTO removed (id) VALUES (?)", gone)
        if gone:
            note_change(self.db)
            put(self.db, UNWIPED, "1")
        return len(gone)

    def select(self, where: Filter, limit: int | None = None, after: int = 0) -> list[Stored]:
        """As `Store.select`."""
        part, values = condition(where)
        rows = self.db.run(
            f"{SELECT} WHERE items.id > ? AND {part} ORDER BY items.id LIMIT ?",
            [after, *values, -1 if limit is None else limit],
        )
        return [stored(row) for row in rows]

    def get(self, ids: Sequence[int]) -> dict[int, Stored]:
        """As `Store.get`."""
        rows = self.db.run_for(f"{SELECT} WHERE items.id IN", [int(item) for item in ids])
        return {row[0]: stored(row) for row in rows}

    def known(self, sources: Sequence[str]) -> dict[str, int]:
        """As `Store.known`."""
        return dict(self.db.run_for("SELECT source, id FROM items WHERE source IN", sources))

    def below(self, folder: str) -> dict[str, int]:
        """As `Store.below`."""
        found: dict[str, int] = {}
        for first in (f"{folder}/", f"{folder}::"):
            after = first[:-1] + chr(ord(first[-1]) + 1)
            query = "SELECT source, id FROM items WHERE source >= ? AND source < ?"
            found.update(self.db.run(query, [first, after]))
        return found

    def marks(self, ids: Sequence[int]) -> dict[int, str]:
        """As `Store.marks`."""
        query = "SELECT id, mark FROM marks WHERE id IN"
        return dict(self.db.run_for(query, [int(item) for item in ids]))

    def vectors(self, ids: Sequence[int] | IntArray) -> FloatArray:
        """As `Store.vectors`."""
        model = self.model()
        return vectors(self.db, model.width if model else 0, ids)

    def thumbnail(self, item: int) -> bytes | None:
        """As `Store.thumbnail`."""
        kept = self.db.run("SELECT jpeg FROM thumbnails WHERE id = ?", [item])
        return bytes(kept[0][0]) if kept else None

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        part, values = condition(where)
        return int(self.db.run(f"SELECT count(*) FROM items WHERE {part}", values)[0][0])

    def nearest(
        self, query_D: FloatArray, k: int, where: Filter = EVERYTHING, mode: Mode = "auto"
    ) -> Nearest:
        """As `Store.nearest`."""
        require_look(k, mode)
        query_D = np.ascontiguousarray(query_D, np.float32)

        def look(scan: Scan) -> IntArray:
            return scan.best(query_D, k, self._kept.rows(scan, query_D, k, where, mode))[0]

        with self.lock:
            ids = self._with_scan(look)
            if ids is None:
                return NOTHING_NEAR
            scores = self.vectors(ids).astype(np.float64) @ query_D.astype(np.float64)
        order = np.lexsort((ids, -scores))[:k]
        return Nearest(ids[order], scores[order].astype(np.float32))

    def keep_ranges(self, ranges: Ranges) -> None:
        """As `Store.keep_ranges`."""
        with self.db.changing():
            put(self.db, "ranges", json.dumps(as_json(ranges)))

    def keep_for(self, days: float | None) -> None:
        """As `Store.keep_for`."""
        with self.db.changing():
            put(self.db, "retention", json.dumps(days))

    def settle(self) -> None:
        """As `Store.settle`."""

        def sort(scan: Scan) -> None:
            if scan.needs_sorting():
                with scan.changing(), suppress(OSError):  # it can be searched unsorted too
                    scan.settle()

        with self.lock:
            self._finish()
            self._with_scan(sort)

    def expire(self, now: float, sure: bool = False) -> int:
        """As `Store.expire`."""
        self._finish()
        return super().expire(now, sure)

    def version(self) -> int:
        """As `Store.version`."""
        return version(self.db)

    def stats(self) -> Stats:
        """As `Store.stats`."""
        with self.lock:
            cameras = self.db.run(
                "SELECT name, count(*) FROM items JOIN cameras ON cameras.id = camera "
                "GROUP BY name ORDER BY name"
            )
            modalities = dict(self.db.run("SELECT modality, count(*) FROM items GROUP BY modality"))
            (span,) = self.db.run("SELECT min(time), max(time) FROM items")
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
        with suppress(InputError):  # closed, or damaged, which was said before
            self._finish()
        self.db.close()

    def _with_scan(self, use: Callable[[Scan], T]) -> T | None:
        """As `SqliteScan.use`; None while the gallery is empty and new."""
        model = self.model()
        return None if model is None else self._kept.use(model.width, use)

    def _wipe(self) -> None:
        """Overwrite removed images in the scan and in the journal too; if it fails, say so."""
        with self.lock:
            self._kept.seen = -1  # even if it failed before
            scan = self._with_scan(lambda scan: scan)
            if (scan is None or scan.kept) and self.db.wipe():
                self.db.run("DELETE FROM meta WHERE key = ?", [UNWIPED])
                return
        warnings.warn(
            f"{self.name}: images were removed and are not found any more, but not all files could "
            "be overwritten, because another process reads them or the disk is full; the next "
            "`visir index add` or `remove` does it",
            UnfinishedWarning,
            stacklevel=3,
        )

    def _finish(self) -> None:
        if self.db.writable and self.setting(UNWIPED) is not None:
            self._wipe()

    def setting(self, key: str) -> str | None:
        """As `Store.setting`."""
        return setting(self.db, key)
