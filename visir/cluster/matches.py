"""Matches of visible and infrared clusters, and those that are mutual."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from visir.cluster import margins
from visir.cluster.memory import prototypes
from visir.core.types import FloatArray, IntArray, Modality


class Side(NamedTuple):
    """The images of one modality: (N, D) unit features; (N,) pseudo-labels, -1 for outliers."""

    features: Tensor
    labels: IntArray

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return int(self.labels.max(initial=-1)) + 1


class Association(NamedTuple):
    """Weights between the clusters of both modalities, in both directions.

    Attributes:
        vis_to_ir: (C_V, C_I), for every visible cluster the weights of the infrared clusters; a row
            sums to at most 1, and to 0 if the cluster has no match.
        ir_to_vis: (C_I, C_V), the same for every infrared cluster.
    """

    vis_to_ir: FloatArray
    ir_to_vis: FloatArray

    def infrared_partners(self) -> IntArray:
        """(C_V,) matched infrared cluster of every visible cluster, -1 for none.

        As metrics count: a cluster has no match if half of its weight or more is missing.
        """
        return _strongest(self.vis_to_ir, 0.5)

    def matches(self) -> tuple[IntArray, IntArray]:
        """The heaviest match of every visible and of every infrared cluster, -1 for none.

        As losses towards one match need it: the heaviest counts, however light it is.
        """
        return _strongest(self.vis_to_ir, 0.0), _strongest(self.ir_to_vis, 0.0)

    def people(self) -> dict[Modality, IntArray]:
        """A number for every cluster: clusters that hang together by `matches` have one."""
        there, back = self.matches()
        visible, infrared = np.flatnonzero(there >= 0), np.flatnonzero(back >= 0)
        ends = (
            np.concatenate([visible, back[infrared]]),
            len(there) + np.concatenate([there[visible], infrared]),
        )
        total = len(there) + len(back)
        links = sparse.coo_array((np.ones(len(ends[0])), ends), shape=(total, total))
        _, found = connected_components(links, directed=False)
        vis, ir = np.split(found.astype(np.int64), [len(there)])
        return {Modality.VISIBLE: vis, Modality.INFRARED: ir}


def _strongest(shares: FloatArray, least: float) -> IntArray:
    """The column of the largest weight in every row that sums to more than `least`, else -1."""
    if not shares.shape[1]:
        return np.full(len(shares), -1, np.int64)
    return np.where(shares.sum(axis=1) > least, shares.argmax(axis=1), -1)


def one_to_one(chosen: np.ndarray) -> Association:
    """Matches in both directions from (C_V, C_I) bool, at most one in a row and in a column."""
    shares = chosen.astype(np.float32)
    return Association(shares, shares.T.copy())


def similarity(vis: Side, ir: Side) -> FloatArray:
    """(C_V, C_I) cosines between the prototypes of the clusters."""
    sim = prototypes(*vis) @ prototypes(*ir).T
    return np.asarray(sim.cpu(), np.float32)


def mutual(
    vis: Side, ir: Side, scaled: int = 0, one_sided: float = 1.0, chance: float = 1.0
) -> Association:
    """Match clusters whose prototypes are mutually most similar; the others have no match.

    Args:
        vis: the visible images.
        ir: the infrared images.
        scaled: number of a cluster's largest similarities whose mean r says how near it is to all.
            Clusters are matched by 2 s - r_visible - r_infrared in place of their cosine s (CSLS of
            Conneau et al., ICLR 2018, for words of two languages), so that a cluster that is
            similar to all is not everybody's match; 0 to match by s.
        one_sided: a cluster without a mutual match takes the cluster that is most similar to it, if
            the similarity is above this quantile of those of the mutual matches; 1 for never.
        chance: largest estimated share of matches by chance: the largest q-value of the margin of
            a cluster's best match, by plain cosines (`visir.cluster.margins`). A mutual match is
            kept if one of its two clusters passes, one of one side if the cluster that takes it
            does; 1 for all.
    """
    sim = similarity(vis, ir)
    chosen = np.zeros(sim.shape, bool)
    if not sim.size:
        return one_to_one(chosen)
    sure = [np.ones(clusters, bool) for clusters in sim.shape]
    if chance < 1:
        values = margins.p_values(sim, similarity(vis, vis), similarity(ir, ir))
        sure = [margins.q_values(of) <= chance for of in values.values()]
    if scaled:
        sim = 2 * sim - _nearness(sim, scaled)[:, None] - _nearness(sim.T, scaled)[None]
    best_ir, best_vis = sim.argmax(axis=1), sim.argmax(axis=0)
    rows = np.flatnonzero(best_vis[best_ir] == np.arange(len(sim)))
    rows = rows[sure[0][rows] | sure[1][best_ir[rows]]]
    chosen[rows, best_ir[rows]] = True
    if one_sided == 1 or not len(rows):
        return one_to_one(chosen)
    least = float(np.quantile(sim[chosen], one_sided))
    return Association(
        _with_best(sim, chosen, least, sure[0]), _with_best(sim.T, chosen.T, least, sure[1])
    )


def _with_best(sim: FloatArray, chosen: np.ndarray, least: float, sure: np.ndarray) -> FloatArray:
    """The chosen matches, and for sure rows without one the largest similarity above `least`."""
    best, rows = sim.argmax(axis=1), np.arange(len(sim))
    added = ~chosen.any(axis=1) & (sim[rows, best] > least) & sure
    shares = chosen.astype(np.float32)
    shares[rows[added], best[added]] = 1.0
    return shares


def _nearness(sim: FloatArray, count: int) -> FloatArray:
    """Mean of the largest similarities of each row."""
    largest = np.sort(sim, axis=1)[:, -count:]
    return np.asarray(largest.mean(axis=1), np.float32)
