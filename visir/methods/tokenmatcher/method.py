"""TokenMatcher: diverse tokens, their agreement, and clusters that share partners (AAAI 2025).

Visible-infrared re-identification without labels. A transformer gives N class tokens of an image; a
loss keeps them different from each other. Stage 1 clusters each modality separately. The camera
stage then trains on each camera alone to obtain reliable clusters within it; these networks are
discarded. In stage 2 each image is pulled towards the neighbours on which all tokens agree, except
those its camera clustered apart. Clusters are matched across modalities, at most λ = 2 per partner,
and both modalities are trained with memories that hold both.

| paper | function |
|---|---|
| N class tokens, Sec. 3.2 | `visir.nets.vit.Vit` with `class_tokens` |
| self-diverse constraint, after DC-Former | `visir.methods.losses.diversity` |
| diverse-token neighbour learning | `agreeing_neighbours`, `visir.cluster.neighbour_loss` |
| labels inside the cameras, filter | `visir.cluster.cameras.camera_filter` |
| matching with at most λ sharers, Alg. 1 | `visir.cluster.associate.greedy` |
| mixed memories, cross and mate losses | `TokenMatcher.loss`, `visir.cluster.associate.mates_of` |

Deviations are listed in docs/methods/tokenmatcher.md, with the settings that undo them. Every
`association` but "greedy" is ours, and so is `split_weight`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from visir.cluster.agreement import agreeing_neighbours
from visir.cluster.associate import mates_of
from visir.cluster.cameras import camera_filter
from visir.cluster.labels import pseudo_labels
from visir.cluster.matches import Association
from visir.cluster.memory import (
    Memory,
    Read,
    loss_of,
    prototypes,
    restore_rows,
    rows_of,
    script_losses,
)
from visir.cluster.neighbour_loss import Lists, neighbour_loss
from visir.cluster.split import SplitMemory
from visir.core.device import to_device
from visir.core.types import Batch, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.clustering import (
    associated,
    batches_by_cluster,
    cluster_training,
    compared_features,
    embed_training,
    join,
    positions,
)
from visir.methods.contract import Method, Plan
from visir.methods.losses import diversity
from visir.methods.schedule import cosine, sgd_or_adam
from visir.methods.tokenmatcher.camera_stage import CameraStage, schedule
from visir.methods.tokenmatcher.settings import PRESETS, Config, require_sound
from visir.nets.build import Features, build

VIS, IR = Modality.VISIBLE, Modality.INFRARED
# Filters the neighbours (N, N) within a modality; the last argument is their features (N, D).
InsideCameras = Callable[[Modality, sparse.csr_array, Tensor], sparse.csr_array]


class TokenMatcher(Method):
    """Two stages over one network, and between them a short training on each camera.

    Args:
        config: the settings.
        data: the training images.
        device: of the network.
        seed: of the run.
        inside_cameras: replaces the filter by clusters of the camera stage.
    """

    presets: ClassVar[dict[str, Any]] = PRESETS
    config: Config

    def __init__(
        self,
        config: Config,
        data: TrainingSet,
        device: torch.device,
        seed: int,
        inside_cameras: InsideCameras | None = None,
    ) -> None:
        require_sound(config)
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.inside_cameras = inside_cameras or self._filtered
        self.schedule = list(schedule(config, data))
        self.epochs = len(self.schedule)
        self.stage_starts, self.stage_start = (config.stage_epochs[0],), config.stage_start
        self.model = build(config.network, config.size, config.class_tokens, config.drop_path).to(
            device
        )
        self.when = self.schedule[0]
        self.memories: dict[Modality, Memory] = {}
        self.pure: dict[Modality, Memory] = {}
        self.images: dict[Modality, Memory] = {}
        self.split: list[SplitMemory] = []  # empty if its loss is off
        self.neighbours: dict[tuple[Modality, Modality], Lists] = {}
        self.many = VIS  # the modality with more clusters, which share partners
        self.partners: dict[Modality, Tensor] = {}
        self.mates: dict[Modality, Tensor] = {}
        self.cameras = CameraStage(config, data, self.model, device, seed)
        self.position = torch.from_numpy(positions(data))

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD with momentum .9, or Adam, over all trainable weights."""
        config = self.config
        return sgd_or_adam(self.model, config.optimizer, config.lr[0], config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Embed, cluster, build the memories; in stage 2 the neighbour lists and partners too."""
        self.when = self.schedule[epoch]
        if self.when.stage == "camera stage":
            plan = self.cameras.plan(epoch, self.when, self._lr(0, self._camera_span))
            self.memories = self.cameras.memories
            return plan
        self.cameras.leave()
        return self._plan_stage(epoch, self.when.stage == "stage 2")

    def _plan_stage(self, epoch: int, second: bool) -> Plan:
        config, stage = self.config, 1 if second else 0  # place in settings given by stage
        features = embed_training(self.model, self.data, self.device, config.precision)
        compared = compared_features(features, self.data, config.center_cameras)
        labels, momentum, warnings = cluster_training(
            compared, self._cluster, config.eps, config.momentum[stage], config.adapt
        )
        self.pure = {
            modality: Memory(prototypes(of, labels[modality]), momentum, config.temperature)
            for modality, of in features.items()
        }
        self.memories, association, self.split = self.pure, None, []
        if second:
            association = associated(config, compared, labels)
            self._associate(features, labels, association)
            if config.split_weight:
                people = association.people()
                self.split = [SplitMemory(features, labels, people, momentum, config.temperature)]
            self._list_neighbours(features, compared)
        joined = join(self.data, labels)
        every = config.jitter if config.jitter_all[stage] else 0.0
        return Plan(
            stage=self.when.stage,
            batches=batches_by_cluster(
                self._grouped(second),
                joined,
                clusters={VIS: config.visible_clusters, IR: config.infrared_clusters},
                instances=config.instances,
                steps=config.iterations,
                seed=self.seed,
                epoch=epoch,
                jitter=(every, config.jitter, every),
            ),
            steps=config.iterations,
            lr=self._lr(stage, config.stage_epochs[stage]),
            fresh_optimizer=self.when.epoch == 0,
            labels=joined,
            partners=None if association is None else association.infrared_partners(),
            log=self._listed(),
            warnings=warnings,
        )

    def _grouped(self, second: bool) -> TrainingSet:
        """The images with the cameras that the batch sampler uses; it prefers other cameras."""
        if second and self.config.groups == "any":
            return self.data._replace(cams=np.arange(len(self.data.cams)))
        return self.data

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config = self.config
        return pseudo_labels(features, eps, config.min_samples, config.k1, config.k2)

    @property
    def _camera_span(self) -> int:
        """Length of the cosine schedule of the camera stage: that of stage 1, as released."""
        return max(self.config.stage_epochs[0], *self.config.camera_epochs)

    def _lr(self, stage: int, epochs: int) -> float:
        """Cosine from the stage's first rate to its last one."""
        high, low = self.config.lr[stage], self.config.least_lr[stage]
        return low + cosine(high - low, self.when.epoch, epochs)

    def _associate(
        self,
        features: dict[Modality, Tensor],
        labels: dict[Modality, IntArray],
        association: Association,
    ) -> None:
        """Set partners, mates, and the memories of both modalities."""
        config = self.config
        shares = {VIS: association.vis_to_ir, IR: association.ir_to_vis}
        partners = dict(zip((VIS, IR), association.matches(), strict=True))
        self.memories, self.many = {}, IR if len(shares[IR]) > len(shares[VIS]) else VIS
        for modality, other in ((VIS, IR), (IR, VIS)):
            across = np.where(labels[other] >= 0, partners[other][labels[other]], -1)
            both = torch.cat([features[modality], features[other]])
            self.memories[modality] = Memory(
                prototypes(both, np.concatenate([labels[modality], across])),
                config.mixed_momentum,
                config.temperature,
            )
            mates = np.full(len(shares[modality]), -1)
            if modality is self.many:
                mates = mates_of(shares[modality], partners[other], self.when.epoch % 2 == 0)
            self.partners[modality] = torch.from_numpy(partners[modality])
            self.mates[modality] = torch.from_numpy(mates)

    def _list_neighbours(
        self, features: dict[Modality, Tensor], compared: dict[Modality, Tensor]
    ) -> None:
        """Neighbours of every image on which enough tokens agree, by modality of both."""
        config = self.config
        self.neighbours = {}
        if not config.neighbour_weight:
            return
        self.images = {
            modality: Memory(of, 1.0, config.temperature) for modality, of in features.items()
        }
        tokens = {modality: of.chunk(config.class_tokens, 1) for modality, of in compared.items()}
        directions = [(VIS, VIS), (IR, IR), (VIS, IR) if self.when.epoch % 2 == 0 else (IR, VIS)]
        for a, b in directions:
            found = agreeing_neighbours(
                tokens[a], tokens[b], config.neighbour_ratio, config.agreeing_tokens
            )
            if a is b:
                found = self.inside_cameras(a, found, compared[a])
            self.neighbours[a, b] = Lists.of(found)

    def _filtered(
        self, modality: Modality, neighbours: sparse.csr_array, _: Tensor
    ) -> sparse.csr_array:
        """The lists within a modality, without images that the camera clustered apart."""
        rows = self.data.rows(modality)
        return camera_filter(
            neighbours,
            self.data.cams[rows],
            self.cameras.local[rows],
            self.config.filter == "skipping",
        )

    def _listed(self) -> dict[str, float]:
        """Mean length of the neighbour lists, by modality of the image and of its neighbours."""
        return {
            f"neighbours_{a.value}_{b.value}": round(len(lists.columns) / len(lists.counts), 3)
            for (a, b), lists in self.neighbours.items()
            if self.when.stage == "stage 2"
        }

    def steps(self, epoch: int) -> int:
        """As set, for the stages and for one camera."""
        config = self.config
        alone = self.schedule[epoch].stage == "camera stage"
        return config.camera_iterations if alone else config.iterations

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Own clusters and token diversity; in stage 2 neighbours, partners and mates too."""
        config = self.config
        reads = self._reads(batch, outputs)
        losses = script_losses(reads) if config.updates == "between" else map(loss_of, reads)
        terms: dict[str, Tensor] = {}
        for read, loss in zip(reads, losses, strict=True):
            terms[read.term] = terms.get(read.term, 0) + read.weight * loss
        if config.class_tokens > 1:
            for modality in self.memories:
                alike = diversity(outputs.tokens[batch.of(modality)])
                terms[f"{modality.value} diversity"] = config.diversity_weight * alike
        if self.neighbours and self.when.stage == "stage 2":
            near = [self._neighbour_loss(batch, outputs, a, b) for a, b in self.neighbours]
            terms["neighbours"] = config.neighbour_weight * torch.stack(near).sum()
        for split in self.split:
            terms["split"] = config.split_weight * split.loss(batch, outputs.embedding)
        return terms

    def _reads(self, batch: Batch, outputs: Features) -> list[Read]:
        """Every read of a memory in this step, in the order of the public script."""
        config = self.config

        def read(term: str, weight: float, memory: Memory, of: Modality, labels: Tensor) -> Read:
            known = labels >= 0
            places = to_device(batch.host.of(of)[known], self.device)
            return Read(term, weight, memory, outputs.embedding[places], labels[known])

        labels = {modality: batch.host.labels_of(modality) for modality in Modality}
        reads = [
            read(modality.value, 1.0, self.memories[modality], modality, labels[modality])
            for modality in (IR, VIS)
            if modality in self.memories
        ]
        if self.when.stage != "stage 2":
            return reads
        if config.cross_weight:
            reads += [
                read(
                    "cross",
                    config.cross_weight,
                    self.memories[of.other],
                    of,
                    self.partners[of][labels[of]],
                )
                for of in (IR, VIS)
            ]
        before, after = config.mate_weight
        mate_weight = after if self.when.epoch >= config.mate_switch else before
        if mate_weight:
            reads += [
                read("mates", mate_weight, self.pure[of], of, self.mates[of][labels[of]])
                for of in (VIS, IR)
            ]
        return [read for read in reads if len(read.labels)]

    def _neighbour_loss(self, batch: Batch, outputs: Features, a: Modality, b: Modality) -> Tensor:
        rows = self.position[batch.host.rows[batch.host.of(a)]]
        if self.config.lists == "first":
            rows = torch.zeros_like(rows)
        pairs = self.neighbours[a, b].pairs(rows)
        return neighbour_loss(self.images[b].logits(outputs.embedding[batch.of(a)]), *pairs)

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Update the memories with the batch, in the order of the script's backward pass."""
        if self.config.updates == "once":
            for read in reversed(self._reads(batch, outputs)):
                read.memory.update(read.features, read.labels)
        for split in self.split:
            split.update(batch, outputs.embedding)

    def state(self) -> dict[str, Any]:
        """That of the camera stage; the memories are rebuilt from the model in every epoch."""
        return self.cameras.state()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.cameras.load_state(state)

    def step_state(self) -> dict[str, Any]:
        """The rows of the memories."""
        return rows_of(self._memories())

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        restore_rows(self._memories(), state)

    def _memories(self) -> list[Memory]:
        """Those of this epoch that change: in stage 2 the mixed ones, and those of mates."""
        pure = self.pure.values() if self.when.stage == "stage 2" else ()
        return [*self.memories.values(), *pure, *(split.memory for split in self.split)]


class VitBaseline(TokenMatcher):
    """The baseline of CMAG's ablations as we read it: partners only.

    TokenMatcher without neighbours, mates and camera stage; only the presets differ.
    """

    presets: ClassVar[dict[str, Any]] = {
        name: replace(preset, neighbour_weight=0.0, mate_weight=(0.0, 0.0), camera_epochs=(0, 0))
        for name, preset in PRESETS.items()
    }
