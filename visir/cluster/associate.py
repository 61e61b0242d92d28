"""Associations: which visible cluster and which infrared cluster show the same person, if any.

Every association returns an `Association`, a weight matrix between visible and infrared clusters. A
cluster may have no match: a row of zeros. Images are compared block by block; only matrices of
clusters by clusters are held whole.

A new one is a function `(vis, ir, options) -> Association` and one line in `ASSOCIATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.joint import joint
from visir.cluster.matches import Association, Side, mutual, one_to_one, similarity
from visir.cluster.neighbors import nearest, nearest_across
from visir.core.bounds import OneOf
from visir.core.config import did_you_mean
from visir.core.types import FloatArray, InputError, IntArray

_BLOCK = 4096  # visible images compared at once


class Options(NamedTuple):
    """Settings of the associations; each reads its own.

    Attributes:
        vote_threshold: minimum cosine of two images that vote for their clusters ("count").
        sharers: clusters that may take the same partner ("greedy").
        ranked: length of an image's ranked list ("ranking").
        smoothing: visible images that agree on a label ("ranking").
        scaled: nearest clusters that similarities are scaled by ("mutual-scaled").
        one_sided: how strong a match must be that is not mutual ("mutual-scaled").
        chance: largest estimated share of matches by chance ("mutual-scaled").
        joint_eps, min_samples, k1, k2: of the one clustering of both modalities ("joint").
        transport_temperature: of similarities ("balanced", "unbalanced").
        transport_slack: marginal penalty, in units of cosine ("unbalanced").
    """

    vote_threshold: float = 0.5
    sharers: int = 2
    ranked: int = 20
    smoothing: int = 5
    scaled: int = 5
    one_sided: float = 1.0
    chance: float = 1.0
    joint_eps: float = 0.5
    min_samples: int = 4
    k1: int = 16
    k2: int = 4
    transport_temperature: float = 0.05
    transport_slack: float = 0.1


def count_priority(vis: Side, ir: Side, threshold: float = 0.5) -> Association:
    """Count-priority selection (ADCA, MM 2022, Sec. 3.3): one-to-one, by agreeing image pairs.

    Image pairs with a cosine of at least `threshold` vote for their pair of clusters; pairs of
    clusters are accepted by decreasing votes while neither cluster is matched. Ties go to the lower
    visible, then the lower infrared label.
    """
    votes = _votes(vis, ir, threshold)
    chosen, taken = np.zeros(votes.shape, bool), np.zeros(votes.shape[1], bool)
    for a, b in _by_decreasing(votes, np.nonzero(votes)):
        if not chosen[a].any() and not taken[b]:
            chosen[a, b] = taken[b] = True
    return one_to_one(chosen)


def _votes(vis: Side, ir: Side, threshold: float) -> FloatArray:
    """Image pairs with at least this cosine, counted per pair of clusters."""
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
    """Row numbers and labels of the images that are not outliers."""
    rows = np.flatnonzero(side.labels >= 0)
    device = side.features.device
    return torch.from_numpy(rows).to(device), torch.from_numpy(side.labels[rows]).to(device)


def _by_decreasing(values: FloatArray, pairs: tuple[IntArray, ...]) -> Iterator[tuple[int, int]]:
    """Pairs (row, column) by decreasing value, ties by row, then column."""
    rows, columns = pairs
    order = np.argsort(-values[rows, columns], kind="stable")
    yield from zip(rows[order].tolist(), columns[order].tolist(), strict=True)


def greedy(vis: Side, ir: Side, sharers: int = 2) -> Association:
    """Similarity-greedy matching (TokenMatcher, AAAI 2025): every cluster gets a partner.

    Pairs of clusters are accepted by decreasing similarity of their prototypes. Every cluster of
    the modality with more clusters takes one partner; a partner is taken at most `sharers` times
    while another one is free. Partners that were not taken then take the most similar cluster.

    For a partner with several sharers, the other direction holds the one accepted first.
    """
    sim = similarity(vis, ir)
    if not sim.size:
        return one_to_one(np.zeros(sim.shape, bool))
    if sim.shape[0] >= sim.shape[1]:
        return Association(*_limited(sim, sharers))
    backward, forward = _limited(sim.T.copy(), sharers)
    return Association(forward, backward)


def _limited(sim: FloatArray, sharers: int) -> tuple[FloatArray, FloatArray]:
    """Weights of columns in rows (each takes one) and of rows in columns (the first accepted)."""
    forward, backward = np.zeros_like(sim), np.zeros_like(sim.T)
    left, right = np.zeros(len(sim), int), np.zeros(sim.shape[1], int)
    everyone = np.nonzero(np.ones(sim.shape, bool))
    for a, b in _by_decreasing(sim, everyone):
        if not left[a] and right[b] < sharers:
            backward[b, a] = right[b] == 0
            forward[a, b] = left[a] = 1
            right[b] += 1
    forward[left == 0, sim[left == 0].argmax(axis=1)] = 1  # more rows than the columns may take
    used = np.zeros(len(sim), bool)
    for a, b in _by_decreasing(sim, everyone):
        if not right[b] and not used[a]:
            backward[b, a] = right[b] = used[a] = 1
    return forward, backward


def mates_of(shares: np.ndarray, first: IntArray, from_first: bool) -> IntArray:
    """The other cluster with the same partner, its mate (TokenMatcher, homogeneous fusion).

    Only if exactly two clusters share a partner, and in one direction: from the one accepted first
    to the other, or back.

    Args:
        shares: (C, P), the weights of a cluster's partner; a row of zeros has none.
        first: (P,) the cluster each partner accepted first.
        from_first: the direction.

    Returns:
        (C,) the mate, -1 for none.
    """
    partner = np.where(shares.any(axis=1), shares.argmax(axis=1), -1)
    mates = np.full(len(shares), -1, np.int64)
    taken = np.bincount(partner[partner >= 0], minlength=shares.shape[1])
    for shared in np.flatnonzero(taken == 2):
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
    """Entropic optimal transport between the clusters, all of equal mass.

    Balanced (Cuturi, NeurIPS 2013), all mass of every cluster is transported. Unbalanced (Chizat et
    al., Math. Comp. 2018), missing mass is penalised instead: a cluster that is similar to no other
    one transports little, so its row has a small sum.

    Args:
        vis: the visible images.
        ir: the infrared images.
        temperature: of the similarities; a small one gives nearly one-to-one matches.
        slack: marginal penalty, in units of cosine; None for balanced.
        rounds: Sinkhorn iterations.
    """
    sim = similarity(vis, ir).astype(np.float64)
    if not sim.size:
        return one_to_one(np.zeros(sim.shape, bool))
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
    """Rows divided by their sum if it exceeds 1."""
    scaled: FloatArray = (mass / np.maximum(mass.sum(axis=1, keepdims=True), 1)).astype(np.float32)
    return scaled


def collaborative_ranking(
    vis_views: Sequence[Tensor],
    ir_views: Sequence[Tensor],
    ir_labels: IntArray,
    ranked: int = 20,
    smoothing: int = 5,
) -> IntArray:
    """Infrared cluster of every visible image (SDCL, CVPR 2024, collaborative ranking association).

    Two embeddings rank the infrared images. Among the labels in the first one's list, the one that
    occurs most often in the second one's list is chosen (on a tie the one ranked first); then every
    image takes the most frequent label among its nearest visible images.

    Args:
        vis_views: two (N, D) unit embeddings of the visible images.
        ir_views: the same of the infrared images, (M, D).
        ir_labels: (M,) pseudo-labels, -1 for outliers; -1 is treated like any other label.
        ranked: length of the lists.
        smoothing: nearest visible images that vote on the label, the image itself included.

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
    # On a tie the lowest label, as with the argmax of a histogram.
    frequent = np.where(votes == votes.max(axis=1, keepdims=True), around, np.iinfo(np.int64).max)
    lowest: IntArray = frequent.min(axis=1)
    return lowest


def ranking(vis: Side, ir: Side, ranked: int = 20, smoothing: int = 5) -> Association:
    """Collaborative ranking with a single embedding: a smoothed vote of the nearest images."""
    across = collaborative_ranking(
        [vis.features] * 2, [ir.features] * 2, ir.labels, ranked, smoothing
    )
    return by_majority(vis.labels, across, ir.clusters)


def by_majority(own: IntArray, across: IntArray, clusters: int) -> Association:
    """Cluster weights from labels of single images: how often each label occurs in a cluster.

    Args:
        own: (N,) cluster of each image within its modality, -1 for outliers.
        across: (N,) its cluster in the other modality, -1 for none.
        clusters: number of clusters in the other modality.
    """
    table = np.zeros((int(own.max(initial=-1)) + 1, clusters), np.float32)
    both = (own >= 0) & (across >= 0)
    np.add.at(table, (own[both], across[both]), 1)
    forward = table / np.maximum(np.bincount(own[own >= 0], minlength=len(table)), 1)[:, None]
    backward = table.T / np.maximum(table.sum(axis=0), 1)[:, None]
    return Association(forward.astype(np.float32), backward.astype(np.float32))


ASSOCIATIONS: dict[str, Callable[[Side, Side, Options], Association]] = {
    "count": lambda vis, ir, options: count_priority(vis, ir, options.vote_threshold),
    "greedy": lambda vis, ir, options: greedy(vis, ir, options.sharers),
    "ranking": lambda vis, ir, options: ranking(vis, ir, options.ranked, options.smoothing),
    "mutual": lambda vis, ir, options: mutual(vis, ir),
    "mutual-scaled": lambda vis, ir, options: mutual(
        vis, ir, options.scaled, options.one_sided, options.chance
    ),
    "joint": lambda vis, ir, options: joint(
        vis, ir, options.joint_eps, options.min_samples, options.k1, options.k2
    ),
    "balanced": lambda vis, ir, options: transport(vis, ir, options.transport_temperature),
    "unbalanced": lambda vis, ir, options: transport(
        vis, ir, options.transport_temperature, options.transport_slack
    ),
}
"""Name -> function of the visible images, the infrared images and the options."""
AssociationName = Annotated[str, OneOf(ASSOCIATIONS)]
"""The type of a setting that chooses one."""


def associate(name: str, vis: Side, ir: Side, options: Options) -> Association:
    """Match the clusters of both modalities.

    Args:
        name: a key of `ASSOCIATIONS`.
        vis: the visible images.
        ir: the infrared images.
        options: settings of the association.

    Raises:
        InputError: there is no such association.
    """
    if name not in ASSOCIATIONS:
        raise InputError(f"association {name!r} is unknown; {did_you_mean(name, ASSOCIATIONS)}")
    return ASSOCIATIONS[name](vis, ir, options)
