"""TokenMatcher: diverse tokens, their agreement, and clusters that share partners (AAAI 2025).

Learning visible-infrared re-identification without labels. A transformer gives N class tokens of an
image, which a constraint keeps unlike each other. Stage 1 clusters each modality by itself. The
camera stage then trains on every camera by itself, only to know whom that camera tells apart. In
stage 2, who is a neighbour under all tokens draws an image near, clusters find partners of whom one
may have two, and both modalities learn from memories that hold both.

| paper | function |
|---|---|
| N class tokens, Sec. 3.2 | `visir.nets.vit.Vit` with `class_tokens` |
| self-diverse constraint, after DC-Former | `diversity` |
| diverse-token neighbour learning | `agreeing_neighbours`, `neighbour_loss` |
| labels inside the cameras, filter | `visir.cluster.cameras.camera_filter` |
| matching with at most λ sharers, Alg. 1 | `visir.cluster.associate.greedy` |
| mixed memories, cross and mate losses | `TokenMatcher.loss`, `sharers` |

Deviations are listed, with the switches that undo them, in docs/methods/tokenmatcher.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.agreement import agreeing_neighbours
from visir.cluster.associate import Association, Side, greedy
from visir.cluster.cameras import BestBySilhouette, camera_filter, centred, silhouette
from visir.cluster.health import Adapt
from visir.cluster.jaccard import jaccard_graph
from visir.cluster.labels import dbscan, pseudo_labels
from visir.cluster.memory import Memory, prototypes
from visir.cluster.neighbors import nearest
from visir.cluster.survey import batches_by_cluster, cluster_training, embed_training, join
from visir.data.dataset import Part, TrainingSet
from visir.data.draws import generator
from visir.data.samplers import cluster_batches
from visir.data.transforms import View
from visir.embed import embed_pixels
from visir.methods.contract import Plan
from visir.nets.build import Features, build
from visir.types import Batch, InputError, IntArray, Modality

VIS, IR = Modality.VISIBLE, Modality.INFRARED
# What becomes of the neighbours (N, N) within a modality, from their features (N, D).
InsideCameras = Callable[[Modality, sparse.csr_array, Tensor], sparse.csr_array]


@dataclass(frozen=True)
class Config:
    """Defaults are the public script's for SYSU-MM01 unless marked as ours."""

    size: tuple[int, int] = (384, 128)  # input height, width in pixels [paper]
    network: Literal["micro", "small", "base"] = "base"  # ViT with ICS stems [paper]
    class_tokens: int = 4  # N [paper]
    drop_path: float = 0.3  # [paper]
    stage_epochs: tuple[int, int] = (50, 50)  # [paper]
    stage_start: Literal["last", "test-best"] = "last"  # of stage 1, for later ones [script: test]
    iterations: int = 200  # batches an epoch [script]
    visible_clusters: int = 4  # in a batch, of `instances` images, two views each [script]
    infrared_clusters: int = 8  # [script]
    instances: int = 16  # images of a cluster in a batch [script]
    eps: float = 0.6  # DBSCAN radius, Jaccard distance [paper]
    adapt: Adapt = "nothing"  # ours: "eps" or "momentum" gives way where clustering fails
    min_samples: int = 4  # neighbours of a core point [script]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: float = 0.05  # [paper]
    momentum: float = 0.2  # weight of the old prototype in memories of one modality [paper]
    mixed_momentum: float = 0.8  # and in those of both [paper]
    diversity_weight: float = 1.0  # of the self-diverse constraint [script]
    camera_epochs: tuple[int, int] = (20, 25)  # of each visible, infrared camera [script]
    camera_from: int = 10  # epoch whose labels may be the first to be kept [script]
    camera_iterations: int = 50  # batches an epoch, of one camera [script]
    camera_clusters: int = 8  # in a batch of one camera [script]
    camera_eps: tuple[float, ...] = (
        0.2,
        0.2,
        0.6,
        0.5,
        0.5,
        0.2,
    )  # one for all or for each [script]
    neighbour_ratio: float = 0.9  # of the best similarity, above which an image counts [paper]
    agreeing_tokens: int = 4  # that have to agree on a neighbour [script]
    sharers: int = 2  # λ: clusters that may take the same partner [paper]
    cross_weight: float = 0.4  # [paper]
    neighbour_weight: float = 0.5  # [paper]
    mate_weight: tuple[float, float] = (
        0.03,
        0.12,
    )  # before and after `mate_switch` [paper, script]
    mate_switch: int = 36  # epoch of stage 2 [script]
    lists: Literal["own", "first"] = (
        "own"  # neighbours; "first": the first image's for all [script]
    )
    filter: Literal["all", "skipping"] = "all"  # camera conflicts dropped [script: skipping]
    updates: Literal["once", "between"] = "once"  # memories' within a step [script: between losses]
    optimizer: Literal["sgd", "adam"] = "sgd"  # [paper]
    lr: tuple[float, float] = (3.5e-4, 3.5e-5)  # of stages 1 (and camera stage) and 2 [paper]
    least_lr: tuple[float, float] = (1e-6, 1e-7)  # at the end of a stage's cosine [script]
    weight_decay: float = 5e-4  # [script]
    pad: int = 10  # border before the random crop, pixels [script]
    jitter: float = 0.5  # of brightness, contrast, saturation, hue [script]
    jitter_all: tuple[bool, bool] = (False, True)  # by stage: or second visible views only [script]
    center_cameras: bool = False  # ours: cluster and match features less their camera's mean
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(
        class_tokens=6,
        agreeing_tokens=6,
        stage_epochs=(35, 35),
        iterations=100,
        eps=0.2,
        camera_epochs=(0, 0),  # one camera of each kind
        neighbour_weight=0.1,
        mate_weight=(0.01, 0.01),
        mate_switch=35,
        lr=(3.5e-5, 3.5e-5),
        least_lr=(1e-7, 1e-7),
        jitter_all=(True, True),
    ),
    "tiny": Config(
        size=(64, 32),
        network="micro",
        drop_path=0.0,
        stage_epochs=(10, 20),
        iterations=40,
        visible_clusters=8,
        infrared_clusters=16,
        instances=4,
        eps=0.5,
        adapt="eps",
        k1=16,
        camera_epochs=(2, 2),
        camera_from=0,
        camera_iterations=10,
        camera_eps=(0.5,),
        mate_switch=20,
        optimizer="adam",
        lr=(1e-3, 1e-3),
        least_lr=(1e-4, 1e-4),
        pad=4,
        jitter=0.0,
        center_cameras=True,
    ),
}


class When(NamedTuple):
    """Where in the training an epoch lies: its stage, its number there, the camera seen alone."""

    stage: Literal["stage 1", "camera stage", "stage 2"]
    epoch: int
    modality: Modality = VIS
    camera: int = -1


class TokenMatcher:
    """Two stages over one network, and between them one short training for each camera.

    Args:
        config: the settings.
        data: the training images.
        device: where the network is.
        seed: of all draws.
        inside_cameras: what to do instead of the camera stage's filter.
    """

    presets: ClassVar[dict[str, Any]] = PRESETS

    def __init__(
        self,
        config: Config,
        data: TrainingSet,
        device: torch.device,
        seed: int,
        inside_cameras: InsideCameras | None = None,
    ) -> None:
        _require_agreeing(config)
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.inside_cameras = inside_cameras or self._filtered
        self.radii = _radii(config, data)
        self.schedule = list(_schedule(config, data))
        self.epochs = len(self.schedule)
        self.stage_starts = (config.stage_epochs[0],)
        self.model = build(config.network, config.size, config.class_tokens, config.drop_path).to(
            device
        )
        self.when = self.schedule[0]
        self.memories: dict[Modality, Memory] = {}
        self.pure: dict[Modality, Memory] = {}
        self.images: dict[Modality, Memory] = {}
        self.neighbours: dict[tuple[Modality, Modality], Lists] = {}
        self.partners: dict[Modality, Tensor] = {}
        self.mates: dict[Modality, Tensor] = {}
        self.local: IntArray = np.full(len(data.cams), -1, np.int64)
        self.best = BestBySilhouette()
        self.first_stage: dict[str, Tensor] = {}
        self.position = torch.from_numpy(_positions(data)).to(device)

    def optimizer(self) -> torch.optim.Optimizer:
        """SGD over all weights that learn; Adam where asked."""
        weights, lr, decay = self.model.parameters(), self.config.lr[0], self.config.weight_decay
        if self.config.optimizer == "adam":
            return torch.optim.Adam(weights, lr=lr, weight_decay=decay)
        return torch.optim.SGD(weights, lr=lr, momentum=0.9, weight_decay=decay)

    def plan(self, epoch: int) -> Plan:
        """Embed, cluster, build the memories, and in stage 2 the lists and partners too."""
        self.when = self.schedule[epoch]
        if self.when.stage == "camera stage":
            return self._plan_camera(epoch)
        second = self.when.stage == "stage 2"
        if second and self.when.epoch == 0 and self.first_stage:
            self.model.load_state_dict(self.first_stage)
            self.first_stage = {}
        return self._plan_stage(epoch, second)

    def _plan_stage(self, epoch: int, second: bool) -> Plan:
        config = self.config
        features = embed_training(self.model, self.data, self.device, config.precision)
        compared = {
            modality: self._compared(of, self.data.cams[self.data.rows(modality)])
            for modality, of in features.items()
        }
        labels, momentum, warnings = cluster_training(
            compared, self._cluster, config.eps, config.momentum, config.adapt
        )
        self.pure = {
            modality: Memory(prototypes(of, labels[modality]), momentum, config.temperature)
            for modality, of in features.items()
        }
        self.memories, association = self.pure, None
        if second:
            vis, ir = (Side(compared[modality], labels[modality]) for modality in (VIS, IR))
            association = greedy(vis, ir, config.sharers)
            self._associate(features, labels, association)
            self._list_neighbours(features, compared)
        joined, of_stage = join(self.data, labels), int(second)
        every = config.jitter if config.jitter_all[of_stage] else 0.0
        return Plan(
            stage=self.when.stage,
            batches=batches_by_cluster(
                self.data,
                joined,
                {VIS: config.visible_clusters, IR: config.infrared_clusters},
                config.instances,
                config.iterations,
                self.seed,
                epoch,
                (every, config.jitter, every),
            ),
            steps=config.iterations,
            lr=self._lr(of_stage, config.stage_epochs[of_stage]),
            fresh_optimizer=self.when.epoch == 0,
            labels=joined,
            partners=None if association is None else association.infrared_partners(),
            log=self._listed(),
            warnings=warnings,
        )

    def _compared(self, features: Tensor, cams: IntArray) -> Tensor:
        """What clusters and partners are found on."""
        return centred(features, cams) if self.config.center_cameras else features

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config = self.config
        return pseudo_labels(features, eps, config.min_samples, config.k1, config.k2)

    def _lr(self, stage: int, epochs: int) -> float:
        """Cosine from the stage's rate to its least one."""
        high, low = self.config.lr[stage], self.config.least_lr[stage]
        return low + (high - low) * (1 + math.cos(math.pi * self.when.epoch / epochs)) / 2

    def _associate(
        self,
        features: dict[Modality, Tensor],
        labels: dict[Modality, IntArray],
        association: Association,
    ) -> None:
        """Partners, mates, and the memories of both modalities."""
        config = self.config
        shares = {VIS: association.vis_to_ir, IR: association.ir_to_vis}
        partners = {modality: of.argmax(axis=1) for modality, of in shares.items()}
        self.memories = {}
        for modality, other in ((VIS, IR), (IR, VIS)):
            across = np.where(labels[other] >= 0, partners[other][labels[other]], -1)
            both = torch.cat([features[modality], features[other]])
            self.memories[modality] = Memory(
                prototypes(both, np.concatenate([labels[modality], across])),
                config.mixed_momentum,
                config.temperature,
            )
            mates = sharers(shares[modality], partners[other], self.when.epoch % 2 == 0)
            self.partners[modality] = torch.from_numpy(partners[modality]).to(self.device)
            self.mates[modality] = torch.from_numpy(mates).to(self.device)

    def _list_neighbours(
        self, features: dict[Modality, Tensor], compared: dict[Modality, Tensor]
    ) -> None:
        """Of every image: whom enough of its tokens point at, by modality of both."""
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
            self.neighbours[a, b] = Lists.of(found, self.device)

    def _filtered(
        self, modality: Modality, neighbours: sparse.csr_array, _: Tensor
    ) -> sparse.csr_array:
        """The lists within a modality, less whom the camera itself tells apart."""
        rows = self.data.rows(modality)
        return camera_filter(
            neighbours, self.data.cams[rows], self.local[rows], self.config.filter == "skipping"
        )

    def _listed(self) -> dict[str, float]:
        """Mean length of the neighbour lists, by modality of the image and of its neighbours."""
        return {
            f"neighbours_{a.value}_{b.value}": round(len(lists.columns) / len(lists.counts), 3)
            for (a, b), lists in self.neighbours.items()
            if self.when.stage == "stage 2"
        }

    def _plan_camera(self, epoch: int) -> Plan:
        """One camera by itself, from the first stage's weights; only its labels are kept."""
        config, when = self.config, self.when
        if when.epoch == 0:
            self._enter_camera()
        rows = self.data.rows(when.modality)
        rows = rows[self.data.cams[rows] == when.camera]
        self.model.eval()
        features = embed_pixels(
            self.model, self.data.pixels, when.modality, self.device, config.precision, rows=rows
        )
        ranks = nearest(features, config.k1)
        near = jaccard_graph(features, self.radii[when.camera], config.k1, config.k2, ranks)
        labels = dbscan(near, config.min_samples)
        score = silhouette(jaccard_graph(features, 1.0, config.k1, config.k2, ranks), labels)
        if self.best.offer(when.epoch, score, labels):
            self.local[rows] = labels
        clusters = int(labels.max(initial=-1)) + 1
        self.memories = {
            when.modality: Memory(prototypes(features, labels), config.momentum, config.temperature)
        }
        usable, of_all = clusters > 1, np.full(len(self.data.cams), -1, np.int64)
        of_all[rows] = labels
        said = f"camera {when.camera}: {clusters} cluster(s) of {len(rows)} images; it tells nobody"
        return Plan(
            stage=f"camera {when.camera}",
            batches=self._camera_batches(epoch, of_all) if usable else (),
            steps=config.camera_iterations if usable else 0,
            lr=self._lr(0, config.stage_epochs[0]),
            fresh_optimizer=when.epoch == 0,
            log={"camera_clusters": clusters, "camera_silhouette": round(score, 4)},
            warnings=() if usable else (f"{said} apart; set another camera_eps",),
        )

    def _enter_camera(self) -> None:
        """Every camera begins with the first stage's weights."""
        if self.first_stage:
            self.model.load_state_dict(self.first_stage)
        else:
            self.first_stage = {
                name: value.clone() for name, value in self.model.state_dict().items()
            }
        self.best = BestBySilhouette(self.config.camera_from)

    def _camera_batches(self, epoch: int, labels: IntArray) -> Iterator[list[Part]]:
        config = self.config
        view = View.GRAY if self.when.modality is IR else View.PLAIN
        draws = cluster_batches(
            labels, self.data.cams, config.camera_clusters, config.instances,
            generator(self.seed, epoch),
        )  # fmt: skip
        for _ in range(config.camera_iterations):
            rows = next(draws)
            yield [Part(rows, labels[rows], view, config.jitter)]

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Own clusters and diverse tokens; in stage 2 neighbours, partners and mates too."""
        config = self.config
        reads = self._reads(batch, outputs)
        losses = released(reads) if config.updates == "between" else map(loss_of, reads)
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
        return terms

    def _reads(self, batch: Batch, outputs: Features) -> list[Read]:
        """Every comparison with a memory of this step, in the order of the public script."""
        config = self.config

        def read(term: str, weight: float, memory: Memory, of: Modality, labels: Tensor) -> Read:
            known = labels >= 0
            features = outputs.embedding[batch.of(of)][known]
            return Read(term, weight, memory, features, labels[known])

        labels = {modality: batch.labels[batch.of(modality)] for modality in Modality}
        reads = [
            read(modality.value, 1.0, self.memories[modality], modality, labels[modality])
            for modality in (IR, VIS)
            if modality in self.memories
        ]
        if self.when.stage != "stage 2":
            return reads
        if config.cross_weight:
            reads += [
                read("cross", config.cross_weight, self.memories[of.other], of,
                     self.partners[of][labels[of]])
                for of in (IR, VIS)
            ]  # fmt: skip
        mate_weight = config.mate_weight[self.when.epoch >= config.mate_switch]
        if mate_weight:
            reads += [
                read("mates", mate_weight, self.pure[of], of, self.mates[of][labels[of]])
                for of in (VIS, IR)
            ]
        return [read for read in reads if len(read.labels)]

    def _neighbour_loss(self, batch: Batch, outputs: Features, a: Modality, b: Modality) -> Tensor:
        mask = batch.of(a)
        rows = self.position[batch.rows[mask]]
        if self.config.lists == "first":
            rows = torch.zeros_like(rows)
        pairs = self.neighbours[a, b].pairs(rows)
        return neighbour_loss(self.images[b].logits(outputs.embedding[mask]), *pairs)

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Blend the batch into the memories, in the order in which the script's backward does."""
        if self.config.updates == "once":
            for read in reversed(self._reads(batch, outputs)):
                read.memory.update(read.features, read.labels)

    def state(self) -> dict[str, Any]:
        """What the camera stage has found, and the weights it goes back to."""
        return {
            "local": torch.from_numpy(self.local),
            "best": self.best.state(),
            "first_stage": self.first_stage,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.local = state["local"].cpu().numpy()
        self.best = BestBySilhouette(self.config.camera_from)
        self.best.load_state(state["best"])
        self.first_stage = state["first_stage"]


class VitBaseline(TokenMatcher):
    """What CMAG's ladder of ablations begins with, as we read it: partners and nothing more.

    TokenMatcher without neighbours, mates and camera stage; only the presets differ.
    """

    presets: ClassVar[dict[str, Any]] = {
        name: replace(preset, neighbour_weight=0.0, mate_weight=(0.0, 0.0), camera_epochs=(0, 0))
        for name, preset in PRESETS.items()
    }


class Read(NamedTuple):
    """Features compared with a memory: (B, D), of any length, and (B,) the rows to be like."""

    term: str
    weight: float
    memory: Memory
    features: Tensor
    labels: Tensor


def loss_of(read: Read) -> Tensor:
    """Cross-entropy towards the memory's rows."""
    return read.memory.loss(read.features, read.labels)


def released(reads: Sequence[Read]) -> list[Tensor]:
    """The losses as the public scripts differentiate them, and their updates of the memories.

    There every loss updates its memory in its backward pass, the last one first. All values come
    from the memories as they stood; the gradient of each reads the rows as the losses behind it
    have left them.
    """
    before = {id(read.memory): read.memory.rows_CD.clone() for read in reads}
    losses = []
    for read in reversed(reads):
        temperature = read.memory.temperature
        unit_BD = F.normalize(read.features, dim=1)
        cosines = (unit_BD.detach() @ before[id(read.memory)].T).requires_grad_()
        value = F.cross_entropy(cosines / temperature, read.labels)
        (pull,) = torch.autograd.grad(value, cosines)
        towards = (pull * (unit_BD @ read.memory.rows_CD.T.clone())).sum()
        losses.append(value.detach() + towards - towards.detach())
        read.memory.update(read.features, read.labels)
    return losses[::-1]


class Lists(NamedTuple):
    """Neighbours of every image, one list behind the other, on the device they are used on.

    columns: the neighbours; starts, counts: (N,) where each image's begin, and how many.
    """

    columns: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, neighbours: sparse.csr_array, device: torch.device) -> Lists:
        """From (N, M) bool, row i the neighbours of i."""
        indptr = torch.from_numpy(neighbours.indptr.astype(np.int64)).to(device)
        columns = torch.from_numpy(neighbours.indices.astype(np.int64)).to(device)
        return cls(columns, indptr[:-1], indptr.diff())

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Every neighbour of every one of the rows: (P,) places in `rows`, (P,) columns."""
        counts = self.counts[rows]
        places = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), counts)
        before = counts.cumsum(0) - counts
        inside = torch.arange(len(places), device=rows.device) - before[places]
        return places, self.columns[self.starts[rows][places] + inside]


def neighbour_loss(logits_BN: Tensor, places: Tensor, columns: Tensor) -> Tensor:
    """Mean cross-entropy towards every neighbour of every image (TokenMatcher, Sec. 3.3).

    Args:
        logits_BN: (B, N) cosines to all images over the temperature.
        places: (P,) row of the logits of each pair of an image and a neighbour.
        columns: (P,) the neighbour. Without any pair the loss is 0.
    """
    towards = logits_BN.logsumexp(dim=1)[places] - logits_BN[places, columns]
    return towards.sum() / max(len(places), 1)


def diversity(tokens_BND: Tensor) -> Tensor:
    """How alike an image's tokens are (self-diverse constraint; DC-Former, AAAI 2023).

    The absolute cosines of all pairs of tokens, weighted by their own softmax, so that the pairs
    most alike count most; mean over the images.

    Args:
        tokens_BND: (B, N, D), N > 1, before their bottlenecks.
    """
    unit = F.normalize(tokens_BND, dim=2)
    count = unit.shape[1]
    i, j = torch.triu_indices(count, count, offset=1, device=unit.device)
    alike = (unit[:, i] * unit[:, j]).sum(dim=2).abs()
    return (alike.softmax(dim=1) * alike).sum(dim=1).mean()


def sharers(shares: np.ndarray, first: IntArray, from_first: bool) -> IntArray:
    """Which cluster has the same partner (homogeneous fusion).

    Only where exactly two share one, and one way only: from the one accepted first to the other, or
    back.

    Args:
        shares: (C, P), one partner to each cluster.
        first: (P,) the cluster each partner accepted first.
        from_first: the way.

    Returns:
        (C,) the mate, -1 for none.
    """
    partner = shares.argmax(axis=1)
    mates = np.full(len(shares), -1, np.int64)
    for shared in np.flatnonzero(np.bincount(partner, minlength=shares.shape[1]) == 2):
        pair = np.flatnonzero(partner == shared)
        one, other = pair if pair[0] == first[shared] else pair[::-1]
        if from_first:
            mates[one] = other
        else:
            mates[other] = one
    return mates


def _schedule(config: Config, data: TrainingSet) -> Iterator[When]:
    for epoch in range(config.stage_epochs[0]):
        yield When("stage 1", epoch)
    if config.neighbour_weight:
        for modality, epochs in zip((VIS, IR), config.camera_epochs, strict=True):
            for camera in np.unique(data.cams[data.rows(modality)]).tolist():
                for epoch in range(epochs):
                    yield When("camera stage", epoch, modality, camera)
    for epoch in range(config.stage_epochs[1]):
        yield When("stage 2", epoch)


def _radii(config: Config, data: TrainingSet) -> dict[int, float]:
    """The clustering radius of every camera."""
    cameras = np.unique(data.cams).tolist()
    radii = config.camera_eps * (len(cameras) if len(config.camera_eps) == 1 else 1)
    if any(config.camera_epochs) and len(radii) != len(cameras):
        raise InputError(
            f"--set: camera_eps has {len(radii)} radii, the data {len(cameras)} cameras "
            f"({', '.join(map(str, cameras))}); give one for all, or one for each"
        )
    return dict(zip(cameras, radii, strict=False))


def _require_agreeing(config: Config) -> None:
    if config.agreeing_tokens > config.class_tokens:
        raise InputError(
            f"--set: agreeing_tokens={config.agreeing_tokens} of class_tokens="
            f"{config.class_tokens} can never agree; set it to {config.class_tokens} at most"
        )


def _positions(data: TrainingSet) -> IntArray:
    """Of every training row: its place among the rows of its modality."""
    return join(data, {modality: np.arange(len(data.rows(modality))) for modality in Modality})
