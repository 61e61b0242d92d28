"""Nearest neighbours of every row: exact up to a size, then within overlapping cells.

Products are computed from features rounded to bf16, which is four times as fast as float32 on
processors with bf16 units. They only choose candidates: a bound on the rounding error says which
rows could be among the nearest, and those are compared again in full precision. So the exact search
gives the same result on every device and with any number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from visir.cluster.cells import overlapping_cells
from visir.core.device import multiplies_bf16
from visir.core.types import FloatArray, InputError, IntArray

Int32Array = npt.NDArray[np.int32]
DoubleArray = npt.NDArray[np.float64]
Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

EXACT_UP_TO = 60_000  # rows; the exact search takes about a quarter of a minute there on two cores
_UNIT_TOLERANCE = 1e-2  # half-precision features are this far from length 1 at most
_BLOCK = 2**25  # products held at once
_GROUPS = 1024  # columns are scanned by the best of every group
_ACQUAINTANCES = 20  # nearest rows whose own nearest are compared as well, in an approximate search
OUTPUT_ROUNDING = 2.0**-8  # of a product stored as bf16, relative


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
    check_features(features_ND)
    count = len(features_ND)
    if count == 0:
        return np.empty((0, 0), np.int64)
    space = estimator(features_ND)
    found = _empty(count, min(k, count))
    all_rows = np.arange(count, dtype=np.int32)
    if count <= exact_up_to:
        _search(space, all_rows, all_rows, found)
    else:
        for cell in overlapping_cells(space.low_NE[:, :-2], seed):
            _search(space, cell, cell, found)
        short = np.flatnonzero((found.rows_NK < 0).any(axis=1)).astype(np.int32)
        _search(space, short, all_rows, found)
        before = found.rows_NK[:, :_ACQUAINTANCES].copy()
        in_chunks(lambda a, b: _look_further(before, space.exact_ND, *found, a, b), count)
    return found.rows_NK.astype(np.int64)


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


def check_features(features_ND: Tensor, parts: bool = False) -> None:
    """Refuse features that no cosine can be computed from.

    Args:
        features_ND: (N, D).
        parts: rows are parts of such features, and shorter than 1.

    Raises:
        InputError: there is no (N, D) matrix, or a row is not finite or not of length 1.
    """
    if features_ND.ndim != 2:
        shape = tuple(features_ND.shape)
        raise InputError(f"features have shape {shape}; give one row of numbers an image")
    lengths = torch.linalg.vector_norm(features_ND.detach(), dim=1, dtype=torch.float32)
    shortest = 0.0 if parts else 1 - _UNIT_TOLERANCE
    wrong = (~((lengths >= shortest) & (lengths <= 1 + _UNIT_TOLERANCE))).nonzero()  # NaN too
    if len(wrong):
        row = int(wrong[0])
        finite = bool(features_ND[row].isfinite().all())
        fault = (
            f"length {float(lengths[row]):.3g}, not 1" if finite else "a number that is not finite"
        )
        fix = "L2-normalise the features" if finite else "check whether the network has diverged"
        raise InputError(f"feature row {row} has {fault}; {fix}")


def in_chunks(work: Callable[[int, int], Result], count: int, min_step: int = 64) -> list[Result]:
    """Results of `work(start, stop)` over consecutive parts of a range, computed in threads."""
    threads = torch.get_num_threads()
    step = min(max(min_step, math.ceil(count / (4 * threads))), 2**14)
    starts = range(0, count, step)
    if threads == 1 or len(starts) < 2:
        return [work(start, min(start + step, count)) for start in starts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda start: work(start, min(start + step, count)), starts))


def compiled(function: Function) -> Function:
    """The same function as machine code that other threads can run beside."""
    return cast("Function", numba.njit(nogil=True, cache=True)(function))


@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def cosine(left_D: FloatArray, right_D: FloatArray) -> np.float32:
    """Dot product, summed in float64 so that the order of summation does not show."""
    total = 0.0
    for d in range(len(left_D)):
        total += np.float64(left_D[d]) * np.float64(right_D[d])
    return np.float32(total)


class Estimator(NamedTuple):
    """Features, and what their products are estimated from.

    low_NE: (N, D + 2) centred features rounded to bf16, then the product with the mean in two
    parts; offset_N: what an estimate lacks to the cosine; slack_N: how far it may be off.
    """

    exact_ND: FloatArray  # noqa: N815
    low_NE: Tensor  # noqa: N815
    offset_N: DoubleArray  # noqa: N815
    slack_N: DoubleArray  # noqa: N815

    def side(self, columns: Int32Array) -> Tensor:
        """(M, D + 2) what rows are multiplied with to be compared with these."""
        whole = len(columns) == len(self.low_NE)
        return self.low_NE if whole else self.low_NE[torch.from_numpy(columns)]

    def estimates(self, rows: Int32Array, side_ME: Tensor) -> Tensor:
        """(B, M) bf16: cosines minus the offset of their row, approximately.

        An estimate e is off by at most the row's slack and OUTPUT_ROUNDING |e|.
        """
        left_BE = self.low_NE[torch.from_numpy(rows)]
        left_BE[:, -2:] = 1
        return (left_BE @ side_ME.T).bfloat16()


class _Found(NamedTuple):
    """The nearest rows so far (-1 for none yet) and their cosines, in decreasing order."""

    rows_NK: Int32Array  # noqa: N815
    cosines_NK: FloatArray  # noqa: N815


def _empty(count: int, k: int) -> _Found:
    return _Found(np.full((count, k), -1, np.int32), np.full((count, k), -np.inf, np.float32))


def estimator(features_ND: Tensor) -> Estimator:
    """Round the features, and bound the error of every product but for the output's rounding.

    With the mean m and x = m + x', xy = x'y' + my + (mx - mm), so that features that are all alike,
    as those of an untrained network, keep their differences. With x' = l + r, l in bf16,
    Cauchy-Schwarz gives |x'y' - l_x l_y| <= |r_x||y'| + |l_x||r_y|. Summation in float32 adds at
    most 2 (D + 2) 2^-24 of the lengths' product, whatever its order.
    """
    features_ND = features_ND.detach().float().contiguous()
    count, width = features_ND.shape
    mean_D = features_ND.mean(dim=0)
    low_NE = features_ND.new_empty(count, width + 2, dtype=torch.bfloat16)
    along, length, residual = (features_ND.new_empty(count, dtype=torch.float64) for _ in range(3))
    for start in range(0, count, 2**12):
        part = slice(start, start + 2**12)
        along[part] = features_ND[part].double() @ mean_D.double()
        centred = features_ND[part] - mean_D
        low_NE[part, :width] = centred
        rounded = low_NE[part, :width].float()
        length[part] = torch.maximum(rounded.norm(dim=1), centred.norm(dim=1)).double()
        residual[part] = (centred - rounded).norm(dim=1).double()
    level = along.mean()
    low_NE[:, width] = along - level
    low_NE[:, width + 1] = along - level - low_NE[:, width].double()
    steepest = (along - level).abs().max()
    slack = residual * length.max() + length * residual.max() + 2.0**-16 * steepest
    slack += 2 * (width + 2) * 2.0**-24 * (length * length.max() + steepest)
    slack = 1.001 * slack + 2.0**-20  # what norms, the centring and the cosine itself are off
    offset = along + level - mean_D.double().square().sum()
    if features_ND.device.type != "cpu" or not multiplies_bf16(features_ND.device):
        low_NE = low_NE.float()  # products of bf16 numbers are exact in float32, and in TF32
    return Estimator(features_ND.cpu().numpy(), low_NE, offset.cpu().numpy(), slack.cpu().numpy())


def _search(space: Estimator, rows: Int32Array, columns: Int32Array, found: _Found) -> None:
    """Compare some rows with some columns (both distinct), keeping the best in `found`."""
    right_ME = space.side(columns)
    step = int(np.clip(_BLOCK // max(1, len(columns)), 64, 2048))
    for start in range(0, len(rows), step):
        block = rows[start : start + step]
        bits = space.estimates(block, right_ME).view(torch.int16).cpu().numpy()
        shared = columns, space.exact_ND, space.offset_N, space.slack_N, *found
        in_chunks(partial(_keep_part, bits, block, shared), len(block))


def _keep_part(
    bits_BM: npt.NDArray[np.int16], rows: Int32Array, shared: tuple[Any, ...], a: int, b: int
) -> None:
    _keep_best(bits_BM[a:b], rows[a:b], *shared)


@compiled
def _keep_best(
    bits_BM: npt.NDArray[np.int16],
    rows: Int32Array,
    columns: Int32Array,
    exact_ND: FloatArray,
    offset_N: DoubleArray,
    slack_N: DoubleArray,
    rows_NK: Int32Array,
    cosines_NK: FloatArray,
) -> None:
    """Merge the best of a block of products into the lists of its rows.

    First a threshold is guessed that enough columns reach. The k-th best cosine found there and the
    error bound then say which others could still belong to the best; those are compared too.
    """
    best = np.empty(max(1, min(len(columns), max(_GROUPS, rows_NK.shape[1]))), np.int16)
    for b in range(len(rows)):
        i = rows[b]
        row, listed, cosines = bits_BM[b], rows_NK[i], cosines_NK[i]
        if listed[0] < 0:
            listed[0], cosines[0] = i, np.inf  # itself first, whatever the rounding
        _best_of_groups(row, best)
        guess = max(_largest(best, len(listed)), _reach(cosines[-1] - offset_N[i], slack_N[i]))
        _look(row, best, guess, np.int32(32768), columns, exact_ND, i, listed, cosines)
        certain = _reach(cosines[-1] - offset_N[i], slack_N[i])
        if certain < guess:
            _look(row, best, certain, guess, columns, exact_ND, i, listed, cosines)


@compiled
def _ordered(bits: np.int16) -> np.int16:
    """Bits of a bf16 number as an integer of the same order."""
    return bits ^ ((bits >> np.int16(15)) & np.int16(0x7FFF))


@compiled
def _best_of_groups(row: npt.NDArray[np.int16], best: npt.NDArray[np.int16]) -> None:
    """Largest of every len(best)-th column: neighbours in a list come in runs, these do not."""
    size = len(best)
    best[:] = -32768
    for start in range(0, len(row), size):
        part = row[start : start + size]
        for g in range(len(part)):
            best[g] = max(best[g], _ordered(part[g]))


@compiled
def _largest(values: npt.NDArray[np.int16], k: int) -> np.int32:
    """The largest integer that at least k of the values reach."""
    if k > len(values):
        return np.int32(-32768)
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
    return np.int32(low)


@compiled
def _reach(worst: float, slack: float) -> np.int32:
    """The lowest ordered product that may stand for one of `worst` or more."""
    if worst == -np.inf:
        return np.int32(-32768)
    limit = worst - slack
    limit /= 1 + OUTPUT_ROUNDING if limit > 0 else 1 - OUTPUT_ROUNDING
    bits = np.array([limit], np.float32).view(np.int32)[0]
    return np.int32((bits ^ ((bits >> 31) & 0x7FFFFFFF)) >> 16)  # rounded down


@compiled
def _look(
    row: npt.NDArray[np.int16],
    best: npt.NDArray[np.int16],
    low: np.int32,
    high: np.int32,
    columns: Int32Array,
    exact_ND: FloatArray,
    i: np.int32,
    listed: Int32Array,
    cosines: FloatArray,
) -> None:
    """List the columns whose ordered product is at least `low` and less than `high`."""
    for g in range(len(best)):
        if best[g] < low:
            continue
        for m in range(g, len(row), len(best)):
            if low <= _ordered(row[m]) < high and not _holds(listed, columns[m]):
                _insert(columns[m], cosine(exact_ND[i], exact_ND[columns[m]]), listed, cosines)


@compiled
def _holds(listed: Int32Array, j: np.int32) -> bool:
    found = False
    for other in listed:
        found |= other == j
    return found


@compiled
def _insert(j: np.int32, value: np.float32, listed: Int32Array, cosines: FloatArray) -> None:
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
                _insert(j, cosine(exact_ND[i], exact_ND[j]), rows_NK[i], cosines_NK[i])
