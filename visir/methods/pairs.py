"""Pairs: learn without labels from clusters of both modalities and from matches between them.

visir's own method, for a site that has no labels. Before every epoch the images of each modality
are clustered, on features without their camera's mean, and the clusters are matched across the
modalities. Matches are mutual, after similarities are scaled by how near a cluster is to all
others, so that one cluster cannot be everybody's match. In every step an image is pulled towards
the prototypes of its own and of its matched cluster, and matched images of one batch towards each
other. What embeds, and what is saved, is a moving average of the weights that are trained. If too
few clusters match before the first epoch, nothing is trained and the start is kept.

| part | setting that turns it off |
|---|---|
| matches scaled by nearness (CSLS; Conneau et al., ICLR 2018) | `scaled=0` |
| matches by chance left out (`visir.cluster.margins`) | `chance=1` |
| matches of one side only, if they are strong | `one_sided=1` |
| outliers join a cluster that is clearly the nearest | `fill=1` |
| prototypes of matched clusters | `cross_weight=0` |
| batches that hold matched clusters | `together=false` |
| contrast between images (Khosla et al., NeurIPS 2020) | `contrast_weight=0` |
| several tokens, kept different (TokenMatcher; of a transformer only) | `class_tokens=1` |
| the start is kept if few clusters match | `least_matched=0` |
| moving average of the weights (Tarvainen and Valpola, NIPS 2017) | `average=0` |
| camera means | `center_cameras=false` |
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.adapt import Adapt
from visir.cluster.associate import AssociationName
from visir.cluster.labels import filled, pseudo_labels
from visir.cluster.matches import Association
from visir.cluster.memory import Memory, prototypes, restore_rows, rows_of
from visir.core.bounds import CountFrom0, Positive, PositiveShare, Share
from visir.core.types import Batch, InputError, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.clustering import (
    associated,
    batches_by_cluster,
    cluster_training,
    compared_features,
    embed_training,
    join,
)
from visir.methods.contract import Method, Plan
from visir.methods.losses import diversity, supervised_contrastive
from visir.methods.schedule import adam, cosine
from visir.nets.build import Features, NetworkName, VitName, build

VIS, IR = Modality.VISIBLE, Modality.INFRARED
_KEPT = "start kept"
_SMALL = 30  # clusters, below which the test of matches finds hardly any, right or wrong


@dataclass(frozen=True)
class Config:
    """All values are ours, for starting from the ready model; it has seen synthetic people only."""

    size: tuple[int, int] = (96, 48)  # input height, width in pixels
    network: NetworkName = "resnet-mini"  # that of the ready model
    class_tokens: int = 1  # of a transformer; its embedding joins them
    diversity_weight: float = 1.0  # of the loss that keeps the tokens different
    epochs: int = 10
    iterations: int = 40  # batches per epoch
    visible_clusters: int = 8  # per batch, with two views of each image
    infrared_clusters: int = 16  # per batch
    instances: int = 4  # images of each cluster in a batch
    eps: tuple[PositiveShare, PositiveShare] = (0.5, 0.4)  # DBSCAN radius, visible and infrared
    adapt: Adapt = "eps"  # what is changed if clustering fails
    min_samples: int = 4  # neighbours of a core point
    k1: int = 16  # k-reciprocal neighbourhood; that of infrared images is five eighths of it
    k2: int = 4  # query expansion
    fill: Share = 0.05  # by which cosine a cluster must be nearer than others to take an outlier
    center_cameras: bool = True  # cluster and match features without their camera's mean
    association: AssociationName = "mutual-scaled"  # of visible and infrared clusters
    scaled: CountFrom0 = 5  # largest similarities that others are scaled by (CSLS); 0 for none
    one_sided: Share = 0.1  # quantile of mutual matches that one of one side exceeds; 1: never
    chance: Share = 0.3  # largest estimated share of matches by chance (q-value)
    least_matched: Share = 0.25  # of the clusters; with fewer mutual matches the start is kept
    together: bool = True  # a batch holds the matches of its visible clusters
    temperature: Positive = 0.05  # of the prototypes
    momentum: Share = 0.2  # weight of the old prototype
    cross_weight: float = 1.0  # of the matched cluster's prototype
    contrast_weight: float = 1.0  # of the contrast between the images of a batch
    contrast_temperature: Positive = 0.1
    average: Share = 0.995  # weight of the old average of the weights in a step
    lr: Positive = 2e-4  # Adam; falls along a cosine
    least_lr: float = 1e-5  # the last one
    weight_decay: float = 5e-4
    pad: CountFrom0 = 4  # border before the random crop, pixels
    precision: Literal["auto", "bf16", "fp32"] = "auto"


PRESETS = {"tiny": Config()}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    network="resnet-micro",
    size=(32, 16),
    epochs=3,
    iterations=2,
    visible_clusters=2,
    infrared_clusters=2,
    instances=2,
    eps=(0.7, 0.7),
    min_samples=2,
    k1=4,
    k2=2,
    chance=1.0,
    least_matched=0.0,
    average=0.98,
    precision="fp32",
)


class Pairs(Method):
    """One stage; memories and matches are rebuilt in every epoch.

    Attributes:
        model: the average of the weights; embeds, and is saved.
        learner: the network that is trained.
    """

    presets: ClassVar[dict[str, Config]] = PRESETS
    reads_maps: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs = config.epochs
        if config.class_tokens > 1 and config.network not in get_args(VitName):
            raise InputError(
                f"setting class_tokens={config.class_tokens}: the network {config.network} has "
                f"one; set class_tokens=1, or network to one of {', '.join(get_args(VitName))}"
            )
        net = build(config.network, config.size, config.class_tokens)
        self.model = net.to(device).requires_grad_(False)
        self.learner = deepcopy(self.model).requires_grad_(True)
        self.memories: dict[Modality, Memory] = {}
        self.matches: dict[Modality, Tensor] = {}  # cluster of the other modality, -1 for none
        self.people: dict[Modality, Tensor] = {}  # number of each cluster, equal if matched
        self.kept = False  # the start, because too few clusters matched

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all trainable weights."""
        return adam(self.learner, self.config.lr, self.config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Embed by the average, cluster, match, and build the memories."""
        config = self.config
        if epoch and self.kept:
            return Plan(stage=_KEPT, batches=(), steps=0, lr=config.lr, trains=False)
        if epoch == 0:  # the start is loaded into the model
            self.learner.load_state_dict(self.model.state_dict())
        features = embed_training(self.model, self.data, self.device, config.precision)
        self.learner.train()
        compared = compared_features(features, self.data, config.center_cameras)
        labels, momentum, warnings = cluster_training(
            compared, self._cluster, config.eps, config.momentum, config.adapt
        )
        self._match(compared, labels)
        if epoch == 0 and (said := self._too_few_matches()):
            self.kept, warnings = True, [*warnings, said]
        labels = {m: filled(compared[m], of, config.fill) for m, of in labels.items()}
        self.memories = {
            modality: Memory(prototypes(of, labels[modality]), momentum, config.temperature)
            for modality, of in features.items()
        }
        joined, partners = join(self.data, labels), self.matches[VIS].cpu().numpy()
        return Plan(
            stage=_KEPT if self.kept else "pairs",
            batches=batches_by_cluster(
                self.data,
                joined,
                clusters={VIS: config.visible_clusters, IR: config.infrared_clusters},
                instances=config.instances,
                steps=config.iterations,
                seed=self.seed,
                epoch=epoch,
                partners=partners if config.together else None,
            ),
            steps=config.iterations,
            lr=config.least_lr + cosine(config.lr - config.least_lr, epoch, config.epochs),
            labels=joined,
            partners=partners,
            warnings=warnings,
            trains=not self.kept,
        )

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config = self.config
        k1 = max(2, config.k1 * 5 // 8) if modality is IR else config.k1
        return pseudo_labels(features, eps, config.min_samples, k1, config.k2)

    def _associated(
        self, compared: dict[Modality, Tensor], labels: dict[Modality, IntArray]
    ) -> Association:
        """The matches of the clusters, in both directions."""
        return associated(self.config, compared, labels)

    def _match(self, compared: dict[Modality, Tensor], labels: dict[Modality, IntArray]) -> None:
        """Set the matches, and give all clusters that hang together by them one number."""
        found = self._associated(compared, labels)
        people = found.people()
        for modality, matches in zip((VIS, IR), found.matches(), strict=True):
            self.matches[modality] = torch.from_numpy(matches).to(self.device)
            self.people[modality] = torch.from_numpy(people[modality]).to(self.device)

    def _too_few_matches(self) -> str:
        """What to say if too few clusters have a mutual match; empty if there are enough."""
        there, back = (self.matches[m].cpu().numpy() for m in (VIS, IR))
        few, least = min(len(there), len(back)), self.config.least_matched
        matched = int((back[there[there >= 0]] == np.flatnonzero(there >= 0)).sum())
        if matched >= least * few:
            return ""
        sure, small, fix = "", "", "least_matched=0"
        if self.config.chance < 1:
            sure, fix = " that chance does not explain", "chance=1 and least_matched=0"
            if few < _SMALL:
                small = f"; with fewer than {_SMALL} hardly any match can be sure"
        return (
            f"{matched} of {few} clusters have a mutual match in the other modality{sure}, fewer "
            f"than {least:.0%}{small}: matches are too uncertain to learn from, so the start is "
            f"kept; set {fix} to train on all matches all the same"
        )

    def steps(self, epoch: int) -> int:
        """As set."""
        return self.config.iterations

    def forward(self, batch: Batch) -> Features:
        """By the network that is trained."""
        found: Features = self.learner(batch.images, batch.host.infrared)
        return found

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Towards the own and the matched prototype, and between the images of the batch."""
        config, terms = self.config, {}
        people = torch.empty_like(batch.labels)
        for modality in Modality:
            views = batch.of(modality)
            features, labels = outputs.embedding[views], batch.labels[views]
            people[views] = self.people[modality][labels]
            if config.class_tokens > 1 and config.diversity_weight:
                alike = diversity(outputs.tokens[views])
                terms[f"{modality.value} diversity"] = config.diversity_weight * alike
            terms[modality.value] = self.memories[modality].loss(features, labels)
            if config.cross_weight:
                matched = self.matches[modality][labels]
                loss = _towards(self.memories[modality.other], features, matched)
                terms[f"{modality.value} matches"] = config.cross_weight * loss
        if config.contrast_weight:
            contrast = supervised_contrastive(
                outputs.embedding, people, config.contrast_temperature
            )
            terms["contrast"] = config.contrast_weight * contrast
        return terms

    @torch.no_grad()
    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Blend the batch into both memories, and the weights into their average."""
        for modality, memory in self.memories.items():
            views = batch.of(modality)
            memory.update(outputs.embedding[views], batch.host.labels_of(modality))
        learnt = self.learner.state_dict()
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(learnt[name], 1 - self.config.average)
            else:
                value.copy_(learnt[name])

    def state(self) -> dict[str, Any]:
        """The network that is trained, and whether the start is kept."""
        return {"learner": self.learner.state_dict(), "kept": self.kept}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.learner.load_state_dict(state["learner"])
        self.kept = state["kept"]

    def step_state(self) -> dict[str, Any]:
        """The rows of the memories."""
        return rows_of(self.memories.values())

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        restore_rows(self.memories.values(), state)


def _towards(memory: Memory, features: Tensor, rows: Tensor) -> Tensor:
    """Cross-entropy towards rows, mean over all features; those of row -1 count as 0."""
    losses = F.cross_entropy(memory.logits(features), rows, ignore_index=-1, reduction="sum")
    return losses / len(rows)
