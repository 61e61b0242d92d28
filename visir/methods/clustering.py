"""What clustering methods do before every epoch: embed all images, cluster them, sample batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visir.cluster.adapt import Adapt, adapt_eps, adapt_momentum
from visir.cluster.associate import Options, associate
from visir.cluster.cameras import centred
from visir.cluster.matches import Association, Side
from visir.core import ranks
from visir.core.device import to_device
from visir.core.timing import part
from visir.core.types import InputError, IntArray, Modality
from visir.data.dataset import Part, TrainingSet
from visir.data.rng import generator
from visir.data.samplers import cluster_batches, group
from visir.data.transforms import Augmentation, View
from visir.embedding.pytorch import AT_ONCE, embed_pixels
from visir.nets.build import Network

Cluster = Callable[[Modality, Tensor, float], IntArray]


def embed_training(
    net: Network, data: TrainingSet, device: torch.device, precision: str
) -> dict[Modality, Tensor]:
    """Unit embeddings of all images: (N, D) for each modality, in the order of `data.rows`."""
    return {
        modality: embed_rows(net, data, modality, data.rows(modality), device, precision)
        for modality in Modality
    }


def embed_rows(
    net: Network,
    data: TrainingSet,
    modality: Modality,
    rows: IntArray,
    device: torch.device,
    precision: str,
) -> Tensor:
    """Unit embeddings of some images of one modality: (len(rows), D), in the order of `rows`.

    The processes of a training embed every so many images in turn, in the groups that one process
    would take, so all get the same bits.
    """
    net.eval()
    starts = range(0, len(rows), AT_ONCE)
    groups = [np.arange(start, min(start + AT_ONCE, len(rows))) for start in starts]
    none = np.arange(0)
    shares = [
        np.concatenate([none, *groups[number :: ranks.count()]]) for number in range(ranks.count())
    ]
    with part("embedding"):
        own = embed_pixels(
            net, data.pixels, modality, device, precision, rows=rows[shares[ranks.rank()]]
        )
        found = ranks.gathered(own, [len(share) for share in shares])
    order = to_device(torch.from_numpy(np.concatenate(shares)), device)
    return torch.empty_like(found).index_copy_(0, order, found)


def compared_features(
    features: Mapping[Modality, Tensor], data: TrainingSet, center: bool
) -> dict[Modality, Tensor]:
    """The features that are clustered and matched: if asked for, less the mean of their camera."""
    if not center:
        return dict(features)
    return {
        modality: centred(of, data.cams[data.rows(modality)]) for modality, of in features.items()
    }


def associated(
    config: Any,  # noqa: ANN401 - each method has a Config of its own
    compared: Mapping[Modality, Tensor],
    labels: Mapping[Modality, IntArray],
) -> Association:
    """Match the clusters of both modalities as a method's settings say.

    Args:
        config: with `association`, and those of `Options` that the method has.
        compared: (N, D) features of each modality.
        labels: (N,) pseudo-labels of each modality, -1 for outliers.
    """
    vis, ir = (Side(compared[m], labels[m]) for m in (Modality.VISIBLE, Modality.INFRARED))
    known = {name: vars(config)[name] for name in Options._fields if name in vars(config)}
    return associate(config.association, vis, ir, Options(**known))


def cluster_training(
    features: Mapping[Modality, Tensor],
    cluster: Cluster,
    eps: float | Sequence[float],
    momentum: float,
    adapt: Adapt,
) -> tuple[dict[Modality, IntArray], float, list[str]]:
    """Pseudo-labels of each modality separately, with a fallback if clustering fails.

    Args:
        features: what to cluster, (N, D) for each modality.
        cluster: labels (-1 for outliers) from modality, features and radius.
        eps: the radius, or one of the visible and one of the infrared images.
        momentum: of the memories of the clusters.
        adapt: which of the two is changed if clustering fails.

    Returns:
        The labels, the momentum to use, and a warning for each change.

    Raises:
        InputError: fewer than two clusters in a modality.
    """
    labels: dict[Modality, IntArray] = {}
    warnings: list[str] = []
    radii = eps if isinstance(eps, Sequence) else (eps, eps)
    for modality, radius in zip(Modality, radii, strict=True):
        labels[modality], warning = _clustered(
            modality, features[modality], cluster, radius, adapt == "eps"
        )
        warnings += warning
    if adapt == "momentum":
        momentum, warning = adapt_momentum(momentum, list(labels.values()))
        warnings += warning
    return labels, momentum, warnings


def _clustered(
    modality: Modality, features: Tensor, cluster: Cluster, eps: float, adapt: bool
) -> tuple[IntArray, list[str]]:
    try:
        labels, _, said = adapt_eps(partial(cluster, modality, features), eps, adapt)
    except InputError as error:
        raise InputError(f"the {modality.value} images: {error}") from error
    return labels, [f"{modality.value}: {line}" for line in said]


def join(data: TrainingSet, labels: Mapping[Modality, IntArray]) -> IntArray:
    """Labels of all training rows from those of each modality."""
    joined = np.empty(len(data.infrared), np.int64)
    for modality, of in labels.items():
        joined[data.rows(modality)] = of
    return joined


def positions(data: TrainingSet) -> IntArray:
    """For every training row, its position among the rows of its modality."""
    return join(data, {modality: np.arange(len(data.rows(modality))) for modality in Modality})


def batches_by_cluster(
    data: TrainingSet,
    labels: IntArray,
    clusters: Mapping[Modality, int],
    instances: int,
    steps: int,
    seed: int,
    epoch: int,
    jitter: tuple[float, float, float] = (0.0, 0.0, 0.0),
    partners: IntArray | None = None,
) -> Iterator[list[Part]]:
    """Batches of `clusters` x `instances` images of each modality, as ADCA draws them.

    Visible images are used twice, unchanged and with one channel in place of all three, which makes
    them more like infrared ones; infrared ones are grey.

    Args:
        data: the training set.
        labels: (rows,) pseudo-labels of all training rows, -1 for outliers, which are not sampled.
        clusters: number per batch, for each modality.
        instances: images of each cluster.
        steps: number of batches.
        seed: of the run.
        epoch: part of the random key, so every epoch draws other batches.
        jitter: of the colours in the plain, the exchanged and the grey view.
        partners: (visible clusters,) infrared clusters that come with visible ones, -1 for none;
            they take the places of others.
    """
    draws = {m: generator(seed, epoch, m is Modality.INFRARED) for m in clusters}
    of = {m: np.where(data.infrared == (m is Modality.INFRARED), labels, -1) for m in clusters}
    streams = {
        modality: cluster_batches(of[modality], data.cams, count, instances, draws[modality])
        for modality, count in clusters.items()
    }
    members = dict[int, IntArray]()
    if partners is not None:
        infrared = of[Modality.INFRARED]
        members = {int(one): np.flatnonzero(infrared == one) for one in np.unique(partners)}
    for _ in range(steps):
        vis, ir = next(streams[Modality.VISIBLE]), next(streams[Modality.INFRARED])
        if partners is not None:
            found = [int(one) for one in partners[labels[vis[::instances]]] if one >= 0]
            groups = [
                group(members[one], data.cams, instances, draws[Modality.INFRARED]) for one in found
            ]
            ir = np.concatenate([*groups, ir])[: len(ir)]
        yield [
            Part(vis, labels[vis], Augmentation(View.PLAIN, jitter[0])),
            Part(vis, labels[vis], Augmentation(View.EXCHANGE, jitter[1])),
            Part(ir, labels[ir], Augmentation(View.GRAY, jitter[2])),
        ]
