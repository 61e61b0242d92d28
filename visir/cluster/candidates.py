"""Candidates for the nearest columns of each row: taken from estimates, then compared exactly.

A row holds the columns whose estimate may belong to its best, up to a number. When there is no room
left, the k-th best estimate and the error bound say which are certainly not among the nearest.
Where most could be, as among equal features, they are compared in full precision at once.

An estimate e is a product in bf16, held as its bits; `ordered` makes integers of the same order of
them. For a row of slack s the cosine lies within s + OUTPUT_ROUNDING |e| of e + offset (see
`visir.cluster.estimates`). A row's floor is the lowest ordered estimate that may still be among its
nearest: `reach` gives it by a cosine that must be reached, `_certain` by another column's estimate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from visir.cluster.estimates import OUTPUT_ROUNDING, DoubleArray
from visir.cluster.loops import Int32Array, compiled, cosine
from visir.core.types import FloatArray

ShortArray = npt.NDArray[np.int16]

SCANNED = 64
"""Estimates that are looked at together; the room of a row that is to be free before."""
_CACHED = 512  # columns whose candidates are looked at together


class Found(NamedTuple):
    """The nearest rows so far (-1 for none yet) and their cosines, in decreasing order."""

    rows_NK: Int32Array  # noqa: N815
    cosines_NK: FloatArray  # noqa: N815


class Known(NamedTuple):
    """What the compiled loops compare by: `Estimator` without its products."""

    exact_ND: FloatArray  # noqa: N815
    offset: float
    slack_N: DoubleArray  # noqa: N815


class Candidates(NamedTuple):
    """Columns that may be among the nearest of a row, and their estimates, as ordered bits.

    columns_RC; bits_RC; filled_R: how many there are; floor_R: a lower estimate is not taken.
    """

    columns_RC: Int32Array  # noqa: N815
    bits_RC: ShortArray  # noqa: N815
    filled_R: Int32Array  # noqa: N815
    floor_R: ShortArray  # noqa: N815


@compiled
def begin(
    rows: Int32Array, known: Known, found: Found, floor_R: ShortArray, start: int, stop: int
) -> None:
    """Each row is its own nearest; what was found before says which others can be nearer."""
    for r in range(start, stop):
        i = rows[r]
        if found.rows_NK[i, 0] < 0:
            found.rows_NK[i, 0], found.cosines_NK[i, 0] = i, np.inf  # whatever the rounding
        floor_R[r] = reach(found.cosines_NK[i, -1] - known.offset, known.slack_N[i])


@compiled
def raise_floors(
    bits_BS: ShortArray, rows: Int32Array, start: int, known: Known, k: int, floor_R: ShortArray
) -> None:
    """Take no estimate below what k of some columns, maybe the row itself too, certainly reach."""
    values = np.empty(bits_BS.shape[1], np.int16)
    for b in range(len(bits_BS)):
        for m in range(len(values)):
            values[m] = ordered(bits_BS[b, m])
        limit = _certain(_largest(values, k), known.slack_N[rows[start + b]])
        floor_R[start + b] = max(floor_R[start + b], limit)


@compiled
def _certain(order: np.int16, slack: float) -> np.int16:
    """The floor by another column's estimate: what may be as near as that one at its least."""
    number = np.array([np.int32(ordered(order)) << 16], np.int32).view(np.float32)
    estimate = np.float64(number[0])
    return np.int16(reach(estimate - slack - OUTPUT_ROUNDING * abs(estimate), slack))


@compiled
def offer_to_rows(
    bits_BM: ShortArray, rows: Int32Array, columns: Int32Array, start: int, first: int,
    known: Known, found: Found, held: Candidates, begin: int, end: int,
) -> None:  # fmt: skip
    """Take what may be nearest to its row from estimates of rows and columns.

    The estimates begin at row `start` and column `first`.
    """
    for b in range(begin, end):
        _to_row(bits_BM[b], columns[first:], start + b, rows[start + b], known, found, held)


@compiled
def _to_row(
    bits_M: ShortArray, columns: Int32Array, r: int, i: np.int32,
    known: Known, found: Found, held: Candidates,
) -> None:  # fmt: skip
    """Hold what may be nearest to row i, whose place is r."""
    floor, filled = held.floor_R[r], held.filled_R[r]
    taken, values = held.columns_RC[r], held.bits_RC[r]
    for left in range(0, len(bits_M), SCANNED):
        part = bits_M[left : left + SCANNED]
        highest = np.int16(-32768)
        for m in range(len(part)):
            highest = max(highest, ordered(part[m]))
        if highest < floor:
            continue
        for m in range(len(part)):  # one that is not taken is overwritten by the next
            value, column = ordered(part[m]), columns[left + m]
            taken[filled], values[filled] = column, value
            filled += (value >= floor) & (column != i)
        if filled >= len(taken) - SCANNED:
            held.filled_R[r] = filled
            _make_room(r, i, known, found, held)
            floor, filled = held.floor_R[r], held.filled_R[r]
    held.filled_R[r] = filled


@compiled
def offer_to_columns(
    bits_BM: ShortArray, rows: Int32Array, start: int, stop: int,
    known: Known, found: Found, held: Candidates, begin: int, end: int,
) -> None:  # fmt: skip
    """The same the other way round, for the columns from `stop` on, which are rows themselves."""
    for wide in range(begin, end, _CACHED):
        for b in range(len(bits_BM)):
            part = bits_BM[b, wide : min(wide + _CACHED, end)]
            _to_columns(part, rows[start + b], stop + wide, rows, known, found, held)


@compiled
def _to_columns(
    bits_M: ShortArray, column: np.int32, first: int, rows: Int32Array,
    known: Known, found: Found, held: Candidates,
) -> None:  # fmt: skip
    """Hold a column for those rows from a place on that it may be nearest to."""
    floor, filled = held.floor_R[first:], held.filled_R[first:]
    columns, values = held.columns_RC[first:], held.bits_RC[first:]
    for left in range(0, len(bits_M), SCANNED):
        right = min(left + SCANNED, len(bits_M))
        reached = np.int16(-1)  # 0 if an estimate reaches its floor; without a branch, as a vector
        for m in range(left, right):
            reached = max(reached, np.int16(-(ordered(bits_M[m]) < floor[m])))
        m = left if reached == 0 else right
        while m < right:
            m = _push(bits_M, m, right, column, floor, filled, columns, values)
            if m < right:
                _make_room(first + m, rows[first + m], known, found, held)
                m += 1


@compiled
def _push(
    bits_M: ShortArray, begin: int, end: int, column: np.int32, floor_M: ShortArray,
    filled_M: Int32Array, columns_MC: Int32Array, bits_MC: ShortArray,
) -> int:  # fmt: skip
    """Hold a column for some rows, up to the first that has no more room, which is returned."""
    for m in range(begin, end):
        value = ordered(bits_M[m])
        if value >= floor_M[m]:
            place = filled_M[m]
            columns_MC[m, place], bits_MC[m, place] = column, value
            filled_M[m] = place + 1
            if place + 1 >= columns_MC.shape[1] - SCANNED:
                return m
    return end


@compiled
def _make_room(r: int, i: np.int32, known: Known, found: Found, held: Candidates) -> None:
    """Drop candidates of row i, whose place is r; if most stay, compare them."""
    _drop(r, i, known, found, held)
    if 2 * held.filled_R[r] > held.columns_RC.shape[1] - SCANNED:
        _compare(r, i, known, found, held)
        limit = reach(found.cosines_NK[i, -1] - known.offset, known.slack_N[i])
        held.floor_R[r] = max(held.floor_R[r], limit)


@compiled
def _drop(r: int, i: np.int32, known: Known, found: Found, held: Candidates) -> None:
    """Drop the candidates that enough others are certainly nearer than."""
    count, others = held.filled_R[r], found.rows_NK.shape[1] - 1
    if not 0 < others <= count:
        return
    limit = _certain(_largest(held.bits_RC[r, :count], others), known.slack_N[i])
    held.floor_R[r] = max(held.floor_R[r], limit)
    kept = 0
    for place in range(count):
        if held.bits_RC[r, place] >= held.floor_R[r]:
            held.columns_RC[r, kept] = held.columns_RC[r, place]
            held.bits_RC[r, kept] = held.bits_RC[r, place]
            kept += 1
    held.filled_R[r] = kept


@compiled
def _compare(r: int, i: np.int32, known: Known, found: Found, held: Candidates) -> None:
    """Compare the candidates in full precision, and list the nearest."""
    listed, cosines = found.rows_NK[i], found.cosines_NK[i]
    for j in held.columns_RC[r, : held.filled_R[r]]:
        if not _holds(listed, j):
            insert(j, cosine(known.exact_ND[i], known.exact_ND[j]), listed, cosines)
    held.filled_R[r] = 0


@compiled
def settle(
    rows: Int32Array, known: Known, found: Found, held: Candidates, start: int, stop: int
) -> None:
    """Compare what is still held."""
    for r in range(start, stop):
        _drop(r, rows[r], known, found, held)
        _compare(r, rows[r], known, found, held)


@compiled
def ordered(bits: np.int16) -> np.int16:
    """Bits of a bf16 number as an integer of the same order."""
    return np.int16(bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF)))


@compiled
def _largest(values: ShortArray, k: int) -> np.int16:
    """The largest integer that at least k of the values reach."""
    low, high = np.int64(values.min()), np.int64(values.max()) + 1
    while high - low > 1:
        middle = (low + high) // 2
        reached = 0
        for value in values:
            reached += value >= middle
        if reached >= k:
            low = middle
        else:
            high = middle
    return np.int16(low)


@compiled
def reach(worst: float, slack: float) -> np.int32:
    """The floor by a cosine less the offset: the lowest ordered estimate of `worst` or more."""
    if worst == -np.inf:
        return np.int32(-32768)
    limit = worst - slack
    limit /= 1 + OUTPUT_ROUNDING if limit > 0 else 1 - OUTPUT_ROUNDING
    bits = np.array([limit], np.float32).view(np.int32)[0]
    return np.int32((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16)  # rounded down


@compiled
def _holds(listed: Int32Array, j: np.int32) -> bool:
    found = False
    for other in listed:
        found |= other == j
    return found


@compiled
def insert(j: np.int32, value: np.float32, listed: Int32Array, cosines: FloatArray) -> None:
    """Insert a new row into a decreasing list, ties by row, if it belongs there."""
    place = len(listed)
    while place > 0 and (
        value > cosines[place - 1] or (value == cosines[place - 1] and j < listed[place - 1])
    ):
        place -= 1
    if place == len(listed):
        return
    for m in range(len(listed) - 1, place, -1):
        listed[m], cosines[m] = listed[m - 1], cosines[m - 1]
    listed[place], cosines[place] = j, value
