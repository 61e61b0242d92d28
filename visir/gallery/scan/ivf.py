"""Cells of like vectors, each of one modality: an inverted file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.types import FloatArray, IntArray

FINE = 4.0
"""Cells, times the root of the number of rows."""
_ROUNDS = 6
_SAMPLE = 32  # rows for each centre that the centres are drawn from
_CHUNK = 16_384


class Cells(NamedTuple):
    """Centres of cells, where each begins among the sorted rows, and of what kind its rows are.

    centres: (C, L) means of leads; halves: (C,) of their squared lengths; starts: (C + 1,);
    kinds: (C,).
    """

    centres: FloatArray
    halves: FloatArray
    starts: IntArray
    kinds: npt.NDArray[np.int8]

    @classmethod
    def load(cls, file: IO[bytes]) -> Cells:
        """Read what `save` wrote."""
        with np.load(file) as stored:
            return cls(*(stored[name] for name in cls._fields))

    def save(self, file: Path) -> None:
        """Write to a file."""
        np.savez(file, **self._asdict())

    def likely(self, low_L: FloatArray, kind: int | None, enough: int) -> IntArray:
        """Rows of the cells nearest to a query, at least `enough`, where there are so many.

        Args:
            low_L: (L,) the query's lead.
            kind: of the rows wanted; None takes of every kind the likely ones.
            enough: rows of each kind.
        """
        found = []
        nearness = self.centres @ low_L - self.halves
        for one in np.unique(self.kinds) if kind is None else [kind]:
            mine = np.flatnonzero(self.kinds == one)
            order = mine[np.argsort(-nearness[mine], kind="stable")]
            sizes = self.starts[order + 1] - self.starts[order]
            taken = order[: np.searchsorted(sizes.cumsum(), enough) + 1]
            found += [np.arange(self.starts[c], self.starts[c + 1]) for c in np.sort(taken)]
        return np.concatenate(found) if found else np.empty(0, np.int64)


def make_cells(
    take: Callable[[IntArray], npt.NDArray[np.floating]],
    kinds_N: npt.NDArray[np.int8],
    rng: np.random.Generator,
    fine: float = FINE,
) -> tuple[IntArray, Cells]:
    """Group rows of one kind that are alike: the order that sorts rows by cell, and the cells.

    Args:
        take: the (M, L) leads of (M,) rows.
        kinds_N: (N,) kinds of the rows.
        rng: draws the rows that the centres are made from.
        fine: cells, times the root of the number of rows.
    """
    orders, centres, sizes, kinds = [], [], [], []
    for kind in np.unique(kinds_N):
        mine = np.flatnonzero(kinds_N == kind)
        middle = _centres(take, mine, max(1, round(fine * len(mine) ** 0.5)), rng)
        owners = _owners(take, mine, middle)
        orders.append(mine[np.argsort(owners, kind="stable")])
        centres.append(middle)
        sizes.append(np.bincount(owners, minlength=len(middle)))
        kinds.append(np.full(len(middle), kind, np.int8))
    starts = np.concatenate([[0], np.concatenate(sizes).cumsum()])
    every = np.concatenate(centres)
    cells = Cells(every, _half_squares(every), starts, np.concatenate(kinds))
    return np.concatenate(orders), cells


def no_cells(width: int) -> Cells:
    """The cells of no rows, whose leads have `width` numbers."""
    none = np.empty((0, width), np.float32)
    return Cells(none, none.sum(axis=1), np.zeros(1, np.int64), np.empty(0, np.int8))


def _centres(
    take: Callable[[IntArray], npt.NDArray[np.floating]], rows_M: IntArray, count: int,
    rng: np.random.Generator,
) -> FloatArray:  # fmt: skip
    """Lloyd's means, from drawn rows; a centre that lost its rows stays where it was."""
    drawn = rng.choice(len(rows_M), min(len(rows_M), count * _SAMPLE), replace=False)
    sample_SL = take(rows_M[drawn]).astype(np.float32)
    centres_CL = sample_SL[:count].copy()
    every = np.arange(len(sample_SL))
    for _ in range(_ROUNDS):
        owners = _owners(lambda rows: sample_SL[rows], every, centres_CL)
        order = np.argsort(owners, kind="stable")
        held, begins = np.unique(owners[order], return_index=True)
        sums = np.add.reduceat(sample_SL[order], begins, axis=0)
        centres_CL[held] = sums / np.bincount(owners)[held][:, None]
    return centres_CL


def _owners(
    take: Callable[[IntArray], npt.NDArray[np.floating]], rows_M: IntArray, centres_CL: FloatArray
) -> IntArray:
    """(M,) the nearest centre of each row, by Euclidean distance."""
    half_C = _half_squares(centres_CL)
    parts = (rows_M[i : i + _CHUNK] for i in range(0, len(rows_M), _CHUNK))
    return np.concatenate(
        [(take(part).astype(np.float32) @ centres_CL.T - half_C).argmax(axis=1) for part in parts]
    )


def _half_squares(centres_CL: FloatArray) -> FloatArray:
    """(C,) what a product with a centre lacks to rank centres by their distance."""
    found: FloatArray = (centres_CL**2).sum(axis=1) / 2
    return found
