"""Tests of matches by their margin: by how much the best match is more similar than the second.

Where a person is missing in the other modality, the person's cluster still has a best match there:
somebody else's, with a margin that is due to chance. If the tail of a cluster's similarities
s1 >= s2 >= s3 ... is exponential, i (s_i - s_i+1) has one distribution for all i (Rényi, 1953). So
2 (s2 - s3) of all clusters together is a sample of what the margin s1 - s2 is by chance.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visir.core.types import FloatArray, Modality

VIS, IR = Modality.VISIBLE, Modality.INFRARED
_ONE_PERSON = 0.6  # two clusters of a modality with this cosine may show one person
_LAMBDA = 0.3  # p-values above it are thought to be of margins by chance only (Storey's lambda)
_NEXT = 64  # largest similarities of a cluster among which those of three people are looked for


class Between(NamedTuple):
    """Two shares, 0 to 1; the truth is thought to lie between them."""

    least: float
    most: float


def p_values(
    sims: FloatArray, visible: FloatArray, infrared: FloatArray
) -> dict[Modality, FloatArray]:
    """The p-value of each cluster's margin: how probable one as large is by chance.

    Clusters of the other modality that are similar to a better one are passed over, since they may
    show the same person. 1 for a cluster with fewer than three different ones there.

    Args:
        sims: (V, I) cosines of visible and infrared prototypes.
        visible: (V, V) those within the visible modality.
        infrared: (I, I) those within the infrared modality.

    Returns:
        (V,) and (I,), by modality.
    """
    return {VIS: _p_values(sims, infrared), IR: _p_values(sims.T, visible)}


def _p_values(sims: FloatArray, others: FloatArray) -> FloatArray:
    """(C,) by (C, P) cosines to the other modality and (P, P) within it; one null for all rows."""
    found = np.array([_spacings(row, others) for row in sims], np.float32).reshape(-1, 2)
    by_chance = np.sort(found[np.isfinite(found[:, 1]), 1])
    smaller = np.searchsorted(by_chance, found[:, 0])  # NaN is behind all
    p_value = (len(by_chance) - smaller + 1) / (len(by_chance) + 1)
    return np.where(np.isnan(found[:, 0]), 1.0, p_value).astype(np.float32)


def _spacings(sims: FloatArray, others: FloatArray) -> tuple[float, float]:
    """A cluster's margin and a margin by chance: s1 - s2 and 2 (s2 - s3) of different people."""
    most = min(_NEXT, len(sims))
    largest = np.argpartition(-sims, most - 1)[:most] if most else np.arange(0)
    best: list[int] = []
    for cluster in largest[np.argsort(-sims[largest], kind="stable")].tolist():
        if (others[cluster, best] < _ONE_PERSON).all():
            best.append(cluster)
        if len(best) == 3:
            first, second, third = sims[best]
            return float(first - second), float(2 * (second - third))
    return float("nan"), float("nan")


def share_by_chance(values: FloatArray, weights: np.ndarray | None = None) -> float:
    """Estimated share of clusters whose margin is due to chance (Storey, JRSS B 2002, Eq. 7).

    An upper limit: where similarities tell little, the margins of right matches are small too.

    Args:
        values: (C,) p-values.
        weights: (C,) of the clusters, such as their sizes; equal ones if omitted.
    """
    if not len(values):
        return 1.0
    weights = np.ones(len(values)) if weights is None else weights
    above = weights[values > _LAMBDA].sum() / weights.sum()
    return min(1.0, float(above / (1 - _LAMBDA)))


def q_values(values: FloatArray) -> FloatArray:
    """The share of margins by chance among those whose p-value is no larger, estimated.

    Storey, JRSS B 2002.

    Args:
        values: (C,) p-values.

    Returns:
        (C,).
    """
    order = np.argsort(values, kind="stable")
    rank = np.arange(1, len(order) + 1)
    rate = share_by_chance(values) * values[order] * len(order) / rank
    found = np.empty_like(values)
    found[order] = np.minimum.accumulate(rate[::-1])[::-1]
    return found
