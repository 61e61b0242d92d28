"""Which visible cluster and which infrared cluster are one person - if any is.

Every association answers in the same form, `Association`: what share of a cluster's partner each
cluster of the other modality is. A row of zeros is the answer "no partner". Images are compared
block by block; only tables of clusters by clusters are ever held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.memory import prototypes
from visir.cluster.neighbors import nearest, nearest_across
from visir.core.types import FloatArray, IntArray

AssociationName = Literal["count", "greedy", "ranking", "mutual", "balanced", "unbalanced"]

_BLOCK = 4096  # visible images compared at once


class Side(NamedTuple):
    """The images of one modality: (N, D) unit features, (N,) pseudo-labels, -1 for outliers."""

    features: Tensor
    labels: IntArray

    @property
    def clusters(self) -> int:
        """How many there are."""
        return int(self.labels.max(initial=-1)) + 1


class Association(NamedTuple):
    """Partners of clusters across the modalities, in both directions.

    Attributes:
        vis_to_ir: (C_V, C_I), of every visible cluster the shares of the infrared ones in its
            partner; a row sums to 1 at most, to 0 where there is no partner.
        ir_to_vis: (C_I, C_V), the same of every infrared cluster.
    """

    vis_to_ir: FloatArray
    ir_to_vis: FloatArray

    def infrared_partners(self) -> IntArray:
        """(C_V,) likeliest infrared partner of every visible cluster, -1 for none."""
        return _likeliest(self.vis_to_ir)


def _likeliest(shares: FloatArray) -> IntArray:
    """The largest share of every row that gives away more than half, -1 elsewhere."""
    if not shares.shape[1]:
        return np.full(len(shares), -1, np.int64)
    return np.where(shares.sum(axis=1) > 0.5, shares.argmax(axis=1), -1)


def count_priority(vis: Side, ir: Side, threshold: float = 0.5) -> Association:
    """Count-priority selection (ADCA, MM 2022, Sec. 3.3): one-to-one, by agreeing image pairs.

    Image pairs with a cosine of at least `threshold` vote for their pair of clusters; pairs of
    clusters are accepted by falling votes while neither side is taken. Ties go to the lower
    visible, then the lower infrared label.
    """
    votes = _votes(vis, ir, threshold)
    chosen, taken = np.zeros(votes.shape, bool), np.zeros(votes.shape[1], bool)
    for a, b in _by_falling(votes, np.nonzero(votes)):
        if not chosen[a].any() and not taken[b]:
            chosen[a, b] = taken[b] = True
    return _one_to_one(chosen)


def _votes(vis: Side, ir: Side, threshold: float) -> FloatArray:
    """Image pairs of at least this cosine, counted by their pair of clusters."""
    votes = torch.zeros(vis.clusters, ir.clusters, device=vis.features.device)
    columns, target_ir = _clustered(ir)
    right_MD = ir.features[columns]
    rows, target_vis = _clustered(vis)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        agree = (vis.features[rows[part]] @ right_MD.T >= threshold).float()
        per_cluster = votes.new_zeros(len(agree), ir.clusters).index_add_(1, target_ir, agree)
        votes.index_add_(0, target_vis[part], per_cluster)
    return np.asarray(votes.cpu(), np.float32)


def _clustered(side: Side) -> tuple[Tensor, Tensor]:
    """Row numbers and labels of the images that are no outliers."""
    rows = np.flatnonzero(side.labels >= 0)
    device = side.features.device
    return torch.from_numpy(rows).to(device), torch.from_numpy(side.labels[rows]).to(device)


def _by_falling(values: FloatArray, pairs: tuple[IntArray, ...]) -> Iterator[tuple[int, int]]:
    """Pairs (row, column) by falling value, ties by row, then column."""
    rows, columns = pairs
    order = np.argsort(-values[rows, columns], kind="stable")
    yield from zip(rows[order].tolist(), columns[order].tolist(), strict=True)


def _one_to_one(chosen: np.ndarray) -> Association:
    shares = chosen.astype(np.float32)
    return Association(shares, shares.T.copy())


def similarity(vis: Side, ir: Side) -> FloatArray:
    """(C_V, C_I) cosines of the clusters' prototypes."""
    sim = prototypes(*vis) @ prototypes(*ir).T
    return np.asarray(sim.cpu(), np.float32)


def mutual(vis: Side, ir: Side) -> Association:
    """Pairs of clusters whose prototypes are each other's most similar; the others have nobody."""
    sim = similarity(vis, ir)
    if not sim.size:
        return _one_to_one(np.zeros(sim.shape, bool))
    chosen = np.zeros(sim.shape, bool)
    best_ir, best_vis = sim.argmax(axis=1), sim.argmax(axis=0)
    rows = np.flatnonzero(best_vis[best_ir] == np.arange(len(sim)))
    chosen[rows, best_ir[rows]] = True
    return _one_to_one(chosen)


def greedy(vis: Side, ir: Side, sharers: int = 2) -> Association:
    """Similarity-greedy matching (TokenMatcher, AAAI 2025): nobody is left without a partner.

    Pairs of clusters are accepted by falling similarity of their prototypes. Every cluster of the
    modality that has more takes one partner; a partner is taken at most `sharers` times while any
    other is free. Partners nobody took then look for their own best.

    `ir_to_vis` names of several sharers the one accepted first.
    """
    sim = similarity(vis, ir)
    if not sim.size:
        return _one_to_one(np.zeros(sim.shape, bool))
    if sim.shape[0] >= sim.shape[1]:
        return Association(*_limited(sim, sharers))
    backward, forward = _limited(sim.T.copy(), sharers)
    return Association(forward, backward)


def _limited(sim: FloatArray, sharers: int) -> tuple[FloatArray, FloatArray]:
    """Shares of columns in rows (each takes one) and of rows in columns (the first that came)."""
    forward, backward = np.zeros_like(sim), np.zeros_like(sim.T)
    left, right = np.zeros(len(sim), int), np.zeros(sim.shape[1], int)
    everyone = np.nonzero(np.ones(sim.shape, bool))
    for a, b in _by_falling(sim, everyone):
        if not left[a] and right[b] < sharers:
            backward[b, a] = right[b] == 0
            forward[a, b] = left[a] = 1
            right[b] += 1
    forward[left == 0, sim[left == 0].argmax(axis=1)] = 1  # more rows than places
    used = np.zeros(len(sim), bool)
    for a, b in _by_falling(sim, everyone):
        if not right[b] and not used[a]:
            backward[b, a] = right[b] = used[a] = 1
    return forward, backward


def sharers(shares: np.ndarray, first: IntArray, from_first: bool) -> IntArray:
    """Which cluster has the same partner (homogeneous fusion).

    Only where exactly two share one, and one way only: from the one accepted first to the other, or
    back.

    Args:
        shares: (C, P), one partner to each cluster.
        first: (P,) the cluster each partner accepted first.
        from_first: the way.

    Returns:
        (C,) the mate, -1 for none.
    """
    partner = shares.argmax(axis=1)
    mates = np.full(len(shares), -1, np.int64)
    for shared in np.flatnonzero(np.bincount(partner, minlength=shares.shape[1]) == 2):
        pair = np.flatnonzero(partner == shared)
        one, other = pair if pair[0] == first[shared] else pair[::-1]
        if from_first:
            mates[one] = other
        else:
            mates[other] = one
    return mates


def transport(
    vis: Side, ir: Side, temperature: float = 0.05, slack: float | None = None, rounds: int = 200
) -> Association:
    """Entropic optimal transport between the clusters, every one of them weighing the same.

    Balanced (Cuturi, NeurIPS 2013), every cluster gives all it has away. Unbalanced (Chizat et
    al., Math. Comp. 2018), what a cluster gives may fall short of its weight at a price, and it
    does where nobody is similar: such a cluster has a small share of a partner, or none.

    Args:
        vis: the visible images.
        ir: the infrared images.
        temperature: of the similarities; small is near one-to-one.
        slack: price of a marginal that is missed, in units of similarity; None for balanced.
        rounds: Sinkhorn iterations.
    """
    sim = similarity(vis, ir).astype(np.float64)
    if not sim.size:
        return _one_to_one(np.zeros(sim.shape, bool))
    kernel = np.exp((sim - sim.max()) / temperature)
    soft = 1.0 if slack is None else slack / (slack + temperature)
    a, b = 1 / sim.shape[0], 1 / sim.shape[1]
    left, right = np.ones(sim.shape[0]), np.ones(sim.shape[1])
    for _ in range(rounds):
        left = (a / (kernel @ right)) ** soft
        right = (b / (kernel.T @ left)) ** soft
    plan = left[:, None] * kernel * right
    return Association(_shares(plan / a), _shares(plan.T / b))


def _shares(mass: np.ndarray) -> FloatArray:
    """Rows scaled down to a sum of 1 where they exceed it."""
    scaled: FloatArray = (mass / np.maximum(mass.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return scaled


def collaborative_ranking(
    vis_views: Sequence[Tensor], ir_views: Sequence[Tensor], ir_labels: IntArray, ranked: int = 20,
    smoothing: int = 5,
) -> IntArray:  # fmt: skip
    """Infrared cluster of every visible image (SDCL, CVPR 2024, collaborative ranking association).

    Two descriptors rank the infrared images. Of the labels the first one's list holds, the label
    that occurs most often in the second one's list is taken (of equals the one ranked first); then
    every image takes the commonest label among its nearest visible images.

    Args:
        vis_views: two (N, D) unit descriptors of the visible images.
        ir_views: the same of the infrared images, (M, D).
        ir_labels: (M,) pseudo-labels, -1 for outliers; -1 is a label as good as others here.
        ranked: length of the lists.
        smoothing: visible images that agree on a label, the image itself included.

    Returns:
        (N,) infrared label of every visible image, -1 for none.
    """
    first, second = (
        ir_labels[nearest_across(vis, ir, ranked)]
        for vis, ir in zip(vis_views, ir_views, strict=True)
    )
    support = (first[:, :, None] == second[:, None, :]).sum(axis=2)
    rows = np.arange(len(first))
    own = first[rows, support.argmax(axis=1)]
    both = F.normalize(torch.cat(list(vis_views), dim=1), dim=1)
    around = own[nearest(both, smoothing)]
    votes = (around[:, :, None] == around[:, None, :]).sum(axis=2)
    # Of labels as common as each other the lowest, as the largest of a histogram would be.
    commonest = np.where(votes == votes.max(axis=1, keepdims=True), around, np.iinfo(np.int64).max)
    lowest: IntArray = commonest.min(axis=1)
    return lowest


def ranking(vis: Side, ir: Side, ranked: int = 20, smoothing: int = 5) -> Association:
    """Collaborative ranking with a single descriptor: a vote of the nearest, smoothed."""
    across = collaborative_ranking(
        [vis.features] * 2, [ir.features] * 2, ir.labels, ranked, smoothing
    )
    return by_majority(vis.labels, across, ir.clusters)


def by_majority(own: IntArray, across: IntArray, clusters: int) -> Association:
    """What labels of images across the modalities say of clusters: the share of each label.

    Args:
        own: (N,) cluster of each image within its modality, -1 for outliers.
        across: (N,) its cluster in the other modality, -1 for none.
        clusters: of the other modality.
    """
    table = np.zeros((int(own.max(initial=-1)) + 1, clusters), np.float32)
    both = (own >= 0) & (across >= 0)
    np.add.at(table, (own[both], across[both]), 1)
    forward = table / np.maximum(np.bincount(own[own >= 0], minlength=len(table)), 1)[:, None]
    backward = table.T / np.maximum(table.sum(axis=0), 1)[:, None]
    return Association(forward.astype(np.float32), backward.astype(np.float32))
