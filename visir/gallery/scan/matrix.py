"""The vectors of a gallery, laid out to be scanned: half precision, memory-mapped, rebuildable.

Every row is stored whole, and once more as its **lead**: its coordinates along the few directions
that hold most of the vectors' length. A query's cosine with a row is at most the product of their
leads plus the product of what the leads leave out of each (Cauchy and Schwarz). So the leads show
which rows can be among the best, and only those are read whole: the answer is exact, at the cost
of reading a fraction. The rows are sorted by cells of similar leads of one modality, so that an
approximate search can read only the likely cells.

All of it is derived from the gallery's database: if the folder is missing or damaged, it is
rebuilt.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.run import write_json
from visir.core.types import FloatArray, IntArray, Modality
from visir.gallery.scan.ivf import Cells, make_cells
from visir.gallery.scan.kernels import HalfArray, bounds
from visir.gallery.scan.leads import directions, leading

FORMAT = 1
DEAD = 0
KIND = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
COLUMNS = {"ids": np.int64, "times": np.float64, "cameras": np.int32, "kinds": np.int8}
BESIDE = {"full": np.float16, "lead": np.float16, "left": np.float32}
SMALL = 20_000  # with fewer rows leads do not pay
# Of a product of unit rows: 2^-11 by rounding to half precision, the rest by summing in float32.
ERROR = 6e-4
_BLOCK = 512
_CHUNK = 16_384
_SAMPLE = 16_384


class Rows(NamedTuple):
    """What is appended: ids, times (NaN where unknown), camera numbers, kinds, unit vectors."""

    ids: IntArray
    times: npt.NDArray[np.float64]
    cameras: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int8]
    vectors: FloatArray


class Scan:
    """A folder of memory-mapped arrays, and `state.json`, which says how much of them counts."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        self.state: dict[str, Any] = {}
        self.columns: dict[str, npt.NDArray[Any]] = {}
        self.reload()

    def reload(self) -> None:
        """Read what other processes have changed."""
        state = self._read_state()
        if state == self.state:
            return
        self.state = state
        self.columns = {name: self._mapped(name) for name in COLUMNS}
        self.full: HalfArray = self._mapped("full")
        self.basis: FloatArray | None = None
        self.cells: Cells | None = None
        self.whole = np.zeros(state["rows"], np.float32)  # a whole row leaves nothing out
        if state["lead"]:
            self.basis = np.load(self._file("basis.npy"))
            self.lead: HalfArray = self._mapped("lead")
            self.left: FloatArray = self._mapped("left")
            self.cells = Cells.load(self._file("cells.npz"))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Lock the folder, and read what other processes have changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.reload()
            yield

    def append(self, new: Rows) -> None:
        """Add rows behind the others; inside `changing`."""
        rows = self.state["rows"]
        for name, kind in COLUMNS.items():
            self._write(name, getattr(new, name).astype(kind), rows)
        self._write("full", new.vectors.astype(np.float16), rows)
        if self.basis is not None:
            for name, values in leading(new.vectors, self.basis).items():
                self._write(name, values, rows)
        self._commit(rows=rows + len(new.ids), last=int(new.ids[-1]))

    def drop(self, ids: IntArray, upto: int) -> None:
        """Erase rows; inside `changing`.

        Args:
            ids: of the images that were removed.
            upto: number of the last removal that is now done.
        """
        gone = np.flatnonzero(np.isin(self.columns["ids"], ids))
        if len(gone):
            for name in self._erasable():
                stored = self._mapped(name, "r+")
                stored[gone] = 0
                stored.base.flush()  # type: ignore[union-attr]
        self._commit(dead=self.state["dead"] + len(gone), removed=upto)

    def needs_sorting(self) -> bool:
        """Whether to sort it again: it has grown by half, or a third of it is removed."""
        rows, settled = self.state["rows"], self.state["sorted"]
        alive = rows - self.state["dead"]
        grown, emptied = rows - settled > settled / 2, self.state["dead"] > rows / 3
        return bool(alive >= SMALL and (grown or emptied))

    def settle(self) -> None:
        """Write all rows again, sorted by cells, without removed ones; inside `changing`."""
        alive = np.flatnonzero(self.columns["kinds"] != DEAD)
        rng = np.random.default_rng(self.state["generation"])
        sample = np.sort(rng.choice(alive, min(len(alive), _SAMPLE), replace=False))
        basis = directions(self.full[sample].astype(np.float32))
        parts = (self.full[alive[i : i + _CHUNK]] for i in range(0, len(alive), _CHUNK))
        lead = np.concatenate([(x.astype(np.float32) @ basis).astype(np.float16) for x in parts])
        order, cells = make_cells(lead, self.columns["kinds"][alive], rng)
        before, old = dict(self.state), {name: self.columns[name] for name in COLUMNS}
        full = self.full
        self.state = {**before, "generation": before["generation"] + 1, "lead": basis.shape[1]}
        np.save(self._file("basis.npy"), basis)
        cells.save(self._file("cells.npz"))
        for start in range(0, len(order), _CHUNK):
            taken = alive[order[start : start + _CHUNK]]
            for name in COLUMNS:
                self._write(name, old[name][taken], start)
            self._write("full", full[taken], start)
            for name, values in leading(full[taken].astype(np.float32), basis).items():
                self._write(name, values, start)
        self._commit(rows=len(order), sorted=len(order), dead=0)
        for stray in self.folder.glob(f"{before['generation']}.*"):
            stray.unlink()

    def best(self, query_D: FloatArray, k: int, rows_M: IntArray) -> tuple[IntArray, FloatArray]:
        """Ids of the rows that can be among the k best, k or more, with their products."""
        if self.basis is not None and len(rows_M) > 2 * k:
            low = query_D @ self.basis
            share = float(np.linalg.norm(query_D - self.basis @ low))
            most = bounds(self.lead, rows_M, low, self.left, share)
            first = rows_M[_promising(most, 2 * k)]
            scores = bounds(self.full, first, query_D, self.whole, 0)
            rows_M = rows_M[most >= np.sort(scores)[-k] - 2 * ERROR]
        scores = bounds(self.full, rows_M, query_D, self.whole, 0)
        if len(scores) > k:
            kept = scores >= np.partition(scores, -k)[-k] - 2 * ERROR
            rows_M, scores = rows_M[kept], scores[kept]
        return self.columns["ids"][rows_M], scores

    def _erasable(self) -> tuple[str, ...]:
        """The arrays in which a removed row is overwritten."""
        names = ("times", "cameras", "kinds", "full")
        return (*names, "lead") if self.state["lead"] else names

    def _file(self, name: str) -> Path:
        return self.folder / f"{self.state['generation']}.{name}"

    def _mapped(self, name: str, mode: Literal["r", "r+"] = "r") -> npt.NDArray[Any]:
        widths = {"full": (self.width,), "lead": (self.state["lead"],)}
        shape = (self.state["rows"], *widths.get(name, ()))
        kind = (COLUMNS | BESIDE)[name]
        if not shape[0]:
            return np.empty(shape, kind)
        return np.memmap(self._file(name), kind, mode, shape=shape)

    def _write(self, name: str, values: npt.NDArray[Any], start: int) -> None:
        """Write rows at their place; what a killed process left behind the end is overwritten."""
        file = self._file(name)
        with file.open("r+b" if file.exists() else "w+b") as handle:
            handle.seek(start * values[:1].nbytes)
            handle.write(np.ascontiguousarray(values).tobytes())
            handle.flush()
            os.fsync(handle.fileno())  # before the state says that it counts

    def _commit(self, **changes: int) -> None:
        write_json(self.folder / "state.json", {**self.state, **changes})
        self.state = {}
        self.reload()

    def _read_state(self) -> dict[str, Any]:
        file = self.folder / "state.json"
        fresh = {"format": FORMAT, "width": self.width, "generation": 0, "rows": 0, "sorted": 0,
                 "dead": 0, "lead": 0, "last": 0, "removed": 0}  # fmt: skip
        try:
            state: dict[str, Any] = json.loads(file.read_text())
        except (OSError, ValueError):
            return fresh
        return state if state.keys() == fresh.keys() and state["format"] == FORMAT else fresh


def _promising(most_M: FloatArray, count: int) -> IntArray:
    """Places of `count` high values: of blocks' highest, where there are blocks enough."""
    if len(most_M) <= _BLOCK * count:
        return np.argpartition(most_M, -count)[-count:]
    starts = np.arange(0, len(most_M), _BLOCK)
    tops = np.maximum.reduceat(most_M, starts)
    chosen = starts[np.argpartition(tops, -count)[-count:]]
    return np.array([start + most_M[start : start + _BLOCK].argmax() for start in chosen])
