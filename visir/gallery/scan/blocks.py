"""An array in a file, read into memory block by block when it is needed, and checked as it is read.

Nothing is mapped: a process whose mapped file is cut short by another one is ended by the operating
system. The file stays open, so that it can be read while another process replaces it.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visir.core.types import IntArray
from visir.gallery.scan.kernels import digests

BLOCK = 1 << 18
"""Bytes that have one checksum, at most."""
# An eighth of the machine's memory: what one array keeps of its file.
KEPT = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8


class DamagedError(Exception):
    """A file of a scan is missing, short, or does not have its checksum; says which and what."""


class Blocks:
    """Rows of one array.

    Attributes:
        rows: how many.
        sums: (B,) checksums of its blocks.
    """

    def __init__(self, file: Path, kind: npt.DTypeLike, tail: tuple[int, ...] = ()) -> None:
        self.file, self._kind, self._tail = file, np.dtype(kind), tail
        self._size = self._kind.itemsize * int(np.prod(tail))
        self._step = max(1, BLOCK // max(self._size, 1))  # rows of a block
        self._handle: int | None = None
        self.rows = 0
        self.sums = np.empty(0, np.uint64)
        self._there = np.zeros(0, np.bool_)  # blocks that are in memory
        self._values = np.empty((0, *tail), self._kind)

    @property
    def values(self) -> npt.NDArray[Any]:
        """(rows, ...) of which the loaded blocks can be used."""
        return self._values[: self.rows]

    def expect(self, rows: int, sums: npt.NDArray[np.uint64]) -> None:
        """Say what the file holds; blocks with another checksum than before are read again."""
        count = -(-rows // self._step)
        same = np.zeros(count, np.bool_)
        both = min(count, len(self.sums))
        same[:both] = self._there[:both] & (self.sums[:both] == sums[:both])
        if rows != self.rows:
            same[min(rows, self.rows) // self._step :] = False  # a block that has become longer
        self._room(rows)
        self.rows, self.sums, self._there = rows, sums.copy(), same

    def load(self, rows_M: IntArray | None = None) -> None:
        """Have rows in memory.

        Args:
            rows_M: (M,) which; all if omitted.

        Raises:
            DamagedError: the file is not what it was when it was written.
        """
        if self._there.all():
            return
        wanted = np.ones(len(self.sums), np.bool_)
        if rows_M is not None:
            wanted[:] = False
            wanted[rows_M // self._step] = True
        blocks = np.flatnonzero(wanted & ~self._there)
        for run in np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1):
            if len(run):
                self._read(int(run[0]), int(run[-1]) + 1)

    def take(self, rows_M: IntArray) -> npt.NDArray[Any]:
        """(M, ...) copies of rows that were loaded before, if only for a time."""
        if self._there[rows_M // self._step].all():
            return np.asarray(self._values[rows_M])
        out = np.empty((len(rows_M), *self._tail), self._kind)
        handle = self._opened()
        for place, row in zip(out, rows_M.tolist(), strict=True):
            if os.preadv(handle, [place.reshape(-1).view(np.uint8)], row * self._size) < self._size:
                raise DamagedError(f"{self.file.name} was cut short")
        return out

    def append(self, new: npt.NDArray[Any], keep: bool) -> None:
        """Add rows behind the others; in memory only unless `keep`."""
        first = self.rows // self._step
        if self.rows % self._step:
            self.load(np.array([self.rows - 1]))
        new = np.ascontiguousarray(new, self._kind)
        if keep:
            self._write(new, self.rows)
        self._room(self.rows + len(new))
        self._values[self.rows : self.rows + len(new)] = new
        self.rows += len(new)
        fresh = digests(self.values[first * self._step :], self._step)
        self.sums = np.concatenate([self.sums[:first], fresh])
        self._there = np.concatenate([self._there[:first], np.ones(len(fresh), np.bool_)])

    def erase(self, rows_M: IntArray, keep: bool) -> None:
        """Set rows to zeros; in memory only unless `keep`."""
        self.load(rows_M)
        self._values[rows_M] = 0
        for block in self.blocks(rows_M):
            part = self.values[block * self._step : (block + 1) * self._step]
            self.sums[block] = digests(part, self._step)[0]
            if keep:
                self._write(part, block * self._step)

    def blocks(self, rows_M: IntArray) -> list[int]:
        """The blocks that rows are in."""
        found: list[int] = np.unique(rows_M // self._step).tolist()
        return found

    def believe(self, blocks: list[int]) -> None:
        """Take blocks as they are: a process was killed while it erased rows of them."""
        for block in blocks:
            self.sums[block] = digests(self._bytes(block, block + 1), self._step)[0]
            self._there[block] = False

    def trim(self) -> None:
        """Cut off what a killed process wrote behind the last row."""
        if self.file.stat().st_size > self.rows * self._size:
            os.truncate(self.file, self.rows * self._size)

    def forget(self) -> None:
        """Free the memory of an array that has more than `KEPT` bytes of it."""
        if int(self._there.sum()) * self._step * self._size > KEPT:
            self._values = np.empty_like(self._values)
            self._there[:] = False

    def _read(self, first: int, end: int) -> None:
        part = self._bytes(first, end)
        if (digests(part, self._step) != self.sums[first:end]).any():
            raise DamagedError(f"{self.file.name} does not have its checksum")
        self._there[first:end] = True

    def _bytes(self, first: int, end: int) -> npt.NDArray[Any]:
        """Blocks, read to their place in memory."""
        part = self.values[first * self._step : end * self._step]
        raw = part.reshape(-1).view(np.uint8).data
        handle, done = self._opened(), 0
        while done < len(raw):
            got = os.preadv(handle, [raw[done:]], first * self._step * self._size + done)
            if not got:
                raise DamagedError(f"{self.file.name} was cut short")
            done += got
        return part

    def _opened(self) -> int:
        """The file, open until nobody uses this array any more."""
        if self._handle is None:
            try:
                self._handle = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise DamagedError(f"{self.file.name}: {error.strerror or error}") from error
            weakref.finalize(self, os.close, self._handle)
        return self._handle

    def _room(self, rows: int) -> None:
        """Make room for rows; memory that nothing was written to costs nothing."""
        if rows <= len(self._values):
            return
        grown = np.empty((rows + rows // 4, *self._tail), self._kind)
        for block in np.flatnonzero(self._there).tolist():
            part = slice(block * self._step, min((block + 1) * self._step, self.rows))
            grown[part] = self._values[part]
        self._values = grown

    def _write(self, values: npt.NDArray[Any], row: int) -> None:
        with self.file.open("r+b" if self.file.exists() else "w+b") as handle:
            handle.seek(row * self._size)
            handle.write(values.reshape(-1).view(np.uint8).data)
            handle.flush()
            os.fsync(handle.fileno())  # before the state says that it counts
