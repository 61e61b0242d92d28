"""The vectors of a gallery, laid out to be scanned: in half precision, checked, rebuildable.

Beyond some size only codes are kept here, see `visir.gallery.scan.coarse`. Below it
every row is stored whole, and once more as its **lead**: its coordinates along the few directions
that hold most of the vectors' length. A query's cosine with a row is at most the product of their
leads plus the product of what the leads leave out of each (Cauchy and Schwarz). So the leads show
which rows can be among the best, and only those are read whole: the answer is exact, at the cost
of reading a fraction. The rows are sorted by cells of similar leads of one modality, so that an
approximate search can read only the likely cells.

All of it is derived from the gallery's database: if the folder is missing, damaged or of another
database, it is rebuilt.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.run import sha256
from visir.core.types import FloatArray, InputError, IntArray, Modality
from visir.gallery.scan.blocks import Blocks, DamagedError
from visir.gallery.scan.coarse import CODED, Source, coded, nearest_rows
from visir.gallery.scan.ivf import FINE, Cells, make_cells, no_cells
from visir.gallery.scan.kernels import HalfArray, bounds
from visir.gallery.scan.leads import directions, leading
from visir.gallery.scan.state import STATE, Mark, fresh, packed, read, unpacked, write

DEAD = 0
KIND = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
COLUMNS = {"ids": np.int64, "times": np.float64, "cameras": np.int32, "kinds": np.int8}
BESIDE = {"full": np.float16, "lead": np.float16, "left": np.float32}
SMALL = 20_000  # with fewer rows leads do not pay
# Of a product of unit rows: 2^-11 by rounding to half precision, the rest by summing in float32.
ERROR = 6e-4
_BLOCK = 512
_CHUNK = 16_384
SAMPLE = 16_384
"""Rows that the directions of leads are made from."""
_COARSE = 1.0  # cells of codes, times the root of the number of rows


class Rows(NamedTuple):
    """What is appended: ids, times (NaN where unknown), camera numbers, kinds, unit vectors."""

    ids: IntArray
    times: npt.NDArray[np.float64]
    cameras: npt.NDArray[np.int32]
    kinds: npt.NDArray[np.int8]
    vectors: FloatArray


class Scan:
    """A folder of arrays, and `state.json`, which says how much of them counts.

    The state has a checksum of every block of every array and of itself, and the change of the
    database up to which the arrays are made. If the folder cannot be written, the arrays go on in
    memory.

    Args:
        folder: where the arrays are.
        width: numbers in a vector.
        source: reads vectors where only codes are kept.

    Attributes:
        kept: what is added is written to the folder.
    """

    def __init__(self, folder: Path, width: int, source: Source | None = None) -> None:
        self.folder, self.width, self._source = folder, width, source
        self.kept = True
        self.arrays: dict[str, Blocks] = {}
        self.basis: FloatArray | None = None
        self.cells: Cells | None = None
        self.state = fresh(self.width)
        self._open(self.state)

    @property
    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays with one number for each row: `COLUMNS`."""
        return {name: self.arrays[name].values for name in COLUMNS}

    @property
    def mark(self) -> Mark:
        """The change of the database up to which the arrays are made."""
        return Mark(self.state["version"], self.state["stamp"])

    @contextmanager
    def changing(self, anew: bool = False) -> Iterator[None]:
        """Lock the folder, and read what other processes have changed.

        Args:
            anew: begin with empty arrays, whatever the folder holds.

        Raises:
            DamagedError: the folder is not what was written to it.
        """
        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self.folder / "lock").open("a"))
                fcntl.flock(lock, fcntl.LOCK_EX)
                self.kept = True
            except OSError:
                self.kept = False
            if anew:
                self._remake()
            else:
                self._reload()
            yield

    def begin_coarse(self, basis_DL: FloatArray, rows: int) -> None:
        """Begin anew, with codes instead of vectors; inside `changing`.

        Args:
            basis_DL: (D, L) directions of the leads that are coded.
            rows: how many will be added soon.
        """
        self._remake()
        state = {**self.state, "coarse": rows, "lead": basis_DL.shape[1]}
        self.basis, self.cells = basis_DL, no_cells(basis_DL.shape[1])
        try:
            state["sums"] = self._sort_files(state, self.basis, self.cells)
        except OSError:
            self.kept = False
        self.arrays, self.state = self._arrays(state), state
        self._commit(self.mark)

    def append(self, new: Rows, mark: Mark) -> None:
        """Add rows behind the others; inside `changing`."""
        values = {name: getattr(new, name) for name in COLUMNS}
        if self.basis is not None and self.state["coarse"]:
            values |= coded(new.vectors, self.basis)
        else:
            values["full"] = new.vectors
            if self.basis is not None:
                values |= leading(new.vectors, self.basis)
        for name, part in values.items():
            self._writing(partial(self.arrays[name].append, part))
        self._commit(mark, rows=self.state["rows"] + len(new.ids), last=int(new.ids[-1]))
        self._forget()

    def drop(self, ids: IntArray, upto: int, mark: Mark) -> bool:
        """Erase rows; inside `changing`.

        Args:
            ids: of the images that were removed.
            upto: number of the last removal that is now done.
            mark: the change of the database that the removal is part of.

        Returns:
            Whether they are erased on disk too.
        """
        gone = np.flatnonzero(np.isin(self.columns["ids"], ids))
        if len(gone):
            erasing = {name: self.arrays[name].blocks(gone) for name in self._erasable()}
            self._commit(self.mark, erasing=erasing)
            for name in erasing:
                self._writing(partial(self.arrays[name].erase, gone))
        dead = int(np.count_nonzero(self.columns["kinds"] == DEAD))
        self._commit(mark, dead=dead, removed=upto, erasing={})
        return self.kept

    def needs_sorting(self) -> bool:
        """Whether to sort it again: it has grown by half, or a third of it is removed."""
        rows, settled = self.state["rows"], self.state["sorted"]
        alive = rows - self.state["dead"]
        grown, emptied = rows - settled > settled / 2, self.state["dead"] > rows / 3
        return bool(alive >= SMALL and (grown or emptied))

    def settle(self) -> None:
        """Write all rows again, sorted by cells, without removed ones; inside `changing`.

        Raises:
            OSError: the disk is full; the former arrays are then kept.
        """
        alive = np.flatnonzero(self.columns["kinds"] != DEAD)
        rng = np.random.default_rng(self.state["generation"])
        basis, lead = self._leads(alive, rng)
        fine = _COARSE if self.state["coarse"] else FINE
        order, cells = make_cells(lead, self.columns["kinds"][alive], rng, fine)
        state = {**self.state, "generation": self.state["generation"] + 1, "lead": basis.shape[1]}
        arrays = self._arrays(state)
        try:
            for start in range(0, len(order), _CHUNK):
                taken = alive[order[start : start + _CHUNK]]
                names = COLUMNS | (CODED if self.state["coarse"] else {})
                values = {name: self.arrays[name].values[taken] for name in names}
                if not self.state["coarse"]:
                    full = self.arrays["full"].take(taken)
                    values |= {"full": full} | leading(full.astype(np.float32), basis)
                for name, part in values.items():
                    arrays[name].append(part, self.kept)
                if self.kept and "full" in arrays:
                    arrays["full"].forget()
            state["sums"] = {**state["sums"], **self._sort_files(state, basis, cells)}
        except OSError:
            self._sweep()
            raise
        self.arrays, self.basis, self.cells, self.state = arrays, basis, cells, state
        self._commit(self.mark, rows=len(order), sorted=len(order), dead=0)
        self._sweep()

    def _leads(
        self, alive_N: IntArray, rng: np.random.Generator
    ) -> tuple[FloatArray, Callable[[IntArray], npt.NDArray[np.floating]]]:
        """Directions for living rows, and what gives the leads of some of them."""
        if self.basis is not None and self.state["coarse"]:
            for name in CODED:
                self.arrays[name].load()
            code, scale = self.arrays["code"].values, self.arrays["scale"].values
            return self.basis, lambda rows: code[alive_N[rows]] * scale[alive_N[rows], None]
        sample = np.sort(rng.choice(alive_N, min(len(alive_N), SAMPLE), replace=False))
        basis = directions(self._full(sample).astype(np.float32))
        parts = [alive_N[i : i + _CHUNK] for i in range(0, len(alive_N), _CHUNK)]
        lead = np.concatenate(
            [(self._full(part).astype(np.float32) @ basis).astype(np.float16) for part in parts]
        )
        return basis, lambda rows: lead[rows]

    def best(self, query_D: FloatArray, k: int, rows_M: IntArray) -> tuple[IntArray, FloatArray]:
        """Ids of the rows that can be among the k best, k or more, with their products.

        Raises:
            DamagedError: a file is not what was written to it.
        """
        if self.basis is not None and self.state["coarse"]:
            assert self._source is not None  # it is given where codes are made
            for name in CODED:
                self.arrays[name].load(rows_M)
            arrays = {name: self.arrays[name].values for name in ("ids", *CODED)}
            rows_M, scores = nearest_rows(arrays, rows_M, query_D, self.basis, k, self._source)
            return self.columns["ids"][rows_M], scores
        if self.basis is not None and len(rows_M) > 2 * k:
            low = query_D @ self.basis
            share = float(np.linalg.norm(query_D - self.basis @ low))
            for name in ("lead", "left"):
                self.arrays[name].load(rows_M)
            lead, left = self.arrays["lead"].values, self.arrays["left"].values
            most = bounds(lead, rows_M, low, left, share)
            scores = self._products(query_D, rows_M[_promising(most, 2 * k)])
            rows_M = rows_M[most >= np.sort(scores)[-k] - 2 * ERROR]
        scores = self._products(query_D, rows_M)
        if len(scores) > k:
            kept = scores >= np.partition(scores, -k)[-k] - 2 * ERROR
            rows_M, scores = rows_M[kept], scores[kept]
        self._forget()
        return self.columns["ids"][rows_M], scores

    def _products(self, query_D: FloatArray, rows_M: IntArray) -> FloatArray:
        """(M,) products with whole rows, which leave nothing out."""
        full = self.arrays["full"]
        full.load(rows_M)
        return bounds(full.values, rows_M, query_D, self._nothing, 0)

    def _full(self, rows_M: IntArray) -> HalfArray:
        full = self.arrays["full"]
        full.load(rows_M)
        part: HalfArray = full.values[rows_M]
        self._forget()
        return part

    def _forget(self) -> None:
        if self.kept and "full" in self.arrays:
            self.arrays["full"].forget()

    def _writing(self, write: Callable[[bool], None]) -> None:
        """Write to the folder, or, if that fails, go on in memory."""
        try:
            write(self.kept)
        except OSError:
            self.kept = False
            write(False)

    def _erasable(self) -> tuple[str, ...]:
        """The arrays in which a removed row is overwritten."""
        return tuple(name for name in self.arrays if name != "ids")

    def _file(self, state: Mapping[str, Any], name: str) -> Path:
        return self.folder / f"{state['generation']}.{name}"

    def _arrays(self, state: Mapping[str, Any]) -> dict[str, Blocks]:
        """The arrays of a state, still empty."""
        tails = dict.fromkeys(("lead", "code"), (state["lead"],)) | {"full": (self.width,)}
        beside = {name: kind for name, kind in BESIDE.items() if state["lead"] or name == "full"}
        kinds = COLUMNS | (CODED if state["coarse"] else beside)
        return {
            name: Blocks(self._file(state, name), kinds[name], tails.get(name, ()))
            for name in kinds
        }

    def _remake(self) -> None:
        """Begin anew under another generation, as other processes may read the former one."""
        names = (file.name.partition(".")[0] for file in _listed(self.folder))
        generation = 1 + max((int(name) for name in names if name.isdecimal()), default=-1)
        self.arrays = {}
        self._open(fresh(self.width, generation))
        self._commit(Mark(0, ""))
        self._sweep()

    def _reload(self) -> None:
        """Read what other processes have changed."""
        state = read(self.folder, self.width)
        if state != self.state:
            self._open(state)
        self._sweep()

    def _open(self, state: dict[str, Any]) -> None:
        """Take a state that was read, and read the columns that every search looks at."""
        if not self.arrays or any(
            state[of] != self.state[of] for of in ("generation", "lead", "coarse")
        ):
            self.arrays, self.basis, self.cells = self._arrays(state), None, None
        self.state = state
        for name, array in self.arrays.items():
            array.expect(state["rows"], unpacked(state["sums"].get(name, "")))
            array.believe(state["erasing"].get(name, []))
        if state["lead"] and self.basis is None:
            self.basis = np.load(self._checked("basis.npy"))
            self.cells = Cells.load(self._checked("cells.npz"))
        for name in COLUMNS:
            self.arrays[name].load()
        self._nothing = np.zeros(state["rows"], np.float32)

    def _sort_files(
        self, state: Mapping[str, Any], basis_DL: FloatArray, cells: Cells
    ) -> dict[str, str]:
        """Write what the rows are sorted by: the checksums of the files."""
        if not self.kept:
            return {}
        np.save(self._file(state, "basis.npy"), basis_DL)
        cells.save(self._file(state, "cells.npz"))
        return {name: sha256(self._file(state, name)) for name in ("basis.npy", "cells.npz")}

    def _checked(self, name: str) -> io.BytesIO:
        """The content of a file beside the arrays."""
        file = self._file(self.state, name)
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DamagedError(f"{file.name}: {error.strerror or error}") from error
        if hashlib.sha256(content).hexdigest() != self.state["sums"].get(name):
            raise DamagedError(f"{file.name} does not have its checksum")
        return io.BytesIO(content)

    def _commit(self, mark: Mark, **changes: Any) -> None:  # noqa: ANN401 - of JSON
        """Say that what was written counts."""
        sums = {name: packed(array.sums) for name, array in self.arrays.items()}
        self.state = {**self.state, **changes, **mark._asdict(),
                      "sums": {**self.state["sums"], **sums}}  # fmt: skip
        self._nothing = np.zeros(self.state["rows"], np.float32)
        if self.kept:
            try:
                write(self.folder, self.state)
            except InputError:
                self.kept = False

    def _sweep(self) -> None:
        """Remove what killed processes left: other generations, and bytes behind the last row."""
        if not self.kept:
            return
        try:
            own = f"{self.state['generation']}."
            for file in _listed(self.folder):
                if file.name not in ("lock", STATE) and not file.name.startswith(own):
                    file.unlink(missing_ok=True)
            for array in self.arrays.values():
                if array.file.exists():
                    array.trim()
        except OSError:
            self.kept = False


def _listed(folder: Path) -> list[Path]:
    """The files of a folder, none if it is not there."""
    return [file for file in folder.glob("*") if file.is_file()]


def _promising(most_M: FloatArray, count: int) -> IntArray:
    """Places of `count` high values: of blocks' highest, where there are blocks enough."""
    if len(most_M) <= _BLOCK * count:
        return np.argpartition(most_M, -count)[-count:]
    starts = np.arange(0, len(most_M), _BLOCK)
    tops = np.maximum.reduceat(most_M, starts)
    chosen = starts[np.argpartition(tops, -count)[-count:]]
    return np.array([start + most_M[start : start + _BLOCK].argmax() for start in chosen])
