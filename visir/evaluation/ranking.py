"""Ranked lists and their measures: CMC, mAP, mINP, and the mAP of a random order.

No gallery is sorted for the measures. The rank of a match is one more than the number of compared
images that are better (higher similarity; ties by lower gallery row). If a rank of the CMC is an
identity, it is one more than the number of other identities with a better image.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from visir.core.types import BoolArray, Exclusion, FloatArray, InputError, IntArray

DoubleArray = npt.NDArray[np.float64]

_THREAD_WORK = 2**17  # similarities per thread; with fewer, another thread costs more than it saves
_RANK_BLOCK = 2**24  # similarities in memory at once while ranking
_UNIT_TOLERANCE = 1e-2  # the maximum deviation of half-precision features from length 1


class Scores(NamedTuple):
    """Scores of one trial, as fractions (0..1), averaged over the valid queries.

    cmc: (max_rank,) share of queries whose first match is at rank 1, 2, ... or before;
    mAP: mean average precision; mINP: mean of (matches / rank of the last match);
    valid: queries that have a match left in the gallery; chance_mAP: the mAP that a random
    order of the same galleries has on average.
    """

    cmc: DoubleArray
    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    valid: int
    chance_mAP: float  # noqa: N815


class Judged(NamedTuple):
    """The outcome of each of Q queries; all arrays are (Q,).

    first: rank of the first match (0 without a match); precision: average precision;
    inverse_penalty: matches / rank of the last match; matches: compared gallery images of the
    query's identity; compared: all gallery images the protocol compares with the query.
    """

    first: IntArray
    precision: DoubleArray
    inverse_penalty: DoubleArray
    matches: IntArray
    compared: IntArray


def score(
    sim_QG: FloatArray,
    query_pids: IntArray,
    gallery_pids: IntArray,
    query_cams: IntArray,
    gallery_cams: IntArray,
    exclusion: Exclusion,
    unique_identities: bool,
    max_rank: int = 20,
) -> Scores:
    """Score one trial.

    Args:
        sim_QG: (Q, G) similarities, higher is better.
        query_pids: (Q,) identities.
        gallery_pids: (G,) identities.
        query_cams: (Q,) cameras.
        gallery_cams: (G,) cameras.
        exclusion: which gallery images a query is not compared with.
        unique_identities: a rank of the CMC is an identity (its best image), not an image.
        max_rank: length of the CMC; it is constant beyond the end of a shorter gallery.

    Raises:
        InputError: sizes disagree, a similarity is NaN, or no query has a match.
    """
    judged = judge(
        sim_QG,
        query_pids=query_pids,
        gallery_pids=gallery_pids,
        query_cams=query_cams,
        gallery_cams=gallery_cams,
        exclusion=exclusion,
        unique_identities=unique_identities,
    )
    return summarise(judged, max_rank)


def judge(
    sim_QG: FloatArray,
    query_pids: IntArray,
    gallery_pids: IntArray,
    query_cams: IntArray,
    gallery_cams: IntArray,
    exclusion: Exclusion,
    unique_identities: bool,
    columns: IntArray | None = None,
) -> Judged:
    """Judge every query; the arguments are those of `score`, and `columns`.

    `columns` are the columns of `sim_QG` that form the gallery, in the order that breaks ties
    (None: all); `gallery_pids` and `gallery_cams` describe every column. One similarity matrix can
    thus be used for the galleries of many trials without a copy.

    Raises:
        InputError: sizes disagree, or a similarity is NaN.
    """
    sim_QG = np.ascontiguousarray(sim_QG, np.float32)
    if sim_QG.shape != (len(query_pids), len(gallery_pids)):
        raise InputError(
            f"sim_QG: shape {sim_QG.shape} does not fit {len(query_pids)} queries and "
            f"{len(gallery_pids)} gallery images; give one row per query, one column per image"
        )
    if len(query_cams) != len(query_pids) or len(gallery_cams) != len(gallery_pids):
        raise InputError("cameras: give as many cameras as identities, for queries and gallery")
    if columns is None:
        columns = np.arange(sim_QG.shape[1])
    pids, codes = np.unique(np.asarray(gallery_pids)[columns], return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(pids) + 2))  # the last group is empty
    cams, cam_codes = np.unique(np.asarray(gallery_cams)[columns], return_inverse=True)
    query_cam_names, query_cam_codes = np.unique(query_cams, return_inverse=True)
    dtypes = (np.int64, float, float, np.int64, np.int64)
    judged = Judged(*(np.zeros(len(query_pids), dtype) for dtype in dtypes))
    per_query = (sim_QG, _codes(query_pids, pids), query_cam_codes, *judged)
    barred = _barred(query_cam_names, cams, exclusion)
    rules = (barred, exclusion.same_identity_only, unique_identities)
    shared = (columns, codes, cam_codes, order, starts, len(pids), *rules)
    if not _run_rows(per_query, shared, len(query_pids), len(columns)):
        raise InputError(
            "similarities: at least one is NaN (not a number), so nothing can be ranked; "
            "check the features for NaN"
        )
    return judged


def summarise(judged: Judged, max_rank: int = 20) -> Scores:
    """Average over the queries that have a match.

    Raises:
        InputError: no query has one.
    """
    valid = judged.matches > 0
    count = int(valid.sum())
    if count == 0:
        raise InputError(
            "no identity is shared by query and gallery, so no query can be scored; check the "
            "labels and that the same people were seen in both modalities"
        )
    firsts = np.bincount(np.minimum(judged.first[valid], max_rank + 1), minlength=max_rank + 2)
    return Scores(
        cmc=np.cumsum(firsts[1 : max_rank + 1]) / count,
        mAP=float(judged.precision[valid].mean()),
        mINP=float(judged.inverse_penalty[valid].mean()),
        valid=count,
        chance_mAP=float(chance(judged.matches[valid], judged.compared[valid]).mean()),
    )


def chance(matches: IntArray, compared: IntArray) -> DoubleArray:
    """Expected average precision of a random order of N images, R of which match; elementwise.

    A match at rank n (each rank is as likely) finds (n - 1)(R - 1)/(N - 1) other matches before
    it on average, so E[AP] = 1/N sum_n (1 + (n - 1)(R - 1)/(N - 1))/n
    = H/N + (R - 1)/(N - 1) (1 - H/N), with H the N-th harmonic number.

    Args:
        matches: R >= 1.
        compared: N >= R.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, compared.max() + 1))])
    first = harmonic[compared] / compared
    result: DoubleArray = first + (matches - 1) / np.maximum(compared - 1, 1) * (1 - first)
    return result


def rank(query_QD: FloatArray, gallery_GD: FloatArray, k: int = 10) -> tuple[IntArray, FloatArray]:
    """The k most similar gallery rows of every query.

    Args:
        query_QD: (Q, D) features, rows of length 1 as `Embedder.embed` returns them.
        gallery_GD: (G, D) features of the same kind.
        k: maximum number of rows to list.

    Returns:
        (Q, k) gallery rows, best first, ties by lower row, and their (Q, k) cosine similarities.

    Raises:
        InputError: shapes that do not fit, rows not of length 1, an empty gallery, or k < 1.
    """
    query_QD, gallery_GD = _unit_rows(query_QD, "query"), _unit_rows(gallery_GD, "gallery")
    if query_QD.shape[1] != gallery_GD.shape[1]:
        raise InputError(
            f"features: a query has {query_QD.shape[1]} numbers and a gallery image "
            f"{gallery_GD.shape[1]}; embed both with the same model"
        )
    if k < 1 or not len(gallery_GD):
        raise InputError(
            f"rank: cannot list {k} of {len(gallery_GD)} images; both must be 1 or more"
        )
    k = min(k, len(gallery_GD))
    rows = np.empty((len(query_QD), k), np.int64)
    scores = np.empty((len(query_QD), k), np.float32)
    step = max(1, _RANK_BLOCK // len(gallery_GD))
    for start in range(0, len(query_QD), step):
        block = slice(start, start + step)
        rows[block], scores[block] = best(query_QD[block] @ gallery_GD.T, k)
    return rows, scores


def best(sim_QG: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Columns and values of the k highest per row: better than the k-th, then ties by column."""
    worst = np.partition(sim_QG, -k, axis=1)[:, [-k]]
    better, tied = sim_QG > worst, sim_QG == worst
    room = k - better.sum(axis=1, keepdims=True)
    kept = better | (tied & (tied.cumsum(axis=1) <= room))
    columns = np.nonzero(kept)[1].reshape(-1, k)
    values = np.take_along_axis(sim_QG, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)


def _unit_rows(features: FloatArray, side: str) -> FloatArray:
    features = np.asarray(features, np.float32)
    if features.ndim != 2:
        raise InputError(f"{side} features: shape {features.shape}; give one row per image")
    lengths = np.linalg.norm(features, axis=1)
    if not (np.abs(lengths - 1) < _UNIT_TOLERANCE).all():  # also catches NaN
        raise InputError(f"{side} features: a row is not of length 1; divide each by its length")
    return features


def _codes(values: IntArray, known: IntArray) -> IntArray:
    """Position of each value in the sorted `known`; ``len(known)`` for an unknown value."""
    place = np.searchsorted(known, values)
    found = known[np.minimum(place, len(known) - 1)] == values if len(known) else False
    return np.where(found, place, len(known))


def _barred(query_cams: IntArray, gallery_cams: IntArray, exclusion: Exclusion) -> BoolArray:
    """(query cameras, gallery cameras) table of the pairs that the exclusion names."""
    pairs = exclusion.cam_pairs
    rows = [[(int(q), int(g)) in pairs for g in gallery_cams] for q in query_cams]
    return np.array(rows, bool).reshape(len(query_cams), len(gallery_cams))


def _run_rows(
    per_query: tuple[npt.NDArray[Any], ...], shared: tuple[Any, ...], queries: int, images: int
) -> bool:
    """Judge all queries, in several threads if there are many; False if a similarity is NaN."""
    kernel = _kernel()
    threads = min(os.cpu_count() or 1, 1 + queries * images // _THREAD_WORK)
    cuts = [queries * part // threads for part in range(threads + 1)]

    def part(index: int) -> bool:
        rows = slice(cuts[index], cuts[index + 1])
        return kernel(*(array[rows] for array in per_query), *shared)

    if threads == 1:
        return part(0)
    with ThreadPoolExecutor(threads) as pool:
        return all(list(pool.map(part, range(threads))))


@cache
def _kernel() -> Callable[..., bool]:
    """`_judge_rows` compiled by numba, which is imported only here because that takes seconds."""
    from numba import njit

    return cast("Callable[..., bool]", njit(nogil=True, cache=True)(_judge_rows))


def _judge_rows(
    sim: FloatArray, query_codes: IntArray, query_cams: IntArray,
    first: IntArray, precision: DoubleArray, inverse_penalty: DoubleArray,
    matches: IntArray, compared: IntArray,
    columns: IntArray, codes: IntArray, cams: IntArray, order: IntArray, starts: IntArray,
    identities: int, barred: BoolArray, same_identity_only: bool, unique_identities: bool,
) -> bool:  # fmt: skip
    """Fill the five result arrays for some queries; False if a similarity is NaN.

    Gallery image g (position in the trial's gallery) is column ``columns[g]`` of `sim`;
    ``order[starts[c]:starts[c + 1]]`` are the images of identity code c in ascending order.
    """
    scores, places = np.empty(len(columns), sim.dtype), np.empty(len(columns), np.int64)
    seen = np.full(identities + 1, -1)  # the last query that counted this identity
    for q in range(len(query_codes)):
        row, code, closed = sim[q], query_codes[q], barred[query_cams[q]]
        count = 0
        for g in order[starts[code] : starts[code + 1]]:
            if not closed[cams[g]]:
                scores[count], places[count] = row[columns[g]], g
                count += 1
        best_first = np.argsort(-scores[:count], kind="mergesort")  # stable, so ties by position
        top, where = scores[:count][best_first], places[:count][best_first]
        last = top[-1] if count else np.inf
        ahead = np.zeros(count + 1, np.int64)  # images between one match and the next better one
        kept, others = count, 0
        for g in range(len(columns)):
            value = row[columns[g]]
            if np.isnan(value):
                return False
            mine = codes[g] == code
            if mine or (closed[cams[g]] and not same_identity_only):
                continue
            kept += 1
            if value < last:
                continue
            low, high = 0, count
            while low < high:  # how many matches are better than this image
                middle = (low + high) // 2
                worse = top[middle] < value or (top[middle] == value and where[middle] > g)
                low, high = (low, middle) if worse else (middle + 1, high)
            ahead[low] += 1
            if low == 0 and seen[codes[g]] != q:
                seen[codes[g]] = q
                others += 1
        matches[q], compared[q] = count, kept
        if count:
            first[q] = 1 + (others if unique_identities else ahead[0])
            position = np.cumsum(ahead[:count]) + np.arange(1, count + 1)
            precision[q] = np.mean(np.arange(1, count + 1) / position)
            inverse_penalty[q] = count / position[-1]
    return True
