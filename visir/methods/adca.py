"""ADCA: augmented dual-contrastive aggregation (Yang, Ye, Chen, Wu; ACM MM 2022).

Learning visible-infrared re-identification without labels. Stage 1 (dual contrastive learning)
clusters each modality by itself and pulls images to their cluster's prototype; visible images
enter twice, once as they are and once with a channel exchanged, which brings them towards
infrared. Stage 2 (cross-modality memory aggregation) lets pairs of similar images vote for pairs
of clusters, takes them one-to-one by falling votes, and fills the visible prototype of a pair with
the infrared one, so that both modalities are drawn to one point.

| paper | function |
|---|---|
| pseudo-labels per modality, Sec. 3.2 | `visir.cluster.labels.pseudo_labels` |
| memory, Eq. 1, 4-5 | `visir.cluster.memory.prototypes`, `ClusterMemory.update` |
| dual contrastive loss, Eq. 2-3, 6 | `ClusterMemory.loss`, `Adca.loss` |
| count priority selection, Sec. 3.3 | `visir.cluster.associate.count_priority` |
| memory aggregation, Sec. 3.3 | `Adca._aggregate` |

Deviations: the network is the two-stem ViT (published: two-stream ResNet-50); descriptors are
normalised after the average over the mirror image (script: not); stage 2 starts from stage 1's
last epoch (script: its best epoch on the test identities); all losses of a step read the memories
as they stood before it (script: the second reads what the first has changed).
`center_cameras` is ours and off in the published presets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.associate import count_priority
from visir.cluster.labels import pseudo_labels
from visir.cluster.memory import ClusterMemory, prototypes
from visir.data.dataset import Part, TrainingSet
from visir.data.draws import generator
from visir.data.samplers import cluster_batches
from visir.data.transforms import View
from visir.embed import embed_pixels
from visir.methods.contract import Plan
from visir.nets.vit import Features, Vit
from visir.types import Batch, InputError, IntArray, Modality


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [paper]
    network: Literal["micro", "small", "base"] = "base"  # ours; paper: two-stream ResNet-50
    class_tokens: int = 1  # ours; a ResNet has none
    drop_path: float = 0.1  # ours
    stage_epochs: tuple[int, int] = (50, 50)  # [paper]
    iterations: int = 200  # batches an epoch [script]
    visible_clusters: int = 8  # in a batch, of `instances` images, two views each [script]
    infrared_clusters: int = 16  # [script]
    instances: int = 16  # images of a cluster in a batch [paper]
    eps: float = 0.6  # DBSCAN radius, Jaccard distance [paper]
    min_samples: int = 4  # neighbours of a core point [paper]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: float = 0.05  # [paper]
    momentum: float = 0.1  # weight of the old prototype [script]
    vote_threshold: float = 0.5  # least cosine of a voting pair [script]
    aggregation: float = 0.9  # share of the infrared prototype in a pair's visible one [script]
    lr: float = 3.5e-4  # Adam [paper]
    weight_decay: float = 5e-4  # [script]
    lr_step: int = 20  # epochs between divisions of the rate by ten, per stage [paper]
    pad: int = 10  # border before the random crop, pixels [script]
    center_cameras: bool = False  # ours: cluster and pair features less their camera's mean
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(eps=0.3, iterations=100),
    "tiny": Config(
        size=(64, 32),
        network="micro",
        drop_path=0.0,
        stage_epochs=(10, 20),
        iterations=40,
        instances=4,
        eps=0.5,
        k1=16,
        momentum=0.2,
        vote_threshold=0.3,
        lr=1e-3,
        lr_step=15,
        pad=4,
        center_cameras=True,
    ),
}


class Adca:
    """Two stages over one network; memories are made anew at every epoch."""

    presets: ClassVar[dict[str, Config]] = PRESETS

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs = sum(config.stage_epochs)
        self.model = Vit(config.network, config.size, config.class_tokens, config.drop_path).to(
            device
        )
        self.memories: dict[Modality, ClusterMemory] = {}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all weights that learn."""
        return torch.optim.Adam(
            self.model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay
        )

    def plan(self, epoch: int) -> Plan:
        """Embed, cluster, build the memories; in stage 2 associate the clusters too."""
        config = self.config
        second = epoch >= config.stage_epochs[0]
        in_stage = epoch - config.stage_epochs[0] if second else epoch
        features = {modality: self._features(modality) for modality in Modality}
        compared = self._compared(features)
        labels = {modality: self._labels(modality, compared[modality]) for modality in Modality}
        for modality in Modality:
            self.memories[modality] = ClusterMemory(
                prototypes(features[modality], labels[modality]),
                config.momentum,
                config.temperature,
            )
        partners = self._aggregate(compared, labels) if second else None
        all_labels = np.empty(len(self.data.infrared), np.int64)
        for modality in Modality:
            all_labels[self.data.rows(modality)] = labels[modality]
        return Plan(
            stage="stage 2" if second else "stage 1",
            batches=self._batches(epoch, all_labels),
            steps=config.iterations,
            lr=config.lr * 0.1 ** (in_stage // config.lr_step),
            fresh_optimizer=in_stage == 0,
            labels=all_labels,
            partners=partners,
        )

    def _features(self, modality: Modality) -> Tensor:
        rows = self.data.rows(modality)
        self.model.eval()
        features = embed_pixels(
            self.model, self.data.pixels[rows], modality, self.device, self.config.precision
        )
        return features

    def _compared(self, features: dict[Modality, Tensor]) -> dict[Modality, Tensor]:
        """What clusters and pairs are found on."""
        if not self.config.center_cameras:
            return features
        return {
            modality: centred(of, self.data.cams[self.data.rows(modality)])
            for modality, of in features.items()
        }

    def _labels(self, modality: Modality, features: Tensor) -> IntArray:
        config = self.config
        labels = pseudo_labels(features, config.eps, config.min_samples, config.k1, config.k2)
        if labels.max(initial=-1) < 1:
            raise InputError(
                f"clustering the {modality.value} images gave {labels.max(initial=-1) + 1} "
                f"cluster(s) at eps {config.eps}; set another eps, or start from a "
                "pre-trained network (--start)"
            )
        return labels

    def _aggregate(
        self, features: dict[Modality, Tensor], labels: dict[Modality, IntArray]
    ) -> IntArray:
        """Mix each infrared prototype into its visible partner's; not normalised, as published."""
        vis, ir = Modality.VISIBLE, Modality.INFRARED
        partners = count_priority(
            features[vis], features[ir], labels[vis], labels[ir], self.config.vote_threshold
        )
        paired = torch.from_numpy(np.flatnonzero(partners >= 0)).to(self.device)
        target = torch.from_numpy(partners).to(self.device)[paired]
        share = self.config.aggregation
        memory = self.memories[vis].prototypes_CD
        memory[paired] = (1 - share) * memory[paired] + share * self.memories[ir].prototypes_CD[
            target
        ]
        return partners

    def _batches(self, epoch: int, labels: IntArray) -> Iterator[list[Part]]:
        config = self.config
        streams = {
            modality: cluster_batches(
                np.where(self.data.infrared == (modality is Modality.INFRARED), labels, -1),
                self.data.cams,
                clusters,
                config.instances,
                generator(self.seed, epoch, modality is Modality.INFRARED),
            )
            for modality, clusters in (
                (Modality.VISIBLE, config.visible_clusters),
                (Modality.INFRARED, config.infrared_clusters),
            )
        }
        for _ in range(config.iterations):
            vis, ir = next(streams[Modality.VISIBLE]), next(streams[Modality.INFRARED])
            yield [
                Part(vis, labels[vis], View.PLAIN),
                Part(vis, labels[vis], View.EXCHANGE),
                Part(ir, labels[ir], View.GRAY),
            ]

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Each modality against its own memory (Eq. 2-3); both views of visible images count."""
        return {
            modality.value: self.memories[modality].loss(
                outputs.embedding[mask], batch.labels[mask]
            )
            for modality, mask in _by_modality(batch)
        }

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Blend the batch into both memories (Eq. 4-5)."""
        for modality, mask in _by_modality(batch):
            self.memories[modality].update(outputs.embedding[mask], batch.labels[mask])

    def state(self) -> dict[str, Any]:
        """Nothing: memories are rebuilt from the model at every epoch."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


def centred(features_ND: Tensor, cams: IntArray) -> Tensor:
    """Features less the mean of their camera, normalised again: what the camera adds is removed."""
    centred_ND = features_ND.clone()
    for cam in np.unique(cams):
        rows = torch.from_numpy(np.flatnonzero(cams == cam)).to(features_ND.device)
        centred_ND[rows] -= features_ND[rows].mean(dim=0)
    return F.normalize(centred_ND, dim=1)


def _by_modality(batch: Batch) -> tuple[tuple[Modality, Tensor], ...]:
    return (Modality.VISIBLE, ~batch.infrared), (Modality.INFRARED, batch.infrared)
