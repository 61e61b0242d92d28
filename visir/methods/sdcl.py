"""SDCL: shallow-deep collaborative learning (Yang, Chen, Ye; CVPR 2024).

Visible-infrared re-identification without labels. A transformer gives two embeddings of an image: a
deep one, and a shallow one that another block computes from the patch embeddings. Each is trained
with its own cluster memory. Images are pulled towards the neighbours on which both embeddings
agree, within the modality from the start and across modalities later. From the switch epoch on, the
ranked lists of both embeddings vote for the infrared cluster of every visible image, and both
modalities are trained with one shared memory.

| paper | function |
|---|---|
| shallow and deep features, Sec. 3.2 | `visir.nets.vit.Vit` with `shallow` |
| contrastive learning of both, Sec. 3.2 | `Memory.loss`, `Sdcl._contrast` |
| collaborative neighbour learning, Sec. 3.3 | `agreeing`, `agreed_loss`, `Sdcl._neighbours` |
| collaborative ranking association, Sec. 3.4 | `visir.cluster.associate.collaborative_ranking` |

Deviations: the phase after the switch continues from the last epoch (script: from its best epoch on
the test identities); an image without a label after the ranking association is left out (script:
counts as cluster 0); all losses of a step read the memories as they were before it (script: the
shared memory changes between two losses); an image and its mirror image are averaged as unit
vectors (script: as raw ones); the network starts as `visir.nets.vit` says unless a pre-trained file
is given. `cross="released"` is the script's alternation of directions, `"symmetric"` the paper's
form. `center_cameras`, `adapt`, `split_weight` and every `association` but "ranking" are ours and
off in the published presets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.adapt import Adapt
from visir.cluster.agreement import agreeing
from visir.cluster.associate import AssociationName, by_majority, collaborative_ranking
from visir.cluster.cameras import centred
from visir.cluster.labels import pseudo_labels
from visir.cluster.memory import Memory, prototypes, restore_rows, rows_of
from visir.cluster.neighbour_loss import agreed_loss
from visir.cluster.split import SplitMemory
from visir.core.bounds import CountFrom0, Positive, PositiveShare, Share
from visir.core.device import to_device
from visir.core.types import Batch, InputError, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.clustering import (
    associated,
    batches_by_cluster,
    cluster_training,
    embed_training,
    join,
    positions,
)
from visir.methods.contract import Method, Plan, StageStart
from visir.methods.schedule import sgd_or_adam
from visir.nets.build import Features, VitName, build

VIS, IR = Modality.VISIBLE, Modality.INFRARED
DEPTHS = ("deep", "shallow")


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [paper]
    network: VitName = "base"  # ViT with ICS stems [paper]
    drop_path: Share = 0.1  # [script]
    epochs: int = 50  # [paper]
    switch: CountFrom0 = 30  # first epoch with association, counted from 0 [script]
    stage_start: StageStart = "last"  # epoch the switch continues from [script: test-best]
    iterations: int = 200  # batches per epoch before the switch [script]
    iterations_after: int = 100  # batches per epoch after it [script]
    visible_clusters: int = 8  # per batch, with two views of each image [script]
    infrared_clusters: int = 8  # per batch [script]
    instances: int = 16  # images of each cluster in a batch [script]
    eps: PositiveShare = 0.6  # DBSCAN radius, Jaccard distance [paper]
    adapt: Adapt = "nothing"  # ours: what is changed if clustering fails
    min_samples: int = 4  # neighbours of a core point [script]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k1_after: int = 15  # of visible images after the switch [script]
    k2: int = 6  # query expansion [script]
    temperature: Positive = 0.05  # [paper]
    momentum: Share = 0.1  # weight of the old prototype [paper]
    first_momentum: Share = 0.1  # weight in the first epoch [script]
    instance_momentum: Share = 0.9  # weight of the old embedding of an image [script]
    unit_instances: bool = False  # update these with unit features [script: raw ones]
    ratio: Share = 0.9  # of the highest similarity; a neighbour exceeds it [paper]
    intra_from: CountFrom0 = 0  # first epoch with neighbours within a modality [script]
    cross_from: CountFrom0 = 10  # first epoch with neighbours across modalities [script]
    intra_weight: tuple[float, float] = (1.0, 0.1)  # before and after the switch [script]
    cross_weight: tuple[float, float] = (0.5, 0.1)  # before and after the switch [script]
    shallow_weight: float = 0.5  # of shallow neighbour losses [script]
    cross: Literal["released", "symmetric"] = "released"  # directions across modalities [script]
    association: AssociationName = "ranking"  # of visible and infrared clusters [paper]
    vote_threshold: float = 0.5  # minimum cosine of voting images, association=count; ours
    ranked: int = 20  # infrared images in each ranked list [script]
    smoothing: int = 5  # nearest visible images that vote on a label, itself included [script]
    split_weight: float = 0.0  # of BMIL's split-and-contrast loss after the switch; ours
    optimizer: Literal["sgd", "adam"] = "sgd"  # [paper]
    lr: Positive = 3.5e-4  # [paper]
    weight_decay: float = 5e-4  # [script]
    lr_step: int = 20  # epochs after which the rate falls to a tenth [script]
    pad: CountFrom0 = 10  # border before the random crop, pixels [script]
    jitter: Share = 0.5  # of brightness, contrast, saturation, hue in every view [script]
    center_cameras: bool = False  # ours: subtract each camera's mean before clustering
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(
        epochs=30,
        switch=20,
        iterations=50,
        iterations_after=50,
        eps=0.3,
        k1_after=30,
        first_momentum=0.99,
        intra_from=1,
        ranked=10,
    ),
    "tiny": Config(
        size=(64, 32),
        network="micro",
        drop_path=0.0,
        epochs=24,
        switch=16,
        iterations=40,
        iterations_after=40,
        visible_clusters=8,
        infrared_clusters=16,
        instances=4,
        eps=0.5,
        adapt="eps",
        k1=16,
        k1_after=16,
        momentum=0.2,
        first_momentum=0.2,
        cross_from=5,
        ranked=10,
        optimizer="adam",
        lr=1e-3,
        pad=4,
        jitter=0.0,
        center_cameras=True,
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    epochs=4,
    switch=2,
    iterations=2,
    iterations_after=2,
    visible_clusters=2,
    infrared_clusters=2,
    instances=2,
    eps=0.7,
    min_samples=2,
    k1=4,
    k1_after=4,
    k2=2,
    cross_from=1,
    ranked=4,
    smoothing=2,
    optimizer="sgd",
    precision="fp32",
)


class Halves(NamedTuple):
    """Deep and shallow features of the same images, (N, D) each."""

    deep: Tensor
    shallow: Tensor


class Sdcl(Method):
    """Memories of clusters and of images, rebuilt in every epoch."""

    presets: ClassVar[dict[str, Config]] = PRESETS
    config: Config

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs, self.stage_starts = config.epochs, (config.switch,)
        self.stage_start = config.stage_start
        self.model = build(
            config.network, config.size, drop_path=config.drop_path, shallow=True
        ).to(device)
        self.clusters: dict[tuple[Modality, str], Memory] = {}
        self.images: dict[tuple[Modality, str], Memory] = {}
        self.split: list[SplitMemory] = []  # empty if its loss is off
        self.epoch = 0
        self.position = torch.from_numpy(positions(data))

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD with momentum .9, or Adam, over all trainable weights."""
        config = self.config
        return sgd_or_adam(self.model, config.optimizer, config.lr, config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Embed, cluster, build the memories; after the switch match clusters across modalities."""
        config, self.epoch = self.config, epoch
        features = embed_training(self.model, self.data, self.device, config.precision)
        own, momentum, warnings = self._cluster(features)
        labels, partners = dict(own), None
        if self._switched:
            labels[VIS] = self._across(features, own)
            across = by_majority(own[VIS], labels[VIS], int(own[IR].max()) + 1)
            partners = across.infrared_partners()
        self._remember(features, labels, momentum)
        steps = self.steps(epoch)
        return Plan(
            stage="stage 2" if self._switched else "stage 1",
            batches=batches_by_cluster(
                self.data,
                join(self.data, labels),
                clusters={VIS: config.visible_clusters, IR: config.infrared_clusters},
                instances=config.instances,
                steps=steps,
                seed=self.seed,
                epoch=epoch,
                jitter=(config.jitter,) * 3,
            ),
            steps=steps,
            lr=config.lr * 0.1 ** (epoch // config.lr_step),
            labels=join(self.data, own),
            partners=partners,
            warnings=warnings,
        )

    @property
    def _switched(self) -> bool:
        return self.epoch >= self.config.switch

    def _compared(self, modality: Modality, features: Tensor) -> Tensor:
        """The features that are clustered and matched."""
        if not self.config.center_cameras:
            return F.normalize(features, dim=1)
        return centred(features, self.data.cams[self.data.rows(modality)])

    def _cluster(
        self, features: dict[Modality, Tensor]
    ) -> tuple[dict[Modality, IntArray], float, list[str]]:
        config = self.config

        def cluster(modality: Modality, of: Tensor, eps: float) -> IntArray:
            k1 = config.k1_after if self._switched and modality is VIS else config.k1
            return pseudo_labels(
                self._compared(modality, of), eps, config.min_samples, k1, config.k2
            )

        momentum = config.momentum if self.epoch else config.first_momentum
        return cluster_training(features, cluster, config.eps, momentum, config.adapt)

    def _across(self, features: dict[Modality, Tensor], own: dict[Modality, IntArray]) -> IntArray:
        """Infrared clusters of the visible images that are not outliers themselves."""
        config = self.config
        if config.association == "ranking":  # the only one that labels image by image
            views = {
                modality: [self._compared(modality, half) for half in halves(of)]
                for modality, of in features.items()
            }
            found = collaborative_ranking(
                views[VIS], views[IR], own[IR], config.ranked, config.smoothing
            )
        else:
            compared = {m: self._compared(m, of) for m, of in features.items()}
            found = associated(config, compared, own).infrared_partners()[own[VIS]]
        labels: IntArray = np.where(own[VIS] >= 0, found, -1)
        if labels.max(initial=-1) < 0:
            raise InputError(
                "no visible image was matched with an infrared cluster; raise ranked or eps, "
                "lower vote_threshold, or set a later switch"
            )
        return labels

    def _remember(
        self, features: dict[Modality, Tensor], labels: dict[Modality, IntArray], momentum: float
    ) -> None:
        config, self.split = self.config, []
        split = {modality: halves(of) for modality, of in features.items()}
        for i, depth in enumerate(DEPTHS):
            for modality in Modality:
                self.images[modality, depth] = Memory(
                    F.normalize(split[modality][i], dim=1),
                    config.instance_momentum,
                    config.temperature,
                    unit=config.unit_instances,
                )
                self.clusters[modality, depth] = Memory(
                    prototypes(split[modality][i], labels[modality]), momentum, config.temperature
                )
            if self._switched:
                both = torch.cat([split[VIS][i], split[IR][i]])
                shared = prototypes(both, np.concatenate([labels[VIS], labels[IR]]))
                memory = Memory(shared, momentum, config.temperature)
                self.clusters[VIS, depth] = self.clusters[IR, depth] = memory
        if self._switched and config.split_weight:
            people = dict.fromkeys(Modality, np.arange(int(labels[IR].max()) + 1))
            self.split = [SplitMemory(features, labels, people, momentum, config.temperature)]

    def steps(self, epoch: int) -> int:
        """As set, for before and after the switch."""
        config = self.config
        return config.iterations if epoch < config.switch else config.iterations_after

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Contrast with clusters, and with agreed neighbours within and across modalities."""
        config, when = self.config, 1 if self._switched else 0
        terms = self._contrast(batch, outputs)
        for split in self.split:
            terms["split"] = config.split_weight * split.loss(batch, outputs.embedding)
        if self.epoch >= config.intra_from:
            intra = [self._neighbours(batch, outputs, a, a) for a in Modality]
            terms["intra"] = config.intra_weight[when] * torch.stack(intra).sum()
        if self.epoch >= config.cross_from:
            cross = [
                weight * self._neighbours(batch, outputs, a, a.other)
                for a, weight in self._directions()
            ]
            terms["cross"] = config.cross_weight[when] * torch.stack(cross).sum()
        return terms

    def _directions(self) -> list[tuple[Modality, float]]:
        """Modalities whose images get neighbours in the other one this epoch, and their weights."""
        if self.config.cross == "symmetric":
            return [(VIS, 1.0), (IR, 1.0)]
        return [(IR, 1.0)] if self.epoch % 2 else [(VIS, 0.1)]

    def _contrast(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        terms = {}
        for modality in Modality:
            views = batch.of(modality)
            for depth, half in zip(DEPTHS, halves(outputs.embedding[views]), strict=True):
                found = self.clusters[modality, depth].loss(half, batch.labels[views])
                terms[f"{modality.value} {depth}"] = found
        return terms

    def _neighbours(self, batch: Batch, outputs: Features, a: Modality, b: Modality) -> Tensor:
        """Images of `a` against their neighbours in `b` by both embeddings."""
        rows = to_device(self._places(batch, a), self.device)
        both = [self.images[a, of].rows_CD[rows] @ self.images[b, of].rows_CD.T for of in DEPTHS]
        agreed = agreeing(both, self.config.ratio)
        parts = halves(outputs.embedding[batch.of(a)])
        deep, shallow = (
            agreed_loss(self.images[b, depth].logits(half), agreed)
            for depth, half in zip(DEPTHS, parts, strict=True)
        )
        return deep + self.config.shallow_weight * shallow

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Update the memories of clusters and of images with the batch."""
        for i, depth in enumerate(DEPTHS):
            features = halves(outputs.embedding)[i]
            if self._switched:
                self.clusters[VIS, depth].update(features, batch.host.labels)
            for modality in Modality:
                own = features[batch.of(modality)]
                if not self._switched:
                    self.clusters[modality, depth].update(own, batch.host.labels_of(modality))
                self.images[modality, depth].update(own, self._places(batch, modality))
        for split in self.split:
            split.update(batch, outputs.embedding)

    def _places(self, batch: Batch, modality: Modality) -> Tensor:
        """Of every image of a modality its position among all of them, in the memory of the CPU."""
        return self.position[batch.host.rows[batch.host.of(modality)]]

    def state(self) -> dict[str, Any]:
        """Empty: the memories are rebuilt from the model in every epoch."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def step_state(self) -> dict[str, Any]:
        """The rows of the memories."""
        return rows_of(self._memories())

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        restore_rows(self._memories(), state)

    def _memories(self) -> list[Memory]:
        """Those of this epoch."""
        split = (of.memory for of in self.split)
        return [*self.clusters.values(), *self.images.values(), *split]


def halves(embedding_ND: Tensor) -> Halves:
    """The deep and the shallow half of an embedding, not normalised."""
    deep, shallow = embedding_ND.chunk(2, dim=1)
    return Halves(deep, shallow)
