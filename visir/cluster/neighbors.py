"""Nearest neighbours of every row: exact up to a size, then within overlapping cells.

Products are computed from features rounded to bf16, which is four times as fast as float32 on
processors with bf16 units. They only choose candidates: a bound on the rounding error says which
rows could be among the nearest, and those are compared again in full precision. So the exact search
gives the same result on every device and with any number of threads.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from visir.cluster.candidates import (
    SCANNED,
    Candidates,
    Found,
    Known,
    begin,
    insert,
    offer_to_columns,
    offer_to_rows,
    raise_floors,
    settle,
)
from visir.cluster.cells import overlapping_cells
from visir.cluster.estimates import Estimator, check_features, estimator
from visir.cluster.loops import Int32Array, compiled, cosine, in_chunks
from visir.core.types import FloatArray, IntArray

EXACT_UP_TO = 60_000  # rows; the exact search takes about a quarter of a minute there on two cores
_BLOCK = 2**24  # products held at once
_CANDIDATES = 4  # held for each row, times the neighbours asked for
_SAMPLE = 1024  # columns that say where to begin
_ACQUAINTANCES = 20  # nearest rows whose own nearest are compared as well, in an approximate search


def nearest(features_ND: Tensor, k: int, exact_up_to: int = EXACT_UP_TO, seed: int = 0) -> IntArray:
    """The k rows most similar to each row, itself first.

    A cosine is the dot product summed in float64 and rounded to float32. With more than
    `exact_up_to` rows only those that share a cell with a row are compared with it; time and
    memory are then about linear in N, and a few neighbours may be missed.

    Args:
        features_ND: (N, D) float32, L2-normalised.
        k: neighbours asked for, the row itself included; at most N are given.
        exact_up_to: largest N that is searched exactly.
        seed: of the cells; an exact search does not depend on it.

    Returns:
        (N, min(k, N)) row numbers, by falling cosine, equal ones by rising row.

    Raises:
        InputError: a feature is not finite or not of length 1.
    """
    return with_cosines(features_ND, k, exact_up_to, seed).rows_NK.astype(np.int64)


def with_cosines(
    features_ND: Tensor, k: int, exact_up_to: int = EXACT_UP_TO, seed: int = 0
) -> Found:
    """What `nearest` gives, and the cosines; of each row with itself infinity stands there."""
    check_features(features_ND)
    count = len(features_ND)
    if count == 0:
        return _empty(0, 0)
    space = estimator(features_ND)
    found = _empty(count, min(k, count))
    all_rows = np.arange(count, dtype=np.int32)
    if count <= exact_up_to:
        _search(space, all_rows, all_rows, found)
    else:
        for cell in overlapping_cells(space.low_NE[:, :-4], seed):
            _search(space, cell, cell, found)
        short = np.flatnonzero((found.rows_NK < 0).any(axis=1)).astype(np.int32)
        _search(space, short, all_rows, found)
        before = found.rows_NK[:, :_ACQUAINTANCES].copy()
        in_chunks(lambda a, b: _look_further(before, space.exact_ND, *found, a, b), count)
    return found


def nearest_across(queries_QD: Tensor, gallery_GD: Tensor, k: int) -> IntArray:
    """The k gallery rows most similar to each query, exactly.

    Args:
        queries_QD: (Q, D) float32, L2-normalised.
        gallery_GD: (G, D), the same.
        k: neighbours asked for; at most G are given.

    Returns:
        (Q, min(k, G)) gallery rows, by falling cosine, equal ones by rising row.

    Raises:
        InputError: a feature is not finite or not of length 1.
    """
    check_features(queries_QD)
    check_features(gallery_GD)
    queries, gallery = len(queries_QD), len(gallery_GD)
    if not queries or not gallery:
        return np.empty((queries, min(k, gallery)), np.int64)
    space = estimator(torch.cat([queries_QD, gallery_GD]))
    found = _empty(queries, min(k, gallery) + 1)  # a query stands first in its own list
    columns = np.arange(queries, queries + gallery, dtype=np.int32)
    _search(space, np.arange(queries, dtype=np.int32), columns, found)
    return found.rows_NK[:, 1:].astype(np.int64) - queries


def _empty(count: int, k: int) -> Found:
    return Found(np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32))


def _search(space: Estimator, rows: Int32Array, columns: Int32Array, found: Found) -> None:
    """Compare some rows with some columns (both distinct), keeping the best in `found`.

    If the columns are the rows, each product is computed once and offered to both of its rows.
    """
    same = columns is rows
    room = min(max(64, _CANDIDATES * found.rows_NK.shape[1]), len(columns)) + SCANNED
    held = Candidates(
        np.empty((len(rows), room), np.int32),
        np.empty((len(rows), room), np.int16),
        np.zeros(len(rows), np.int32),
        np.empty(len(rows), np.int16),
    )
    known = Known(space.exact_ND, space.offset, space.slack_N)
    in_chunks(lambda a, b: begin(rows, known, found, held.floor_R, a, b), len(rows))
    right_ME = space.side(columns)
    if len(columns) > 8 * _SAMPLE and found.rows_NK.shape[1] < _SAMPLE:
        some = torch.linspace(0, len(columns) - 1, _SAMPLE, device=right_ME.device).long()
        in_chunks(partial(_begin_high, space, right_ME[some], rows, known, found, held), len(rows))
    start = 0
    while start < len(rows):
        first = start if same else 0
        size = int(np.clip(_BLOCK // max(1, len(columns) - first), 64, 2048))
        stop = min(start + size, len(rows))
        bits = space.estimates(rows[start:stop], right_ME[first:]).view(torch.int16).cpu().numpy()
        shared = known, found, held
        in_chunks(partial(offer_to_rows, bits, rows, columns, start, first, *shared), stop - start)
        if same:
            later = partial(offer_to_columns, bits[:, stop - start :], rows, start, stop, *shared)
            in_chunks(later, len(rows) - stop)
        start = stop
    in_chunks(lambda a, b: settle(rows, known, found, held, a, b), len(rows))


def _begin_high(
    space: Estimator, some_SE: Tensor, rows: Int32Array, known: Known, found: Found,
    held: Candidates, start: int, stop: int,
) -> None:  # fmt: skip
    """Begin with what a sample of the columns rules out: fewer candidates are held and dropped."""
    bits = space.estimates(rows[start:stop], some_SE).view(torch.int16).cpu().numpy()
    raise_floors(bits, rows, start, known, found.rows_NK.shape[1], held.floor_R)


@compiled
def _look_further(
    before_NA: Int32Array,
    exact_ND: FloatArray,
    rows_NK: Int32Array,
    cosines_NK: FloatArray,
    start: int,
    stop: int,
) -> None:
    """Compare each row with the nearest of its nearest, as they were `before`."""
    seen = np.full(len(exact_ND), -1, np.int32)
    for i in range(start, stop):
        seen[rows_NK[i]] = i
        for j in before_NA[before_NA[i]].ravel():
            if seen[j] != i:
                seen[j] = i
                insert(j, cosine(exact_ND[i], exact_ND[j]), rows_NK[i], cosines_NK[i])
