"""Cameras: clusters inside each, and what to believe of neighbours that one camera saw.

Images of one camera look alike, so across cameras features tell cameras apart as well as people.
Inside a camera that is no trouble: clusters found there are reliable, and correct lists and
clusters found across cameras. Sources: the camera stage and filter of TokenMatcher (AAAI 2025), the
camera-aware consistency of CMAG (TCSVT 2026, Eq. 29-32), refinement and weights of CALR (2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.labels import pseudo_labels
from visir.core.types import FloatArray, InputError, IntArray

Conflicts = Literal["drop_decays", "keep_decays"]


def centred(features_ND: Tensor, cams: IntArray) -> Tensor:
    """Features less the mean of their camera, normalised again: what the camera adds is removed.

    An image that is its camera's mean, such as the only one of a camera, stays as it is.
    """
    centred_ND = features_ND.clone()
    for cam in np.unique(cams):
        rows = torch.from_numpy(np.flatnonzero(cams == cam)).to(features_ND.device)
        centred_ND[rows] -= features_ND[rows].mean(dim=0)
    rest = centred_ND.norm(dim=1, keepdim=True)
    return F.normalize(torch.where(rest > 1e-5, centred_ND, features_ND), dim=1)


def cluster_cameras(
    features_ND: Tensor, cams: IntArray, eps: float | Mapping[int, float] = 0.6,
    min_samples: int = 4, k1: int = 30, k2: int = 6,
) -> IntArray:  # fmt: skip
    """DBSCAN on the Jaccard distance inside every camera (CMAG, Eq. 29).

    Args:
        features_ND: (N, D) unit features.
        cams: (N,) camera of each image.
        eps: radius, or one for each camera.
        min_samples: neighbours of a core point, itself included.
        k1: k-reciprocal neighbourhood size, itself included.
        k2: query-expansion size, itself included.

    Returns:
        (N,) labels that no two cameras share, numbered camera by camera; -1 for outliers.

    Raises:
        InputError: a camera has no radius, or a feature is not finite or not of length 1.
    """
    present = np.unique(cams).tolist()
    radii = eps if isinstance(eps, Mapping) else dict.fromkeys(present, eps)
    lacking = [cam for cam in present if cam not in radii]
    if lacking:
        raise InputError(f"eps has no radius for camera {lacking[0]}; give one for every camera")
    labels, count = np.full(len(cams), -1, np.int64), 0
    for cam in present:
        rows = np.flatnonzero(cams == cam)
        own = pseudo_labels(features_ND[torch.from_numpy(rows)], radii[cam], min_samples, k1, k2)
        labels[rows] = np.where(own >= 0, own + count, -1)
        count += int(own.max(initial=-1)) + 1
    return labels


def silhouette(graph: sparse.csr_array, labels: IntArray) -> float:
    """Mean silhouette (Rousseeuw, 1987) of the clustered images.

    Args:
        graph: (N, N) distances of all pairs below 1; a pair that is not stored is at distance 1.
        labels: (N,) -1 for outliers, which count neither as images nor as neighbours.

    Returns:
        From -1 to 1; -1 where there are fewer than two clusters. An image alone in its cluster
        counts 0.
    """
    links = sparse.coo_array(graph)
    used = (links.row != links.col) & (labels[links.row] >= 0) & (labels[links.col] >= 0)
    row, column, near = links.row[used], links.col[used], 1 - links.data[used].astype(np.float64)
    own, count = labels[labels >= 0], labels.max(initial=-1) + 1
    sizes = np.bincount(own, minlength=count)
    if (sizes > 0).sum() < 2:
        return -1.0
    # Nearness, 1 - distance, is nothing for pairs that are not stored: all sums stay sparse.
    inside = labels[row] == labels[column]
    others = np.maximum(sizes[labels] - 1, 1)
    within = 1 - np.bincount(row[inside], near[inside], minlength=len(labels)) / others
    places = row[~inside], labels[column[~inside]]
    mean = sparse.csr_array(
        (near[~inside] / sizes[places[1]], places), shape=(len(labels), count)
    ).max(axis=1)
    between = 1 - mean.toarray().ravel()
    score = (between - within) / np.maximum(np.maximum(within, between), 1e-12)
    return float(np.where(sizes[labels] > 1, score, 0)[labels >= 0].mean())


@dataclass
class BestBySilhouette:
    """The labels of the epoch whose silhouette is best, from a first epoch on (TokenMatcher).

    Attributes:
        first: epoch from which labels are worth keeping, counted from 0.
        score: silhouette of the labels kept.
        labels: (N,) the labels kept; None before there are any.
    """

    first: int = 10
    score: float = -np.inf
    labels: IntArray | None = None

    def offer(self, epoch: int, score: float, labels: IntArray) -> bool:
        """Keep these labels if they are better; whether they were."""
        better = epoch >= self.first and score > self.score
        if better:
            self.score, self.labels = score, labels.copy()
        return better

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        labels = None if self.labels is None else torch.from_numpy(self.labels)
        return {"score": self.score, "labels": labels}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.score = state["score"]
        self.labels = None if state["labels"] is None else state["labels"].cpu().numpy()


def camera_filter(
    neighbours: sparse.csr_array, cams: IntArray, local: IntArray, skipping: bool = False
) -> sparse.csr_array:
    """TokenMatcher's rule: whom the own camera puts into another cluster is no neighbour.

    Of the neighbours of i that i's camera saw, those with a local label other than i's are dropped;
    those without one stay, as do all of other cameras. Where i has none, all stay.

    Args:
        neighbours: (N, N) bool, row i the neighbours of i.
        cams: (N,) cameras.
        local: (N,) clusters inside the cameras, -1 for outliers.
        skipping: whoever follows one that is dropped is passed over, as in the public script.
    """
    i, j = neighbours.nonzero()
    apart = (local[i] >= 0) & (local[j] >= 0) & (local[i] != local[j])
    dropped = apart & (cams[i] == cams[j])
    if skipping:
        dropped &= _place_in_run(dropped, i) % 2 == 0
    return _keeping(neighbours.shape, i, j, ~dropped)


class Consistent(NamedTuple):
    """Neighbours that agree with the cameras, (N, N) bool; conflicts, and how many were dropped."""

    kept: sparse.csr_array
    conflicts: int
    dropped: int


def _place_in_run(flags: np.ndarray, rows: np.ndarray) -> IntArray:
    """Of every entry: how many set ones of its row lie right before it, without a gap."""
    places = np.arange(len(flags))
    starts = np.ones(len(flags), bool)
    starts[1:] = ~flags[:-1] | (rows[1:] != rows[:-1])
    first: IntArray = np.maximum.accumulate(np.where(starts, places, 0))
    return places - first


def consistent_neighbours(
    neighbours: sparse.csr_array, cams: IntArray, local: IntArray, progress: float,
    rng: np.random.Generator, p0: float = 0.8, conflicts: Conflicts = "drop_decays",
) -> Consistent:  # fmt: skip
    """CMAG's camera-aware consistency (Eq. 32).

    Neighbours of other cameras stay, and i itself. If any other of the same camera share i's local
    cluster only those stay; otherwise each is a conflict that chance decides. Outliers have no
    local cluster.

    Args:
        neighbours: (N, N) bool, row i the neighbours of i.
        cams: (N,) cameras.
        local: (N,) clusters inside the cameras, -1 for outliers.
        progress: share of the training that is over, e / E.
        rng: what decides conflicts.
        p0: probability of the start.
        conflicts: whether p0 (1 - progress) is the probability to drop one, or to keep it.
    """
    i, j = neighbours.nonzero()
    same_cam = cams[i] == cams[j]
    agree = same_cam & (local[i] == local[j]) & (local[i] >= 0)
    decided = np.zeros(neighbours.shape[0], bool)
    decided[i[agree & (i != j)]] = True
    chance = rng.random(len(i)) < p0 * (1 - progress)
    survives = chance if conflicts == "keep_decays" else ~chance
    others = same_cam & (i != j)
    unsettled = others & ~decided[i]
    kept = ~others | np.where(decided[i], agree, survives)
    return Consistent(
        _keeping(neighbours.shape, i, j, kept), int(unsettled.sum()), int((unsettled & ~kept).sum())
    )


def _keeping(
    shape: tuple[int, int], i: np.ndarray, j: np.ndarray, kept: np.ndarray
) -> sparse.csr_array:
    return sparse.csr_array((np.ones(int(kept.sum()), bool), (i[kept], j[kept])), shape=shape)


def node_scores(graph: sparse.csr_array) -> FloatArray:
    """How central each image lies: the sum over its links of 1 / (distance + mean distance).

    CALR; (N,), 0 without links. Links of an image to itself count as none.
    """
    links = sparse.coo_array(graph)
    other = links.row != links.col
    row, distance = links.row[other], links.data[other].astype(np.float64)
    if not len(row):
        return np.zeros(graph.shape[0], np.float32)
    weight = 1 / (distance + max(float(distance.mean()), 1e-12))
    return np.bincount(row, weight, minlength=graph.shape[0]).astype(np.float32)


def refine(
    labels: IntArray, local: IntArray, cams: IntArray, scores: FloatArray,
    rng: np.random.Generator, decay: float = 1.0,
) -> IntArray:  # fmt: skip
    """Clusters without members that their own camera sets apart from the cluster's pivot (CALR).

    The pivot of a cluster is its image of the highest score (script: the last one above the mean).
    Images of the pivot's camera outside the pivot's local cluster become outliers; none do where
    the pivot has no local cluster.

    Args:
        labels: (N,) clusters over all cameras, -1 for outliers.
        local: (N,) clusters inside the cameras.
        cams: (N,) cameras.
        scores: (N,) from `node_scores`.
        rng: what decides, where `decay` is below 1.
        decay: probability that such an image is dropped.
    """
    refined = labels.copy()
    order = np.lexsort((np.arange(len(labels)), -scores, labels))
    order = order[labels[order] >= 0]
    clusters, first = np.unique(labels[order], return_index=True)
    pivots = np.full(int(labels.max(initial=-1)) + 1, -1, np.int64)
    pivots[clusters] = order[first]
    rows = np.flatnonzero(labels >= 0)
    pivot = pivots[labels[rows]]
    apart = (cams[rows] == cams[pivot]) & (local[rows] != local[pivot]) & (local[pivot] >= 0)
    refined[rows[apart & (rng.random(len(rows)) < decay)]] = -1
    return refined


def cluster_weights(labels: IntArray, cams: IntArray) -> FloatArray:
    """log(1 + H) of each cluster, H the entropy of its cameras (CALR): one camera weighs nothing.

    Returns:
        (C,); all ones where every cluster is of one camera, since nothing would be learnt.
    """
    kept = labels >= 0
    _, cam = np.unique(cams, return_inverse=True)
    table = np.zeros((int(labels.max(initial=-1)) + 1, int(cam.max(initial=-1)) + 1))
    np.add.at(table, (labels[kept], cam[kept]), 1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(axis=1)
    weights = np.log1p(entropy).astype(np.float32)
    return weights if weights.any() else np.ones_like(weights)
