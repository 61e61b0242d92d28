"""ADCA: augmented dual-contrastive aggregation (Yang, Ye, Chen, Wu; ACM MM 2022).

Learning visible-infrared re-identification without labels. Stage 1 (dual contrastive learning)
clusters each modality by itself and pulls images to their cluster's prototype; visible images
enter twice, once as they are and once with a channel exchanged, which brings them towards
infrared. Stage 2 (cross-modality memory aggregation) lets pairs of similar images vote for pairs
of clusters, takes them one-to-one by falling votes, and fills the visible prototype of a pair with
the infrared one, so that both modalities are drawn to one point.

| paper | function |
|---|---|
| two-stream network, Sec. 3.1 | `visir.nets.two_stream.TwoStream` |
| pseudo-labels per modality, Sec. 3.2 | `visir.cluster.labels.pseudo_labels` |
| memory, Eq. 1, 4-5 | `visir.cluster.memory.prototypes`, `Memory.update` |
| dual contrastive loss, Eq. 2-3, 6 | `Memory.loss`, `Adca.loss` |
| count priority selection, Sec. 3.3 | `visir.cluster.associate.count_priority` |
| memory aggregation, Sec. 3.3 | `Adca._aggregate` |

Deviations: stage 2 starts from stage 1's last epoch (script: its best epoch on the test
identities); descriptors are normalised before and after the average over the mirror image (script:
not); all losses of a step read the memories as they stood before it (script: the second reads what
the first has changed); a group of a batch whose cluster has just enough other images draws them
without repetition (script: with). Ours, and off in the published presets: the ViT (`network`),
`center_cameras`, `adapt`, and every `association` but "count". With a ViT, positions and weights
start as `visir.nets.vit` says unless a pre-trained file is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from visir.cluster.associate import (
    Association,
    AssociationName,
    Side,
    count_priority,
    greedy,
    mutual,
    ranking,
    transport,
)
from visir.cluster.cameras import centred
from visir.cluster.health import Adapt
from visir.cluster.labels import Algorithm, pseudo_labels
from visir.cluster.memory import Memory, Rule, prototypes
from visir.core.types import Batch, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.clustering import batches_by_cluster, cluster_training, embed_training, join
from visir.methods.contract import Plan
from visir.nets.build import Features, NetworkName, build

VIS, IR = Modality.VISIBLE, Modality.INFRARED


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [paper]
    network: NetworkName = "resnet50"  # [paper]; "micro", "small" and "base" are ViTs, ours
    drop_path: float = 0.0  # ours; a ResNet has none
    stage_epochs: tuple[int, int] = (50, 50)  # [paper]
    stage_start: Literal["last", "test-best"] = "last"  # epoch stage 2 begins with [script: test]
    iterations: int = 200  # batches an epoch [script]
    visible_clusters: int = 8  # in a batch, of `instances` images, two views each [script]
    infrared_clusters: int = 16  # [script]
    instances: int = 16  # images of a cluster in a batch [paper]
    algorithm: Algorithm = "dbscan"  # what makes clusters of distances [paper]
    eps: float = 0.6  # DBSCAN radius, Jaccard distance [paper]
    adapt: Adapt = "nothing"  # ours: "eps" or "momentum" gives way where clustering fails
    min_samples: int = 4  # neighbours of a core point [paper]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: float = 0.05  # [paper]
    momentum: float = 0.1  # weight of the old prototype [script]
    memory: Rule = "momentum"  # how a batch changes a prototype [script]
    association: AssociationName = "count"  # of visible and infrared clusters [paper]
    vote_threshold: float = 0.5  # least cosine of a voting pair [script]
    transport_temperature: float = 0.05  # of similarities, in optimal transport; ours
    transport_slack: float = 0.1  # price of giving less than all, in cosine; ours
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


class Adca:
    """Two stages over one network; memories are made anew at every epoch."""

    presets: ClassVar[dict[str, Config]] = PRESETS

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs = sum(config.stage_epochs)
        self.stage_starts = (config.stage_epochs[0],)
        self.model = build(config.network, config.size, drop_path=config.drop_path).to(device)
        self.memories: dict[Modality, Memory] = {}

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
        features = embed_training(self.model, self.data, self.device, config.precision)
        compared = {modality: self._compared(modality, of) for modality, of in features.items()}
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
        partners = None
        if second:
            association = associate(
                Side(compared[VIS], labels[VIS]), Side(compared[IR], labels[IR]), config
            )
            self._aggregate(association)
            partners = association.infrared_partners()
        joined = join(self.data, labels)
        return Plan(
            stage="stage 2" if second else "stage 1",
            batches=batches_by_cluster(
                self.data,
                joined,
                {VIS: config.visible_clusters, IR: config.infrared_clusters},
                config.instances,
                config.iterations,
                self.seed,
                epoch,
            ),
            steps=config.iterations,
            lr=config.lr * 0.1 ** (in_stage // config.lr_step),
            fresh_optimizer=in_stage == 0,
            labels=joined,
            partners=partners,
            warnings=warnings,
        )

    def _compared(self, modality: Modality, features: Tensor) -> Tensor:
        """What clusters and pairs are found on."""
        if not self.config.center_cameras:
            return features
        return centred(features, self.data.cams[self.data.rows(modality)])

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config = self.config
        return pseudo_labels(
            features, eps, config.min_samples, config.k1, config.k2, config.algorithm
        )

    def _aggregate(self, association: Association) -> None:
        """Mix infrared prototypes into visible partners' ones; not normalised, as published."""
        shares = self.config.aggregation * torch.from_numpy(association.vis_to_ir).to(self.device)
        own, other = self.memories[VIS].rows_CD, self.memories[IR].rows_CD
        self.memories[VIS].rows_CD = (1 - shares.sum(dim=1, keepdim=True)) * own + shares @ other

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Each modality against its own memory (Eq. 2-3); both views of visible images count."""
        return {
            modality.value: memory.loss(
                outputs.embedding[batch.of(modality)], batch.labels[batch.of(modality)]
            )
            for modality, memory in self.memories.items()
        }

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Blend the batch into both memories (Eq. 4-5)."""
        for modality, memory in self.memories.items():
            mask = batch.of(modality)
            memory.update(outputs.embedding[mask], batch.labels[mask])

    def state(self) -> dict[str, Any]:
        """Nothing: memories are rebuilt from the model at every epoch."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""


def associate(vis: Side, ir: Side, config: Config) -> Association:
    """Partners of the clusters, in the way the settings name."""
    temperature = config.transport_temperature
    match config.association:
        case "count":
            return count_priority(vis, ir, config.vote_threshold)
        case "greedy":
            return greedy(vis, ir)
        case "mutual":
            return mutual(vis, ir)
        case "ranking":
            return ranking(vis, ir)
        case "balanced":
            return transport(vis, ir, temperature)
        case _:
            return transport(vis, ir, temperature, config.transport_slack)
