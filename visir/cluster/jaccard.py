"""Jaccard distance of k-reciprocal neighbourhoods, sparse from end to end.

Zhong et al., CVPR 2017, as every clustering method of the field applies it: encode each image by
its expanded k-reciprocal neighbours, average the codes over the nearest images, and compare codes
by their weighted overlap. Only pairs within a radius are ever written down.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from visir.cluster.neighbors import nearest
from visir.types import IntArray


def jaccard_graph(
    features_ND: Tensor, radius: float, k1: int = 30, k2: int = 6
) -> sparse.csr_array:
    """All pairs whose Jaccard distance is at most `radius`.

    Args:
        features_ND: (N, D) float32, L2-normalised.
        radius: largest distance kept, in (0, 1).
        k1: neighbours of a neighbourhood, the image itself included.
        k2: neighbours whose codes are averaged, the image itself included.

    Returns:
        (N, N) float32, symmetric; an entry that is not stored is a distance above the radius.
    """
    ranks_NK = nearest(features_ND, k1)
    codes = _codes(features_ND, _expanded(ranks_NK, k1))
    k2 = min(k2, ranks_NK.shape[1])
    mean = _matrix(ranks_NK[:, :k2], np.full(ranks_NK[:, :k2].shape, 1 / k2, np.float32))
    codes = sparse.csr_array(mean @ codes)
    codes.sort_indices()
    columns = codes.tocsc()
    columns.sort_indices()
    indptr, indices, data = _pairs_within(
        codes.indptr, codes.indices, codes.data, columns.indptr, columns.indices, columns.data,
        np.float32(radius),
    )  # fmt: skip
    return sparse.csr_array((data, indices, indptr), shape=codes.shape)


def _matrix(columns_NK: IntArray, values_NK: np.ndarray) -> sparse.csr_array:
    count, k = columns_NK.shape
    indptr = np.arange(0, count * k + 1, k)
    return sparse.csr_array((values_NK.ravel(), columns_NK.ravel(), indptr), shape=(count, count))


def _reciprocal(ranks_NK: IntArray, k: int) -> sparse.csr_array:
    """0/1 matrix of pairs that stand among each other's first k + 1 ranks."""
    columns = ranks_NK[:, : k + 1]
    forward = _matrix(columns, np.ones(columns.shape, np.float32))
    return sparse.csr_array(forward.multiply(forward.T))


def _expanded(ranks_NK: IntArray, k1: int) -> sparse.csr_array:
    """k-reciprocal sets, each joined by the half-size sets that overlap it by more than 2/3."""
    whole = _reciprocal(ranks_NK, k1)
    half = _reciprocal(ranks_NK, round(k1 / 2))
    sizes = np.asarray(half.sum(axis=1)).ravel()
    shared = (whole @ half.T).multiply(whole).tocoo()  # |R(i, k1) and R(c, k1/2)| for c in R(i, k1)
    keep = shared.data > 2 / 3 * sizes[shared.col] + 1e-6
    chosen = sparse.csr_array(
        (np.ones(keep.sum(), np.float32), (shared.row[keep], shared.col[keep])), shape=whole.shape
    )
    return sparse.csr_array(whole + chosen @ half)


def _codes(features_ND: Tensor, sets: sparse.csr_array) -> sparse.csr_array:
    """Each set weighted by a softmax over minus the squared distances, rows summing to 1."""
    sets.sort_indices()
    row = np.repeat(np.arange(sets.shape[0]), np.diff(sets.indptr))
    cosine = np.empty(len(row), np.float32)
    for start in range(0, len(row), 1 << 20):
        part = slice(start, start + (1 << 20))
        left = features_ND[torch.from_numpy(row[part])]
        right = features_ND[torch.from_numpy(sets.indices[part].astype(np.int64))]
        cosine[part] = (left * right).sum(1).cpu().numpy()
    weight = np.exp(2 * cosine - 2)
    total = np.add.reduceat(weight, sets.indptr[:-1])  # every set holds its own row: none is empty
    codes = (weight / np.repeat(total, np.diff(sets.indptr))).astype(np.float32)
    return sparse.csr_array((codes, sets.indices, sets.indptr), shape=sets.shape)


@numba.njit(cache=True)
def _pairs_within(  # type: ignore[no-untyped-def] # noqa: ANN202 - compiled
    rows_ptr,  # noqa: ANN001
    rows_col,  # noqa: ANN001
    rows_val,  # noqa: ANN001
    cols_ptr,  # noqa: ANN001
    cols_row,  # noqa: ANN001
    cols_val,  # noqa: ANN001
    radius,  # noqa: ANN001
):
    """Walk the inverted index: for every row, sum the smaller weights over shared columns."""
    count = len(rows_ptr) - 1
    overlap = np.zeros(count, np.float32)
    touched = np.empty(count, np.int64)
    indptr = np.zeros(count + 1, np.int64)
    indices = np.empty(count * 16, np.int64)
    data = np.empty(count * 16, np.float32)
    size = 0
    for i in range(count):
        met = 0
        for a in range(rows_ptr[i], rows_ptr[i + 1]):
            column = rows_col[a]
            for b in range(cols_ptr[column], cols_ptr[column + 1]):
                j = cols_row[b]
                if overlap[j] == 0:
                    touched[met] = j
                    met += 1
                overlap[j] += min(rows_val[a], cols_val[b])
        near = np.sort(touched[:met])
        if size + met > len(indices):
            room = 2 * len(indices) + met
            indices = np.concatenate((indices, np.empty(room, np.int64)))
            data = np.concatenate((data, np.empty(room, np.float32)))
        for j in near:
            distance = max(np.float32(0), 1 - overlap[j] / (2 - overlap[j]))
            overlap[j] = 0
            if distance <= radius:
                indices[size], data[size] = j, distance
                size += 1
        indptr[i + 1] = size
    return indptr, indices[:size], data[:size]
