"""A threshold from strangers alone, where too few people are known in both modalities.

Only how similar images of different people are can be measured then: for each query the best
cosine among images that do not show its person. What is above that is unusual for a stranger. How
likely it is the person, and how many people are found, stays unknown.

Strangers are images of people known to be different. Where nobody is known, the group of images
most similar to a query may show its person and is left out; all others are taken for strangers. If
the person is not there, the most similar stranger is left out, so the threshold is rather too low.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from visir.core.types import BoolArray, FloatArray, InputError, IntArray, Modality
from visir.evaluation.confidence import Curve

ROUNDS, QUERIES = 24, 400
"""Galleries that are drawn of each size, and queries of each gallery."""
_MIN_QUERIES = 10  # that have strangers
_MIN_SPREAD = 1e-3  # of cosines; equal ones would give an endless slope


class Best(NamedTuple):
    """T searches among strangers, all (T,): best cosine, images searched, number of the query."""

    scores: FloatArray
    images: IntArray
    query: IntArray


def measure_strangers(
    features: Mapping[Modality, FloatArray],
    pids: Mapping[Modality, IntArray] | None,
    groups: Mapping[Modality, IntArray] | None,
    false_alarms: float,
) -> tuple[Curve, float, float]:
    """Fit the share of strangers' searches whose best cosine is lower.

    Args:
        features: (N, D) unit embeddings of each modality.
        pids: (N,) who is on each, -1 if unknown; None if nobody is known.
        groups: (N,) clusters of each modality, -1 for none; None if there are none. Used without
            `pids`.
        false_alarms: share of searches that may pass the threshold.

    Returns:
        The curve, its threshold, and the share of searches by other queries that pass it.

    Raises:
        InputError: too few queries have a stranger in the other modality.
    """
    rng = np.random.default_rng(0)
    found = _searched(features, pids, groups, rng)
    queries = np.unique(found.query)
    if len(queries) < _MIN_QUERIES:
        raise InputError(
            f"only {len(queries)} images have a stranger in the other modality, but a calibration "
            f"needs {_MIN_QUERIES}; give more images"
        )
    passed = []
    halves = np.array_split(rng.permutation(queries), 2)
    for fitted, others in (halves, halves[::-1]):
        curve, threshold = _fitted(_of(found, fitted), false_alarms)
        rest = _of(found, others)
        passed.append((curve.confidence(rest.scores, rest.images) >= threshold).mean())
    return *_fitted(found, false_alarms), float(np.mean(passed))


def _searched(
    features: Mapping[Modality, FloatArray],
    pids: Mapping[Modality, IntArray] | None,
    groups: Mapping[Modality, IntArray] | None,
    rng: np.random.Generator,
) -> Best:
    """Search drawn galleries of several sizes for the most similar stranger of each query."""
    found = [Best(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))]
    first = 0
    for side in Modality:
        cosines_QG = features[side] @ features[side.other].T
        if pids is None:
            strange_QG = _beyond_the_nearest(
                cosines_QG, None if groups is None else groups[side.other]
            )
        else:
            own, other = pids[side][:, None], pids[side.other][None]
            strange_QG = (own >= 0) & (other >= 0) & (own != other)
        queries, count = np.flatnonzero(strange_QG.any(axis=1)), cosines_QG.shape[1]
        for size in np.unique(np.geomspace(min(2, count), max(count, 1), 6).astype(int)):
            for _ in range(ROUNDS):
                rows = rng.permutation(queries)[:QUERIES]
                part = np.ix_(rows, rng.choice(count, size, replace=False))
                found.append(_best(cosines_QG[part], strange_QG[part], first + rows))
        first += len(cosines_QG)
    scores, images, query = zip(*found, strict=True)
    return Best(np.concatenate(scores), np.concatenate(images), np.concatenate(query))


def _best(cosines_QG: FloatArray, strange_QG: BoolArray, numbers_Q: IntArray) -> Best:
    """The best cosine of each query that has strangers in a gallery."""
    some = strange_QG.any(axis=1)
    cosines = np.where(strange_QG, cosines_QG, -np.inf).max(axis=1, initial=-np.inf)
    return Best(cosines[some].astype(np.float32), strange_QG[some].sum(axis=1), numbers_Q[some])


def _beyond_the_nearest(cosines_QG: FloatArray, groups_G: IntArray | None) -> BoolArray:
    """(Q, G) whether an image is in another group than the one most similar to the query."""
    alone_G = np.arange(cosines_QG.shape[1])
    of_G = alone_G if groups_G is None else np.where(groups_G < 0, -1 - alone_G, groups_G)
    return np.asarray(of_G[None] != of_G[cosines_QG.argmax(axis=1)][:, None], np.bool_)


def _of(found: Best, queries: IntArray) -> Best:
    kept = np.isin(found.query, queries)
    return Best(found.scores[kept], found.images[kept], found.query[kept])


def _fitted(found: Best, false_alarms: float) -> tuple[Curve, float]:
    """A logistic distribution around a line over the logarithm of the number of images."""
    inputs = np.stack([np.log(found.images), np.ones(len(found.images))], axis=1)
    (growth, middle), *_ = np.linalg.lstsq(inputs, found.scores.astype(np.float64), rcond=None)
    spread = float(np.std(found.scores - inputs @ (growth, middle))) * math.sqrt(3) / math.pi
    scale = max(spread, _MIN_SPREAD)
    curve = Curve(1 / scale, -max(float(growth), 0.0) / scale, -float(middle) / scale)
    threshold = np.quantile(curve.confidence(found.scores, found.images), 1 - false_alarms)
    return curve, float(threshold)
