"""The scan beside a database: kept up to date with it, made anew where it is not of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

from visir.core.progress import bar
from visir.core.run import DamageWarning
from visir.core.types import BoolArray, FloatArray, InputError, IntArray, Modality
from visir.gallery.scan.blocks import DamagedError
from visir.gallery.scan.coarse import WIDEST
from visir.gallery.scan.leads import directions
from visir.gallery.scan.matrix import DEAD, KIND, SAMPLE, Rows, Scan
from visir.gallery.sqlite_file import Database
from visir.gallery.sqlite_tables import condition, has_seen, mark, version
from visir.gallery.store import Filter, Mode

# Up to so many rows "auto" compares with every one: about a fiftieth of a second on two cores.
EXACT_UP_TO = 2_000_000
LIKELY = 32  # rows that "approx" reads, as a multiple of the square root of their number
LARGE = 2_000_000
"""Images beyond which the scan keeps codes, and vectors are read from the database."""
LIKELY_CODES = 256  # as `LIKELY`, where codes are kept
_GROWN = 4  # times as many rows as the directions of codes were made for: they are made anew
_CHUNK = 16_384
_GONE = 1_000_000  # removed images that are erased at once
T = TypeVar("T")


class SqliteScan:
    """The scan beside a database.

    Args:
        db: the database.
        folder: the scan's folder.
        large: images beyond which codes are kept.

    Attributes:
        scan: as it was last used; None if it was not used yet.
        seen: the version of the database it was last compared with; -1 compares it again.
    """

    def __init__(self, db: Database, folder: Path, large: int = LARGE) -> None:
        self.db, self.folder, self.large = db, folder, large
        self.scan: Scan | None = None
        self.seen = -1

    def use(self, width: int, use: Callable[[Scan], T]) -> T:
        """What `use` makes of the scan, brought up to date, or made anew if it is damaged.

        Another process may change a file while it is read, so what seems damaged is read again
        first.

        Args:
            width: numbers in a vector.
            use: reads the scan.

        Raises:
            InputError: the database is damaged.
        """
        try:
            return use(self._scanned(width))
        except DamagedError:
            self.scan = None
        try:
            return use(self._scanned(width))
        except DamagedError as error:
            self.scan = None
            return use(self._scanned(width, f"is damaged ({error})"))

    def _scanned(self, width: int, reason: str | None = None) -> Scan:
        """The scan, brought up to date.

        Args:
            width: numbers in a vector.
            reason: why it has to be made anew.
        """
        now = version(self.db)
        if self.scan is not None and now == self.seen and reason is None:
            return self.scan
        scan = self.scan or Scan(self.folder, width, partial(vectors, self.db, width))
        if reason is None:
            with scan.changing():
                if has_seen(self.db, scan.mark) or not scan.state["rows"]:
                    self._catch_up(scan)
                else:
                    reason = "is of another state of the database (which was restored or replaced)"
        if reason is not None:
            warnings.warn(
                f"{scan.folder}: {reason}; it is made anew from {self.db.file.name}",
                DamageWarning,
                stacklevel=5,
            )
            with scan.changing(anew=True):
                self._catch_up(scan)
        self.scan, self.seen = scan, now
        return scan

    def _catch_up(self, scan: Scan) -> None:
        """Erase what was removed, add what was added."""
        query = "SELECT seq, id FROM removed WHERE seq > ? ORDER BY seq LIMIT ?"
        while gone := self.db.run(query, [scan.state["removed"], _GONE]):
            scan.drop(np.array([item for _, item in gone]), gone[-1][0], mark(self.db))
        pending = self._pending(scan)
        if self._outgrown(scan, pending):
            pending += scan.state["rows"] - scan.state["dead"]
            scan.begin_coarse(self._directions(scan.width), pending)
        shown = bar(
            None, f"making {scan.folder}", pending, unit="images", show=pending > self.large // 4
        )
        with shown:
            self._append(scan, shown)

    def _append(self, scan: Scan, shown: tqdm[Any]) -> None:
        """Add what was added; each part is on disk before the next is read."""
        query = (
            "SELECT items.id, time, camera, modality, vector FROM items JOIN vectors USING (id) "
            "WHERE items.id > ? ORDER BY items.id LIMIT ?"
        )
        while rows := self.db.run(query, [scan.state["last"], _CHUNK]):
            ids, times, cameras, modalities, blobs = zip(*rows, strict=True)
            vectors = np.stack([vector(self.db, blob, scan.width) for blob in blobs])
            scan.append(
                Rows(
                    np.array(ids),
                    np.array(times, np.float64),
                    np.array(cameras, np.int32),
                    np.array([KIND[Modality(name)] for name in modalities], np.int8),
                    vectors,
                ),
                mark(self.db),  # read after the rows: they are of it or older
            )
            shown.update(len(ids))

    def _pending(self, scan: Scan) -> int:
        """How many images the scan does not have yet."""
        query = "SELECT count(*) FROM items WHERE id > ?"
        return int(self.db.run(query, [scan.state["last"]])[0][0])

    def _outgrown(self, scan: Scan, pending: int) -> bool:
        """Whether it is time for codes, or for codes along other directions."""
        rows = scan.state["rows"] - scan.state["dead"] + pending
        return bool(rows > (_GROWN * scan.state["coarse"] or self.large))

    def _directions(self, width: int) -> FloatArray:
        """(width, L) directions of leads, from images of the whole database."""
        first, last = self.db.run("SELECT min(id), max(id) FROM vectors")[0]
        drawn = np.random.default_rng(last).integers(first, last + 1, SAMPLE)
        query = "SELECT vector FROM vectors WHERE id >= ? ORDER BY id LIMIT 1"
        rows = [self.db.run(query, [item])[0][0] for item in np.unique(drawn).tolist()]
        basis = directions(np.stack([vector(self.db, blob, width) for blob in rows]))
        return np.ascontiguousarray(basis[:, :WIDEST])

    def rows(self, scan: Scan, query_D: FloatArray, k: int, where: Filter, mode: Mode) -> IntArray:
        """The rows to compare with: the whole part, or the likely ones of it."""
        kind = None if where.modality is None else KIND[where.modality]
        wanted = self._wanted(scan, where)
        many = int(np.count_nonzero(wanted))
        if mode == "exact" or scan.cells is None or (mode == "auto" and many <= EXACT_UP_TO):
            return np.flatnonzero(wanted)
        likely = LIKELY_CODES if scan.state["coarse"] else LIKELY
        enough = max(200 * k, likely * int(len(wanted) ** 0.5))
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
            numbers = [row[0] for row in self.db.run(query, where.cameras)]
            wanted &= np.isin(columns["cameras"], numbers)
        if where.since is not None:
            wanted &= columns["times"] >= where.since  # NaN is not
        if where.until is not None:
            wanted &= columns["times"] <= where.until
        queries = [("SELECT id FROM tags WHERE tag = ?", [tag]) for tag in where.tags]
        if where.before is not None:
            part, values = condition(Filter(before=where.before))
            queries.append((f"SELECT items.id FROM items WHERE {part}", values))
        for query, values in queries:
            ids = np.array([row[0] for row in self.db.run(query, values)], np.int64)
            wanted &= np.isin(columns["ids"], ids)
        return np.asarray(wanted, np.bool_)


def vectors(db: Database, width: int, ids: Sequence[int] | IntArray) -> FloatArray:
    """(len(ids), width) embeddings of images; zeros for one that is not there."""
    wanted = [int(item) for item in ids]
    kept = dict(db.run_for("SELECT id, vector FROM vectors WHERE id IN", wanted))
    found = np.zeros((len(wanted), width), np.float32)
    for row, item in enumerate(wanted):
        if item in kept:
            found[row] = vector(db, kept[item], width)
    return found


def vector(db: Database, blob: bytes, width: int) -> FloatArray:
    """(width,) an embedding as it is stored.

    Raises:
        InputError: it has another length.
    """
    if len(blob) != 4 * width:
        raise InputError(
            f"{db.file}: an embedding of {len(blob)} bytes, not {4 * width}, is in it; restore it "
            "from a backup"
        )
    return np.frombuffer(blob, np.float32)
