"""Batch samplers: which images form a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from visir.core.types import BoolArray, IntArray, Modality
from visir.data.dataset import Part, TrainingSet
from visir.data.rng import generator
from visir.data.transforms import Augmentation, View


def cluster_batches(
    labels: IntArray, cams: IntArray, clusters: int, instances: int, rng: np.random.Generator
) -> Iterator[IntArray]:
    """Endless batches of `clusters` x `instances` rows, drawn by pseudo-label.

    The RandomMultipleGallerySampler of this field: pseudo-identities in random order; for each an
    anchor, then images of other cameras if there are any, else of the same camera, repeated only
    if there are too few. An identity with one image repeats it, so that all groups have the same
    size. When a permutation ends, the next one continues the same batch.

    Args:
        labels: (N,) pseudo-labels, -1 for outliers, which are never sampled.
        cams: (N,) camera of every row.
        clusters: pseudo-identities per batch.
        instances: images of each.
        rng: the random generator.
    """
    members = _members(labels)
    groups: list[IntArray] = []
    while True:
        for chosen in rng.permutation(len(members)):
            groups.append(group(members[chosen], cams, instances, rng))
            if len(groups) == clusters:
                yield np.concatenate(groups)
                groups = []


def group(rows: IntArray, cams: IntArray, instances: int, rng: np.random.Generator) -> IntArray:
    """Some images of a cluster, as `cluster_batches` draws them.

    Args:
        rows: of the cluster.
        cams: (N,) camera of every row.
        instances: how many.
        rng: the random generator.
    """
    anchor = rng.choice(rows)
    others = rows[cams[rows] != cams[anchor]]
    if not len(others):
        others = rows[rows != anchor]
    if not len(others):
        return np.full(instances, anchor)
    more = rng.choice(others, instances - 1, replace=len(others) < instances - 1)
    return np.concatenate([[anchor], more])


def identity_batches(
    identities: IntArray,
    infrared: BoolArray,
    people: int,
    images: int,
    rng: np.random.Generator,
    modalities: Sequence[Modality] = tuple(Modality),
) -> Iterator[tuple[IntArray, ...]]:
    """Endless batches of `people` identities, `images` of each in each modality.

    The sampler of AGW and its successors: identities without repetition, images with.

    Args:
        identities: (N,) labels, the same in all `modalities`; each occurs in each of them; -1 for
            rows that are never drawn.
        infrared: (N,) bool.
        people: identities per batch (all of them if there are fewer).
        images: of each, in each modality.
        rng: the random generator.
        modalities: those drawn from.

    Yields:
        The rows of each modality, (people * images,), in the same order of identities.
    """
    members = [
        _members(np.where(infrared == (modality is Modality.INFRARED), identities, -1))
        for modality in modalities
    ]
    people = min(people, len(members[0]))
    while True:
        chosen = rng.choice(len(members[0]), people, replace=False)
        yield tuple(
            np.concatenate([rng.choice(rows[one], images) for one in chosen]) for rows in members
        )


def _members(labels: IntArray) -> list[IntArray]:
    """The rows of each label in ascending order, without those of label -1."""
    order = np.argsort(labels, kind="stable")
    order = order[labels[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)


def shuffled_batches(rows: IntArray, size: int, rng: np.random.Generator) -> Iterator[IntArray]:
    """Endless batches of `size` distinct rows (all of them if there are fewer)."""
    size = min(size, len(rows))
    while True:
        order = rng.permutation(rows)
        for start in range(0, len(order) - size + 1, size):
            yield order[start : start + size]


def pairs_of_views(
    data: TrainingSet, size: int, steps: int, seed: int, epoch: int, jitter: float = 0.0
) -> Iterator[list[Part]]:
    """Batches of `size` images of each modality in the data, two views of each, without labels.

    Visible images show one channel at a time, which makes them more like infrared ones.

    Args:
        data: the training images.
        size: images of a modality.
        steps: number of batches.
        seed: of the run.
        epoch: part of the random key, so every epoch draws other batches.
        jitter: of the colours.
    """
    views = {Modality.VISIBLE: View.EXCHANGE, Modality.INFRARED: View.GRAY}
    streams = {
        modality: shuffled_batches(
            data.rows(modality), size, generator(seed, epoch, modality is Modality.INFRARED)
        )
        for modality in Modality
        if len(data.rows(modality))
    }
    for _ in range(steps):
        drawn = {modality: next(stream) for modality, stream in streams.items()}
        yield [
            Part(rows, np.full(len(rows), -1), Augmentation(views[modality], jitter))
            for modality, rows in drawn.items()
            for _ in range(2)
        ]
