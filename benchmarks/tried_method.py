"""The method `pairs` with parts that were tried for it and left out.

For the grids `tried.yaml`, `tried-ready.yaml` and `tried-nothing.yaml`. All are off by default.

| part | setting |
|---|---|
| prototypes of each camera as further positives (CAP: Wang et al., AAAI 2021) | `proxy_weight` |
| clusters and matches by horizontal parts of the last map | `parts` |
| deviation as well as mean of a camera taken off what is compared | `deviation` |
| a random share of the images is clustered, the others join the nearest cluster | `subset` |
| only matches that the images of both clusters had in the epoch before, too | `over_epochs` |
| only matches that the parts of the last map find, too | `over_parts` |
| the most similar clusters as soft targets in place of one match | `soft` |
| similarities at the start count as well when clusters are matched | `prior` |
| a pull of the weights towards the start (L2-SP: Li et al., ICML 2018) | `pull` |
| each modality by itself in the first epochs, without matches | `alone` |
| memories that hold both modalities of matched clusters (TokenMatcher) | `mixed` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.cluster.cameras import centred
from visir.cluster.labels import filled
from visir.cluster.matches import Association, Side, similarity
from visir.cluster.memory import Memory, prototypes, towards_all
from visir.cluster.metrics import majority
from visir.core.bounds import CountFrom0, Share
from visir.core.types import Batch, IntArray, Modality
from visir.data.rng import generator
from visir.methods.clustering import embed_training
from visir.methods.contract import Plan
from visir.methods.pairs import Config as PairsConfig
from visir.methods.pairs import Pairs
from visir.nets.build import Features

VIS, IR = Modality.VISIBLE, Modality.INFRARED


@dataclass(frozen=True)
class Config(PairsConfig):
    """Those of `pairs`, and the parts that were tried."""

    proxy_weight: float = 0.0
    parts: CountFrom0 = 0  # horizontal ones of the last map; 0 for the embedding
    deviation: bool = False
    subset: Share = 1.0
    over_epochs: bool = False
    over_parts: CountFrom0 = 0
    soft: float = 0.0  # temperature of the targets; 0 for one match
    prior: Share = 0.0  # weight of the similarities at the start
    pull: float = 0.0
    alone: CountFrom0 = 0  # epochs
    mixed: Share = 0.0  # weight of the old prototype; 0 for memories of one modality


class Parts(nn.Module):
    """A network whose embedding is that of horizontal parts of its last map, side by side."""

    def __init__(self, net: nn.Module, count: int) -> None:
        super().__init__()
        self.net, self.count = net, count

    def forward(self, images: Tensor, infrared: Tensor) -> Features:
        """(B, C * count) parts of length 1 each."""
        found = self.net(images, infrared)
        parts = F.adaptive_avg_pool2d(found.maps, (self.count, 1))[..., 0]
        return found._replace(embedding=F.normalize(parts, dim=1).flatten(1))


class Tried(Pairs):
    """Pairs with one part more."""

    presets: ClassVar[dict[str, PairsConfig]] = {"tiny": Config()}
    config: Config

    def plan(self, epoch: int) -> Plan:
        """As `pairs`, on the features that the settings ask for."""
        config = self.config
        self.epoch = epoch
        if epoch == 0:
            self.before: dict[Modality, IntArray] = {}
            self.begin = [of.detach().clone() for of in self.model.parameters()]
            self.first = self._features(0) if config.prior else {}
        self.wanted = self._features(config.parts)
        self.checked = self._features(config.over_parts) if config.over_parts else {}
        plan = super().plan(epoch)
        if config.proxy_weight:
            self.proxies = {m: self._proxies(m, plan.labels) for m in Modality}
        if config.mixed and epoch >= config.alone:
            self.memories = self._mixed(plan.labels)
        return plan

    def _features(self, parts: int) -> dict[Modality, Tensor]:
        """What is clustered and matched: (N, D) of each modality, without camera means."""
        net = Parts(self.model, parts) if parts else self.model
        found = embed_training(net, self.data, self.device, self.config.precision)
        return {
            m: centred(of, self.data.cams[self.data.rows(m)], self.config.deviation)
            for m, of in found.items()
        }

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config, features = self.config, self.wanted[modality]
        if config.subset == 1:
            return super()._cluster(modality, features, eps)
        drawn = generator(self.seed, self.epoch, modality is IR).permutation(len(features))
        rows = np.sort(drawn[: round(config.subset * len(features))])
        labels = np.full(len(features), -1, np.int64)
        labels[rows] = super()._cluster(modality, features[torch.from_numpy(rows)], eps)
        rest = filled(features, labels, 0.0)  # all that are left join the nearest cluster
        labels[drawn[len(rows) :]] = rest[drawn[len(rows) :]]
        return labels

    def _associated(
        self, compared: dict[Modality, Tensor], labels: dict[Modality, IntArray]
    ) -> Association:
        config, features = self.config, self.wanted
        if self.epoch < config.alone:
            visible, infrared = (int(labels[m].max(initial=-1)) + 1 for m in (VIS, IR))
            none = np.zeros((visible, infrared), np.float32)
            return Association(none, none.T)
        if config.prior:  # cosines of both, weighted
            now, then = (1 - config.prior) ** 0.5, config.prior**0.5
            features = {
                m: torch.cat([now * features[m], then * self.first[m]], dim=1) for m in Modality
            }
        found = super()._associated(features, labels)
        if config.over_parts:
            found = _both(found, super()._associated(self.checked, labels))
        if config.over_epochs:
            found = self._as_before(found, labels)
        if config.soft:
            vis, ir = (Side(features[m], labels[m]) for m in (VIS, IR))
            sims = torch.from_numpy(similarity(vis, ir)) / config.soft
            self.targets = {VIS: sims.softmax(dim=1), IR: sims.T.softmax(dim=1)}
        return found

    def _as_before(self, found: Association, labels: dict[Modality, IntArray]) -> Association:
        """Matches of clusters that had mostly one number in the epoch before; notes new ones."""
        kept = found
        if self.before:
            vis, ir = (majority(labels[m], self.before[m]) for m in (VIS, IR))
            same = vis[:, None] == ir[None]
            kept = Association(found.vis_to_ir * same, found.ir_to_vis * same.T)
        people = found.people()
        number = 1 + max(int(of.max(initial=-1)) for of in people.values())
        for modality, of in people.items():
            own = labels[modality]
            alone = number + np.arange(len(own))  # every outlier has a number of its own
            number += len(own)
            self.before[modality] = np.where(own >= 0, of[own], alone)
        return kept

    def _mixed(self, joined: IntArray) -> dict[Modality, Memory]:
        """A memory of each modality's clusters, each with the images of its match as well."""
        features = embed_training(self.model, self.data, self.device, self.config.precision)
        labels = {m: joined[self.data.rows(m)] for m in Modality}
        found = {}
        for m in Modality:
            back = self.matches[m.other].cpu().numpy()
            across = np.where(labels[m.other] >= 0, back[labels[m.other]], -1)
            rows = prototypes(
                torch.cat([features[m], features[m.other]]), np.concatenate([labels[m], across])
            )
            found[m] = Memory(rows, self.config.mixed, self.config.temperature)
        return found

    def _proxies(self, modality: Modality, joined: IntArray) -> tuple[Tensor, Tensor]:
        """Prototypes of the images of each cluster and camera, and the clusters they are of."""
        rows = self.data.rows(modality)
        labels, cams = joined[rows], self.data.cams[rows]
        clustered = labels >= 0
        pairs, numbers = np.unique(
            np.stack([labels, cams])[:, clustered], axis=1, return_inverse=True
        )
        own = np.full(len(rows), -1, np.int64)
        own[clustered] = numbers.reshape(-1)
        features = embed_training(self.model, self.data, self.device, self.config.precision)
        return prototypes(features[modality], own), torch.from_numpy(pairs[0]).to(self.device)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """As `pairs`, and the terms that are tried."""
        config, terms = self.config, super().loss(batch, outputs)
        for modality in Modality:
            views = batch.of(modality)
            features, labels = outputs.embedding[views], batch.labels[views]
            if config.proxy_weight:
                rows, clusters = self.proxies[modality]
                logits = F.normalize(features, dim=1) @ rows.T / config.temperature
                near = towards_all(logits, labels[:, None] == clusters[None])
                terms[f"{modality.value} proxies"] = config.proxy_weight * near
            if config.soft:
                logits = self.memories[modality.other].logits(features)
                soft = F.cross_entropy(logits, self.targets[modality][labels])
                terms[f"{modality.value} matches"] = config.cross_weight * soft
        if config.pull:
            moved = sum(
                (now - then).square().sum()
                for now, then in zip(self.learner.parameters(), self.begin, strict=True)
            )
            terms["pull"] = config.pull * torch.as_tensor(moved)
        return terms


def _both(one: Association, other: Association) -> Association:
    """The matches of both."""
    return Association(one.vis_to_ir * (other.vis_to_ir > 0), one.ir_to_vis * (other.ir_to_vis > 0))
