"""ADCA: augmented dual-contrastive aggregation (Yang, Ye, Chen, Wu; ACM MM 2022).

Visible-infrared re-identification without labels. Stage 1 (dual contrastive learning) clusters each
modality separately and pulls images towards their cluster's prototype. Visible images are used
twice, unchanged and with one channel in place of all three, which makes them more like infrared
ones. In stage 2 (cross-modality memory aggregation) pairs of similar images vote for pairs of
clusters; these are matched one-to-one by decreasing votes, and the infrared prototype of a pair is
mixed into the visible one, so that both modalities are pulled towards the same point.

| paper | function |
|---|---|
| two-stream network, Sec. 3.1 | `visir.nets.two_stream.TwoStream` |
| pseudo-labels per modality, Sec. 3.2 | `visir.cluster.labels.pseudo_labels` |
| memory, Eq. 1, 4-5 | `visir.cluster.memory.prototypes`, `Memory.update` |
| dual contrastive loss, Eq. 2-3, 6 | `Memory.loss`, `Adca.loss` |
| count priority selection, Sec. 3.3 | `visir.cluster.associate.count_priority` |
| memory aggregation, Sec. 3.3 | `Adca._aggregate` |

Deviations: stage 2 starts from stage 1's last epoch (script: its best epoch on the test
identities); embeddings are normalised before and after averaging over the mirror image (script:
not); all losses of a step read the memories as they were before it (script: the second loss reads
what the first has changed); if a cluster has just enough other images for its group in a batch,
they are drawn without repetition (script: with). Ours, and off in the published presets: the ViT
(`network`), `center_cameras`, `adapt`, `split_weight`, and every `association` but "count". A ViT
starts as `visir.nets.vit` says unless a pre-trained file is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from visir.cluster.adapt import Adapt
from visir.cluster.associate import AssociationName
from visir.cluster.labels import Algorithm, pseudo_labels
from visir.cluster.matches import Association
from visir.cluster.memory import Memory, Rule, prototypes, restore_rows, rows_of
from visir.cluster.split import SplitMemory
from visir.core.bounds import CountFrom0, Positive, PositiveShare, Share
from visir.core.types import Batch, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.clustering import (
    associated,
    batches_by_cluster,
    cluster_training,
    compared_features,
    embed_training,
    join,
)
from visir.methods.contract import Method, Plan, StageStart
from visir.methods.schedule import adam
from visir.nets.build import Features, NetworkName, build

VIS, IR = Modality.VISIBLE, Modality.INFRARED


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [paper]
    network: NetworkName = "resnet50"  # [paper]; "micro", "small" and "base" are ViTs, ours
    drop_path: Share = 0.0  # ours; a ResNet has none
    stage_epochs: tuple[CountFrom0, CountFrom0] = (50, 50)  # [paper]
    stage_start: StageStart = "last"  # epoch that stage 2 continues from [script: test-best]
    iterations: int = 200  # batches per epoch [script]
    visible_clusters: int = 8  # per batch, with two views of each image [script]
    infrared_clusters: int = 16  # per batch [script]
    instances: int = 16  # images of each cluster in a batch [paper]
    algorithm: Algorithm = "dbscan"  # clustering of the distances [paper]
    eps: PositiveShare = 0.6  # DBSCAN radius, Jaccard distance [paper]
    adapt: Adapt = "nothing"  # ours: what is changed if clustering fails
    min_samples: int = 4  # neighbours of a core point [paper]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: Positive = 0.05  # [paper]
    momentum: Share = 0.1  # weight of the old prototype [script]
    memory: Rule = "momentum"  # how a batch changes a prototype [script]
    association: AssociationName = "count"  # of visible and infrared clusters [paper]
    vote_threshold: float = 0.5  # minimum cosine of two images that vote [script]
    transport_temperature: Positive = 0.05  # of similarities in optimal transport; ours
    transport_slack: Positive = 0.1  # marginal penalty, in cosine; ours
    aggregation: Share = 0.9  # weight of the infrared prototype in a pair [script]
    split_weight: float = 0.0  # of BMIL's split-and-contrast loss in stage 2; ours
    lr: Positive = 3.5e-4  # Adam [paper]
    weight_decay: float = 5e-4  # [script]
    lr_step: int = 20  # epochs after which the rate falls to a tenth, per stage [paper]
    pad: CountFrom0 = 10  # border before the random crop, pixels [script]
    center_cameras: bool = False  # ours: subtract each camera's mean before clustering
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(eps=0.3, iterations=100),
    "tiny": Config(
        size=(64, 32),
        network="micro",
        stage_epochs=(10, 20),
        iterations=40,
        instances=4,
        eps=0.5,
        adapt="eps",
        k1=16,
        momentum=0.2,
        association="mutual",
        vote_threshold=0.3,
        lr=1e-3,
        lr_step=15,
        pad=4,
        center_cameras=True,
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    stage_epochs=(2, 2),
    iterations=2,
    visible_clusters=2,
    infrared_clusters=2,
    instances=2,
    eps=0.7,
    min_samples=2,
    k1=4,
    k2=2,
    precision="fp32",
)


class Adca(Method):
    """Two stages over one network; the memories are rebuilt in every epoch."""

    presets: ClassVar[dict[str, Config]] = PRESETS
    reads_maps: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs = sum(config.stage_epochs)
        self.stage_starts, self.stage_start = (config.stage_epochs[0],), config.stage_start
        self.model = build(config.network, config.size, drop_path=config.drop_path).to(device)
        self.memories: dict[Modality, Memory] = {}
        self.split: list[SplitMemory] = []  # empty if its loss is off

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all trainable weights."""
        return adam(self.model, self.config.lr, self.config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Embed, cluster and build the memories; in stage 2 match the clusters too."""
        config = self.config
        second = epoch >= config.stage_epochs[0]
        in_stage = epoch - config.stage_epochs[0] if second else epoch
        features = embed_training(self.model, self.data, self.device, config.precision)
        compared = compared_features(features, self.data, config.center_cameras)
        labels, momentum, warnings = cluster_training(
            compared, self._cluster, config.eps, config.momentum, config.adapt
        )
        self.memories = {
            modality: Memory(
                prototypes(features[modality], labels[modality]),
                momentum,
                config.temperature,
                config.memory,
            )
            for modality in Modality
        }
        partners, self.split = None, []
        if second:
            association = associated(config, compared, labels)
            self._aggregate(association)
            if config.split_weight:
                settings = momentum, config.temperature, config.memory
                self.split = [SplitMemory(features, labels, association.people(), *settings)]
            partners = association.infrared_partners()
        joined = join(self.data, labels)
        return Plan(
            stage="stage 2" if second else "stage 1",
            batches=batches_by_cluster(
                self.data,
                joined,
                clusters={VIS: config.visible_clusters, IR: config.infrared_clusters},
                instances=config.instances,
                steps=config.iterations,
                seed=self.seed,
                epoch=epoch,
            ),
            steps=config.iterations,
            lr=config.lr * 0.1 ** (in_stage // config.lr_step),
            fresh_optimizer=in_stage == 0,
            labels=joined,
            partners=partners,
            warnings=warnings,
        )

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config = self.config
        return pseudo_labels(
            features,
            eps,
            min_samples=config.min_samples,
            k1=config.k1,
            k2=config.k2,
            algorithm=config.algorithm,
        )

    def _aggregate(self, association: Association) -> None:
        """Mix infrared prototypes into matched visible ones; not normalised, as published."""
        shares = self.config.aggregation * torch.from_numpy(association.vis_to_ir).to(self.device)
        own, other = self.memories[VIS].rows_CD, self.memories[IR].rows_CD
        self.memories[VIS].rows_CD = (1 - shares.sum(dim=1, keepdim=True)) * own + shares @ other

    def steps(self, epoch: int) -> int:
        """As set."""
        return self.config.iterations

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Each modality against its own memory (Eq. 2-3), with both views of visible images."""
        terms = {
            modality.value: memory.loss(
                outputs.embedding[batch.of(modality)], batch.labels[batch.of(modality)]
            )
            for modality, memory in self.memories.items()
        }
        for split in self.split:
            terms["split"] = self.config.split_weight * split.loss(batch, outputs.embedding)
        return terms

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Blend the batch into both memories (Eq. 4-5)."""
        for modality, memory in self.memories.items():
            views = batch.of(modality)
            memory.update(outputs.embedding[views], batch.host.labels_of(modality))
        for split in self.split:
            split.update(batch, outputs.embedding)

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
        return [*self.memories.values(), *(split.memory for split in self.split)]
