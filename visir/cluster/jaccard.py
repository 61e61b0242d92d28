"""Jaccard distance of k-reciprocal neighbourhoods, sparse from end to end.

Zhong et al., CVPR 2017, as every clustering method of the field applies it: encode each image by
its expanded k-reciprocal neighbours, average the codes over the nearest images, and compare codes
by their weighted overlap. Only pairs within a radius are ever written down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from scipy import sparse
from torch import Tensor

from visir.cluster.estimates import check_features
from visir.cluster.loops import Int32Array, compiled, cosine, in_chunks
from visir.cluster.neighbors import with_cosines
from visir.core.types import FloatArray, InputError, IntArray

Array = TypeVar("Array", Int32Array, FloatArray)
Rows = tuple[Int32Array, Int32Array, FloatArray]  # entries of each row; their columns; their values


def jaccard_graph(
    features_ND: Tensor,
    radius: float,
    k1: int = 30,
    k2: int = 6,
    ranks_NK: IntArray | None = None,
) -> sparse.csr_array:
    """All pairs whose Jaccard distance is at most `radius`.

    Args:
        features_ND: (N, D) float32, L2-normalised.
        radius: largest distance kept, in (0, 1); images that share nothing are at 1.
        k1: neighbours of a neighbourhood, the image itself included.
        k2: neighbours whose codes are averaged, the image itself included.
        ranks_NK: (N, at least k1 or N) nearest rows of every row, itself first, where the caller
            knows them; columns beyond k1 are not read.

    Returns:
        (N, N) float32, symmetric; an entry that is not stored is a distance above the radius.

    Raises:
        InputError: a feature is not finite or not of length 1.
    """
    cosines: FloatArray | None = None
    if ranks_NK is None:
        ranks, cosines = with_cosines(features_ND, k1)
    else:
        check_features(features_ND)
        _check_ranks(ranks_NK, len(features_ND))
        ranks = np.ascontiguousarray(ranks_NK[:, :k1], np.int32)
    exact_ND = features_ND.detach().float().contiguous().cpu().numpy()
    ones = np.ones(len(ranks), np.float32)
    codes = encode(ranks, exact_ND, square_N=ones, scale_N=ones, k1=k1, k2=k2, cosines_NK=cosines)
    return overlaps(codes, codes, radius)


def encode(
    ranks_NK: Int32Array,
    exact_ND: FloatArray,
    square_N: FloatArray,
    scale_N: FloatArray,
    k1: int,
    k2: int,
    cosines_NK: FloatArray | None = None,
) -> sparse.csr_array:
    """The code of each row: weights of its expanded reciprocal neighbours, averaged over k2 rows.

    Args:
        ranks_NK: (N, K) nearest rows of every row, itself first.
        exact_ND: (N, D) features.
        square_N: (N,) squares of their lengths.
        scale_N: (N,) factors of the squared distances from each row.
        k1: ranks of a neighbourhood, those beyond the row itself; as many as K holds are taken. So
            with the K = k1 ranks of `jaccard_graph` it counts the row, while the half
            neighbourhoods have round(k1 / 2) beyond it: both as in the public scripts.
        k2: rows whose codes are averaged.
        cosines_NK: of each row and its ranks, the first one's is not read; if they are known.

    Returns:
        (N, N), each row's sum 1.
    """
    if cosines_NK is None:
        cosines_NK = np.empty((len(ranks_NK), 0), np.float32)
    listed = ranks_NK, cosines_NK
    sets = *_reciprocal(ranks_NK, k1), *_reciprocal(ranks_NK, round(k1 / 2))

    def rows(start: int, stop: int) -> Rows:
        sizes, indices = _expand(*sets, start, stop)
        return sizes, indices, _weigh(sizes, indices, exact_ND, square_N, scale_N, *listed, start)

    codes = _matrix(rows, len(ranks_NK))
    parts = codes.indptr, codes.indices, codes.data
    return _matrix(lambda a, b: _average(ranks_NK[:, :k2], *parts, a, b), len(ranks_NK))


def overlaps(codes: sparse.csr_array, others: sparse.csr_array, radius: float) -> sparse.csr_array:
    """Jaccard distances, up to `radius`, of each code to each of others: (codes, others)."""
    turned, width = others.tocsc(), others.shape[0]
    rows = codes.indptr, codes.indices, codes.data
    columns = turned.indptr, turned.indices, turned.data
    near = np.float32(radius)
    return _matrix(lambda a, b: _overlap(*rows, *columns, width, near, a, b), codes.shape[0], width)


def _check_ranks(ranks_NK: IntArray, count: int) -> None:
    rows = np.arange(count)
    if len(ranks_NK) != count or (count and not (ranks_NK[:, 0] == rows).all()):
        raise InputError("ranks do not begin with the row itself; give those of `nearest`")
    if count and not 0 <= ranks_NK.min() <= ranks_NK.max() < count:
        raise InputError(f"ranks go beyond the {count} rows of the features; give their own")


def _matrix(
    rows: Callable[[int, int], Rows], count: int, width: int | None = None
) -> sparse.csr_array:
    """The matrix whose rows `rows(start, stop)` gives, square unless a width is given."""
    width = count if width is None else width
    parts = in_chunks(rows, count)
    if not parts:
        return sparse.csr_array(np.empty((0, width), np.float32))
    sizes, indices, data = (np.concatenate(column) for column in zip(*parts, strict=True))
    indptr = np.concatenate(([0], sizes.cumsum(dtype=np.int64)))
    if indptr[-1] < 2**31:
        indptr = indptr.astype(np.int32)
    return sparse.csr_array((data, indices, indptr), shape=(count, width))


def _reciprocal(ranks_NK: Int32Array, k: int) -> tuple[Int32Array, Int32Array]:
    """Of each row, those of its first k + 1 ranks that rank it so too, in front; how many."""
    sets_NK = np.empty_like(ranks_NK[:, : k + 1])
    sizes = np.empty(len(ranks_NK), np.int32)
    in_chunks(lambda a, b: _mutual(ranks_NK[:, : k + 1], sets_NK, sizes, a, b), len(ranks_NK))
    return sets_NK, sizes


@compiled
def _mutual(
    ranks_NK: Int32Array, sets_NK: Int32Array, sizes: Int32Array, start: int, stop: int
) -> None:
    for i in range(start, stop):
        size = 0
        for j in ranks_NK[i]:
            mutual = False
            for back in ranks_NK[j]:
                mutual |= back == i
            if mutual:
                sets_NK[i, size] = j
                size += 1
        sizes[i] = size


@compiled
def _expand(
    whole_NK: Int32Array,
    whole_sizes: Int32Array,
    half_NK: Int32Array,
    half_sizes: Int32Array,
    start: int,
    stop: int,
) -> tuple[Int32Array, Int32Array]:
    """Sets with the half-size sets that overlap them by more than 2/3: how many, which (sorted)."""
    marked = np.full(len(whole_NK), -1, np.int32)  # the row whose set, not yet expanded, has it
    added = np.full(len(whole_NK), -1, np.int32)
    members = np.empty(whole_NK.shape[1] * (1 + half_NK.shape[1]), np.int32)
    sizes = np.empty(stop - start, np.int32)
    indices = np.empty((stop - start) * len(members), np.int32)
    used = 0
    for i in range(start, stop):
        base = whole_NK[i, : whole_sizes[i]]
        marked[base] = i
        met = 0
        for c in base:
            half = half_NK[c, : half_sizes[c]]
            shared = 0
            for j in half:
                shared += marked[j] == i
            if 3 * shared > 2 * len(half):
                met = _add(half, added, i, members, met)
        met = _add(base, added, i, members, met)
        indices[used : used + met] = np.sort(members[:met])
        sizes[i - start] = met
        used += met
    return sizes, indices[:used].copy()


@compiled
def _weigh(
    sizes: Int32Array,
    indices: Int32Array,
    exact_ND: FloatArray,
    square_N: FloatArray,
    scale_N: FloatArray,
    ranks_NK: Int32Array,
    cosines_NK: FloatArray,
    start: int,
) -> FloatArray:
    """Of each set's members, exp of minus the squared distance times the row's scale; sum 1."""
    weights = np.empty(len(indices), np.float32)
    used = 0
    for row, size in enumerate(sizes):
        i = start + row
        part = slice(used, used + size)
        for place in range(part.start, part.stop):
            j = indices[place]
            near = 2 * _found(i, j, exact_ND, ranks_NK, cosines_NK) - (square_N[i] + square_N[j])
            weights[place] = np.exp(near * scale_N[i])
        weights[part] /= weights[part].sum()
        used = part.stop
    return weights


@compiled
def _found(
    i: int, j: int, exact_ND: FloatArray, ranks_NK: Int32Array, cosines_NK: FloatArray
) -> np.float32:
    """The cosine of two rows, looked up if it is known."""
    for place in range(1, cosines_NK.shape[1]):
        if ranks_NK[i, place] == j:
            return np.float32(cosines_NK[i, place])
    return cosine(exact_ND[i], exact_ND[j])


@compiled
def _add(some: Int32Array, added: Int32Array, i: int, members: Int32Array, met: int) -> int:
    """Append to `members` what row i has not added yet; how many there are then."""
    for j in some:
        if added[j] != i:
            added[j] = i
            members[met] = j
            met += 1
    return met


@compiled
def _average(
    ranks_NK: Int32Array,
    indptr: Int32Array,
    columns: Int32Array,
    values: FloatArray,
    start: int,
    stop: int,
) -> Rows:
    """Mean of the codes of each row's first ranks."""
    share = np.float32(1 / ranks_NK.shape[1])
    total = np.zeros(len(ranks_NK), np.float32)
    touched = np.empty(len(ranks_NK) + 1, np.int32)
    sizes = np.empty(stop - start, np.int32)
    room = 0
    for i in range(start, stop):
        for j in ranks_NK[i]:
            room += indptr[j + 1] - indptr[j]
    indices, data = np.empty(room, np.int32), np.empty(room, np.float32)
    used = 0
    for i in range(start, stop):
        met = 0
        for j in ranks_NK[i]:
            for place in range(indptr[j], indptr[j + 1]):
                column = columns[place]
                touched[met] = column
                met += total[column] == 0
                total[column] += share * values[place]
        for column in np.sort(touched[:met]):
            indices[used], data[used] = column, total[column]
            total[column] = 0
            used += 1
        sizes[i - start] = met
    return sizes, indices[:used].copy(), data[:used].copy()


@compiled
def _overlap(
    rows_ptr: Int32Array,
    rows_col: Int32Array,
    rows_val: FloatArray,
    cols_ptr: Int32Array,
    cols_row: Int32Array,
    cols_val: FloatArray,
    width: int,
    radius: np.float32,
    start: int,
    stop: int,
) -> Rows:
    """Walk the inverted index: for every row, sum the smaller weights over shared columns."""
    overlap = np.zeros(width, np.float32)
    touched = np.empty(width, np.int32)
    sizes = np.empty(stop - start, np.int32)
    indices, data = np.empty(0, np.int32), np.empty(0, np.float32)
    used = 0
    for i in range(start, stop):
        met = 0
        for a in range(rows_ptr[i], rows_ptr[i + 1]):
            column, weight = rows_col[a], rows_val[a]
            for b in range(cols_ptr[column], cols_ptr[column + 1]):
                j = cols_row[b]
                touched[met] = j
                met += overlap[j] == 0
                overlap[j] += min(weight, cols_val[b])
        near = 0
        for j in touched[:met]:
            overlap[j] = max(np.float32(0), 1 - overlap[j] / (2 - overlap[j]))
            touched[near] = j
            if overlap[j] <= radius:
                near += 1
            else:
                overlap[j] = 0
        indices, data = _with_room(indices, used, near), _with_room(data, used, near)
        for j in np.sort(touched[:near]):
            indices[used], data[used] = j, overlap[j]
            overlap[j] = 0
            used += 1
        sizes[i - start] = near
    return sizes, indices[:used].copy(), data[:used].copy()


@compiled
def _with_room(array: Array, used: int, more: int) -> Array:
    """The array, or a larger one with the same beginning, that holds `more` entries more."""
    if used + more <= len(array):
        return array
    larger = np.empty(2 * (used + more), array.dtype)
    larger[:used] = array[:used]
    return larger
