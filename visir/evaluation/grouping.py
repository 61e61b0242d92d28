"""Clusters of embedded images, and which of them show one person in both modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visir.cluster.cameras import centred
from visir.cluster.labels import pseudo_labels
from visir.cluster.matches import Side, mutual, similarity
from visir.cluster.memory import prototypes
from visir.cluster.unpaired import Between, unpaired
from visir.core.types import FloatArray, IntArray, Modality, Record
from visir.methods.clustering import cluster_training

_EPS, _K1 = 0.5, 16  # as in the presets `tiny`


class Grouping(NamedTuple):
    """Clusters of images of both modalities; clusters are numbered within their modality.

    units: (N, D) features of each modality without their camera's mean; labels: (N,) cluster of
    each image, -1 for outliers; sims: (visible clusters, infrared clusters) cosines of their
    prototypes; partners: (visible clusters,) the infrared cluster that shows the same person, -1
    for none.
    """

    units: Mapping[Modality, Tensor]
    labels: Mapping[Modality, IntArray]
    sims: FloatArray
    partners: IntArray

    def margins(self) -> tuple[IntArray, FloatArray]:
        """The matched visible clusters and the margins of their matches: how sure each is.

        A margin is the cosine of the two clusters less the largest of either to any other one.
        """
        vis = np.flatnonzero(self.partners >= 0)
        ir = self.partners[vis]
        others = self.sims.copy()
        others[vis, ir] = -1
        second = np.maximum(others[vis].max(axis=1), others[:, ir].max(axis=0))
        return vis, self.sims[vis, ir] - second

    def unpaired(self) -> dict[Modality, Between]:
        """Estimated share of clustered images whose people are in one modality only."""
        vis, ir = (Side(self.units[m], self.labels[m]) for m in Modality)
        return unpaired(vis, ir)


def grouped(
    features: Mapping[Modality, FloatArray], records: Mapping[Modality, Sequence[Record]]
) -> Grouping:
    """Cluster the images of each modality, and match clusters that are each other's most similar.

    Tracks, where they are known, correct the clusters (`by_tracks`).

    Args:
        features: (N, D) unit embeddings of each modality.
        records: the N images of each modality.

    Raises:
        InputError: a modality has fewer than two clusters.
    """
    cams = {m: np.array([record.cam for record in of], np.int64) for m, of in records.items()}
    units = {m: centred(torch.from_numpy(of), cams[m]) for m, of in features.items()}

    def cluster(_: Modality, of: Tensor, eps: float) -> IntArray:
        return pseudo_labels(of, eps, k1=_K1)

    labels, *_ = cluster_training(units, cluster, _EPS, momentum=0.1, adapt="eps")
    labels = {m: by_tracks(labels[m], units[m], records[m]) for m in units}
    vis, ir = (Side(units[m], labels[m]) for m in (Modality.VISIBLE, Modality.INFRARED))
    return Grouping(units, labels, similarity(vis, ir), mutual(vis, ir).infrared_partners())


def by_tracks(labels: IntArray, units: Tensor, records: Sequence[Record]) -> IntArray:
    """Clusters that contradict no track: (N,) labels from 0, -1 for outliers.

    The images of a track show one person: all get the label that most of them have. Two tracks in
    one frame are two people: of such tracks in one cluster the one nearest to its centre stays, and
    the images of the other become outliers.

    Args:
        labels: (N,) clusters, -1 for outliers.
        units: (N, D) unit features.
        records: the N images.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for row, record in enumerate(records):
        if record.track is not None:
            groups.setdefault((record.cam, record.track), []).append(row)
    if not groups:
        return labels
    joined = labels.copy()
    for rows in groups.values():
        known = labels[rows][labels[rows] >= 0]
        if len(known):
            joined[rows] = np.bincount(known).argmax()
    near = to_centres(units, joined)
    taken: dict[tuple[int, str], tuple[int, str]] = {}
    for track, rows in sorted(groups.items(), key=lambda item: -float(near[item[1]].mean())):
        frames = {(int(joined[row]), frame) for row in rows if (frame := records[row].frame)}
        if any(taken.get(seen, track) != track for seen in frames):
            joined[rows] = -1
        elif joined[rows[0]] >= 0:
            taken |= dict.fromkeys(frames, track)
    names = np.unique(joined[joined >= 0])
    return np.where(joined >= 0, np.searchsorted(names, joined), -1)


def to_centres(units: Tensor, labels: IntArray) -> FloatArray:
    """(N,) cosine of each image with its cluster's centre; without meaning for outliers.

    Args:
        units: (N, D) unit features.
        labels: (N,) clusters, -1 for outliers.
    """
    centres = prototypes(units, labels)
    near: FloatArray = (units * centres[np.maximum(labels, 0)]).sum(dim=1).cpu().numpy()
    return near


def as_people(grouping: Grouping) -> dict[Modality, IntArray]:
    """(N,) a number for each image's person, -1 for outliers; two matched clusters are one."""
    vis, ir = (grouping.labels[m] for m in (Modality.VISIBLE, Modality.INFRARED))
    visible, infrared = grouping.sims.shape
    number = np.append(np.arange(infrared) + visible, -1)
    matched = np.flatnonzero(grouping.partners >= 0)
    number[grouping.partners[matched]] = matched
    return {Modality.VISIBLE: vis, Modality.INFRARED: number[ir]}
