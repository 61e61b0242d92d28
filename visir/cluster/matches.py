"""Matches of visible and infrared clusters, and those that are mutual."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from visir.cluster.margins import IR, VIS, compared, p_values, q_values
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
    visible, infrared = prototypes(*vis), prototypes(*ir)
    shape = len(visible), len(infrared)
    found = Association(np.zeros(shape, np.float32), np.zeros(shape[::-1], np.float32))
    if not min(shape):
        return found
    sure = {VIS: np.ones(shape[0], bool), IR: np.ones(shape[1], bool)}
    if chance < 1:
        sure = {m: q_values(of) <= chance for m, of in p_values(visible, infrared).items()}
    best, sims = _best(visible, infrared, scaled)
    rows = np.flatnonzero(best[IR][best[VIS]] == np.arange(shape[0]))
    rows = rows[sure[VIS][rows] | sure[IR][best[VIS][rows]]]
    matched = {VIS: rows, IR: best[VIS][rows]}
    least = float("inf")
    if one_sided < 1 and len(rows):
        least = float(np.quantile(sims[VIS][rows], one_sided))
    for modality, shares in zip((VIS, IR), found, strict=True):
        added = sure[modality] & (sims[modality] > least)
        added[matched[modality]] = False
        shares[added, best[modality][added]] = 1.0
        shares[matched[modality], matched[modality.other]] = 1.0
    return found


def _best(
    visible: Tensor, infrared: Tensor, scaled: int
) -> tuple[dict[Modality, IntArray], dict[Modality, FloatArray]]:
    """The most similar cluster of the other modality, and how similar it is, of every cluster.

    Args:
        visible: (V, D) unit prototypes.
        infrared: (I, D) unit prototypes.
        scaled: number of similarities that others are scaled by, as `mutual` has it.
    """
    near = {m: _nearness(visible, infrared, m, scaled) for m in (VIS, IR) if scaled}
    best, sims = {}, {}
    for modality, axis in {VIS: 1, IR: 0}.items():
        found = []
        for vis, ir, sim in compared(visible, infrared, modality):
            if scaled:
                sim = 2 * sim - near[VIS][vis, None] - near[IR][None, ir]
            found.append((sim.argmax(axis=axis), sim.max(axis=axis)))
        columns, values = zip(*found, strict=True)
        best[modality], sims[modality] = np.concatenate(columns), np.concatenate(values)
    return best, sims


def _nearness(visible: Tensor, infrared: Tensor, modality: Modality, count: int) -> FloatArray:
    """Mean of the largest similarities of each cluster of a modality."""
    found = []
    for *_, sim in compared(visible, infrared, modality):
        rows = sim if modality is VIS else sim.T
        kept = min(count, rows.shape[1])
        largest = np.sort(np.partition(rows, -kept, axis=1)[:, -kept:], axis=1)
        found.append(largest.mean(axis=1))
    return np.concatenate(found)
