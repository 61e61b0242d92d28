"""By how much a cluster's best match leads the second one, and whether chance explains that lead.

Where a person is missing in the other modality, the person's cluster still has a best match there:
somebody else's. It leads the second one by chance only. How large such leads are, the spacings of
the next similarities tell: the i-th spacing times i has one distribution for all i if the tail of
the similarities is exponential (Rényi, 1953).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visir.core.types import FloatArray, Modality

VIS, IR = Modality.VISIBLE, Modality.INFRARED
_ONE_PERSON = 0.6  # cosine of two clusters of a modality that may be one person's
_CHANCE = 0.3  # probability above which leads are those by chance alone, as good as all
_NEXT = 64  # similarities of a cluster among which its best matches are looked for


class Between(NamedTuple):
    """Two shares, 0 to 1; the truth is thought to lie between them."""

    least: float
    most: float


def probabilities(
    sims: FloatArray, visible: FloatArray, infrared: FloatArray
) -> dict[Modality, FloatArray]:
    """For each cluster, how probable a lead as large as its own is by chance.

    Clusters of the other modality that are similar to a better one are passed over, since they may
    show the same person. 1 for a cluster with fewer than three different ones there.

    Args:
        sims: (V, I) cosines of visible and infrared prototypes.
        visible: (V, V) those within the visible modality.
        infrared: (I, I) those within the infrared modality.

    Returns:
        (V,) and (I,), by modality.
    """
    return {VIS: _probabilities(sims, infrared), IR: _probabilities(sims.T, visible)}


def _probabilities(sims: FloatArray, others: FloatArray) -> FloatArray:
    found = np.array([_spacings(row, others) for row in sims], np.float32).reshape(-1, 2)
    by_chance = np.sort(found[np.isfinite(found[:, 1]), 1])
    smaller = np.searchsorted(by_chance, found[:, 0])  # NaN is behind all
    likely = (len(by_chance) - smaller + 1) / (len(by_chance) + 1)
    return np.where(np.isnan(found[:, 0]), 1.0, likely).astype(np.float32)


def _spacings(sims: FloatArray, others: FloatArray) -> tuple[float, float]:
    """First spacing of the similarities to different people, and twice the second one."""
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


def share_by_chance(likely: FloatArray, weights: np.ndarray | None = None) -> float:
    """Estimated share of clusters whose lead is one by chance (Storey, JRSS B 2002, Eq. 7).

    An upper limit: where similarities tell little, the leads of right matches are small too.

    Args:
        likely: (C,) probabilities.
        weights: (C,) of the clusters, such as their sizes; equal ones if omitted.
    """
    if not len(likely):
        return 1.0
    of = np.ones(len(likely)) if weights is None else weights
    return min(1.0, float(of[likely > _CHANCE].sum() / of.sum() / (1 - _CHANCE)))


def rates(likely: FloatArray) -> FloatArray:
    """(C,) estimated share of leads by chance among those at least as improbable (q-values)."""
    order = np.argsort(likely, kind="stable")
    rank = np.arange(1, len(order) + 1)
    rate = share_by_chance(likely) * likely[order] * len(order) / rank
    found = np.empty_like(likely)
    found[order] = np.minimum.accumulate(rate[::-1])[::-1]
    return found
