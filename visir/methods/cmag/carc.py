"""CARC, camera-aware consistency (CMAG, Eq. 29-32): neighbour lists that agree with each camera."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse

from visir.cluster.cameras import select_entries
from visir.core.types import IntArray

Conflicts = Literal["drop_decays", "keep_decays"]


class Consistent(NamedTuple):
    """Neighbours that agree with the cameras, (N, N) bool; numbers of conflicts and of drops."""

    kept: sparse.csr_array
    conflicts: int
    dropped: int


def consistent_neighbours(
    neighbours: sparse.csr_array,
    cams: IntArray,
    local: IntArray,
    progress: float,
    rng: np.random.Generator,
    p0: float = 0.8,
    conflicts: Conflicts = "drop_decays",
) -> Consistent:
    """Neighbour lists that agree with the clusters inside each camera (Eq. 32).

    Neighbours from other cameras are kept, and i itself. Of the others from i's camera, only those
    in i's local cluster are kept, if there are any; otherwise each is a conflict and dropped at
    random. Outliers have no local cluster.

    Args:
        neighbours: (N, N) bool, row i the neighbours of i.
        cams: (N,) cameras.
        local: (N,) clusters inside the cameras, -1 for outliers.
        progress: finished share of the training, e / E.
        rng: for the conflicts.
        p0: initial probability.
        conflicts: whether p0 (1 - progress) is the probability to drop one, or to keep one.
    """
    i, j = neighbours.nonzero()
    same_cam = cams[i] == cams[j]
    agree = same_cam & (local[i] == local[j]) & (local[i] >= 0)
    decided = np.zeros(neighbours.shape[0], bool)
    decided[i[agree & (i != j)]] = True
    chance = rng.random(len(i)) < p0 * (1 - progress)
    survives = chance if conflicts == "keep_decays" else ~chance
    others = same_cam & (i != j)
    unsettled = others & ~decided[i]
    kept = ~others | np.where(decided[i], agree, survives)
    return Consistent(
        kept=select_entries(neighbours.shape, i, j, kept),
        conflicts=int(unsettled.sum()),
        dropped=int((unsettled & ~kept).sum()),
    )
