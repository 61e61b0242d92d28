"""Overlapping cells of similar rows, so that neighbours are searched within a cell only."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

Int32Array = npt.NDArray[np.int32]

_CELL_SIZE = 192  # rows that have a centre as their nearest, on average
_LARGEST = 40 * _CELL_SIZE  # rows compared with each other in one cell
_CENTRES_OF_A_ROW = 10
_SAMPLE = 24  # rows for each centre that the centres are drawn from
_ROUNDS = 5
_BLOCK = 8192


def overlapping_cells(low_ND: Tensor, seed: int) -> Iterator[Int32Array]:
    """Spherical k-means of a sample, and every row in the cells of its ten nearest centres.

    Two rows are found as neighbours if they share one of ten centres, so a border between two
    cells parts few of them. A cell that grew too large is cut into pieces, by row.

    Args:
        low_ND: (N, D) features in the precision products are computed in.
        seed: of the sample and the first centres.

    Yields:
        Rising row numbers of a cell.
    """
    rng = np.random.default_rng(seed)
    centres_CD = _centres(low_ND, math.ceil(len(low_ND) / _CELL_SIZE), rng)
    owners = np.concatenate(
        [
            (part @ centres_CD.T).topk(min(_CENTRES_OF_A_ROW, len(centres_CD)), dim=1).indices.cpu()
            for part in torch.split(low_ND, _BLOCK)
        ],
        dtype=np.int32,
    )
    order = owners.ravel().argsort(kind="stable")
    bounds = np.bincount(owners.ravel(), minlength=len(centres_CD)).cumsum()[:-1]
    for cell in np.split((order // owners.shape[1]).astype(np.int32), bounds):
        pieces = math.ceil(len(cell) / _LARGEST)
        yield from np.array_split(cell, pieces) if pieces else ()


def _centres(low_ND: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Means of the sampled rows nearest to each centre, after a few rounds from random rows."""
    drawn = rng.choice(len(low_ND), min(len(low_ND), count * _SAMPLE), replace=False)
    sample_MD = low_ND[torch.from_numpy(drawn).to(low_ND.device)]
    centres_CD = sample_MD[:count]
    for _ in range(_ROUNDS):
        owner = torch.cat(
            [(part @ centres_CD.T).argmax(dim=1) for part in torch.split(sample_MD, _BLOCK)]
        )
        sums = centres_CD.float() * 1e-3  # what a centre without rows keeps
        sums.index_add_(0, owner, sample_MD.float())
        centres_CD = F.normalize(sums, dim=1).to(low_ND.dtype)
    return centres_CD
