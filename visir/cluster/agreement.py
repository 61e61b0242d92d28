"""Neighbours on which several embeddings of the same images agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from visir.cluster.estimates import OUTPUT_ROUNDING, Estimator, check_features, estimator
from visir.cluster.loops import Int32Array, compiled, cosine, in_chunks
from visir.core.types import FloatArray, IntArray

_ROWS = 1024  # queries compared at once


def agreeing(sims: Sequence[Tensor], ratio: float, at_least: int | None = None) -> Tensor:
    """Columns close to the maximum of their row in enough of the matrices.

    SDCL (CVPR 2024), collaborative neighbour learning; TokenMatcher (AAAI 2025), diverse tokens.

    Args:
        sims: (B, N) cosines, one matrix for each embedding.
        ratio: of the row's highest cosine, which a neighbour exceeds.
        at_least: embeddings that must agree; all if None.

    Returns:
        (B, N) bool.
    """
    count = torch.zeros(sims[0].shape, dtype=torch.uint8, device=sims[0].device)
    for sim_BN in sims:
        count += sim_BN > ratio * sim_BN.max(dim=1, keepdim=True).values
    return count >= (len(sims) if at_least is None else at_least)


def agreeing_neighbours(
    queries: Sequence[Tensor], gallery: Sequence[Tensor], ratio: float, at_least: int | None = None
) -> sparse.csr_array:
    """`agreeing` over whole sets of images; only agreeing pairs are held in memory.

    Candidates come from products in bf16 and a bound on their error; the result
    depends only on cosines summed in float64 and rounded to float32.

    Args:
        queries: (Q, D) unit features or parts of such, one matrix for each embedding.
        gallery: (G, D), the same of the images to find neighbours among.
        ratio: of the row's highest cosine, which a neighbour exceeds; above 0.
        at_least: embeddings that must agree; all if None.

    Returns:
        (Q, G) bool.

    Raises:
        InputError: a feature is not finite or longer than 1.
    """
    for features in (*queries, *gallery):
        check_features(features, parts=True)
    shape = len(queries[0]), len(gallery[0])
    if not all(shape):
        return sparse.csr_array(shape, dtype=bool)
    views = [estimator(torch.cat(pair)) for pair in zip(queries, gallery, strict=True)]
    columns = np.arange(shape[0], sum(shape), dtype=np.int32)
    sides = [view.side(columns) for view in views]
    needed = len(views) if at_least is None else at_least
    found = []
    for start in range(0, shape[0], _ROWS):
        rows = np.arange(start, min(start + _ROWS, shape[0]), dtype=np.int32)
        found.append(_agreed(views, sides, rows=rows, first=shape[0], ratio=ratio, needed=needed))
    return sparse.csr_array(sparse.vstack(found))


def _agreed(
    views: list[Estimator],
    sides: list[Tensor],
    rows: Int32Array,
    first: int,
    ratio: float,
    needed: int,
) -> sparse.csr_array:
    """The agreed pairs of some queries; the gallery's rows begin at `first`."""
    bests, count = [], torch.zeros(len(rows), len(sides[0]), dtype=torch.uint8)
    for view, side in zip(views, sides, strict=True):
        estimates = view.estimates(rows, side)
        slack = torch.from_numpy(view.slack_N[rows]).to(estimates.device)
        top = estimates.amax(dim=1).double()
        error = slack + OUTPUT_ROUNDING * top.abs()
        pairs = _above(estimates, top - 2 * error)
        best = np.full(len(rows), -np.inf, np.float32)
        np.maximum.at(best, pairs[0], _cosines(view, rows[pairs[0]], first + pairs[1]))
        bests.append(best)
        limit = ratio * torch.from_numpy(best).to(slack) - view.offset
        limit -= slack + OUTPUT_ROUNDING * torch.maximum(limit.abs(), top.abs())
        count += (estimates >= _rounded_down(limit)).cpu()
    i, j = (found.numpy() for found in (count >= needed).nonzero(as_tuple=True))
    agree = sum(
        (_cosines(view, rows[i], first + j) > np.float32(ratio) * best[i]).astype(np.uint8)
        for view, best in zip(views, bests, strict=True)
    )
    kept = agree >= needed
    return sparse.csr_array(
        (np.ones(int(kept.sum()), bool), (i[kept], j[kept])), shape=(len(rows), len(sides[0]))
    )


def _above(estimates: Tensor, limit: Tensor) -> tuple[IntArray, IntArray]:
    i, j = (estimates >= _rounded_down(limit)).nonzero(as_tuple=True)
    return i.cpu().numpy(), j.cpu().numpy()


def _rounded_down(limit: Tensor) -> Tensor:
    """(B, 1) bf16, at most the limit."""
    return (limit - OUTPUT_ROUNDING * limit.abs()).bfloat16()[:, None]


def _cosines(view: Estimator, left: np.ndarray, right: np.ndarray) -> FloatArray:
    """Exact cosines of pairs of rows."""
    values = np.empty(len(left), np.float32)
    in_chunks(lambda a, b: _fill(view.exact_ND, left[a:b], right[a:b], values[a:b]), len(left))
    return values


@compiled
def _fill(exact_ND: FloatArray, left: np.ndarray, right: np.ndarray, values: FloatArray) -> None:
    for n in range(len(values)):
        values[n] = cosine(exact_ND[left[n]], exact_ND[right[n]])
