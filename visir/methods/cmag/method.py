"""CMAG (IEEE TCSVT, 2026), reconstructed from its published formulas.

Learning visible-infrared re-identification without labels: TokenMatcher, and on it four modules of
the training, each a switch. Its authors publish formulas, a figure and evaluation scripts, no
training code: what is not printed is ours and marked so, and no number here is theirs unless it
says so.

| paper | function |
|---|---|
| CATS, cycle-aware topology, Eq. 1-15 | `visir.methods.cmag.cats` |
| DCAM-ViT, cross-modal attention, Eq. 16-20 | `visir.methods.cmag.dcam` |
| GSMEM, graph-structured memory, Eq. 21-28 | `visir.methods.cmag.gsmem` |
| CARC, camera-aware consistency, Eq. 29-32 | `visir.cluster.cameras.consistent_neighbours` |

With all four off it is `visir.methods.tokenmatcher` to the bit, at equal settings. Deviations: what
is ours, and which readings there are, stands beside every setting and in docs/methods/cmag.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from visir.cluster.cameras import Conflicts, cluster_cameras, consistent_neighbours
from visir.cluster.memory import Memory
from visir.core.device import autocast
from visir.core.types import Batch, InputError, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.data.rng import generator
from visir.methods import tokenmatcher
from visir.methods.cmag.cats import Closing, CycleConvolution, Cycles, circular_loss, find_cycles
from visir.methods.cmag.dcam import CrossAttention, Scope, partners_in_batch
from visir.methods.cmag.gsmem import GraphMemory, Queue
from visir.methods.contract import Plan
from visir.methods.tokenmatcher import TokenMatcher, radii_of
from visir.nets.build import Features, Network
from visir.nets.vit import Vit

VIS, IR = Modality.VISIBLE, Modality.INFRARED


@dataclass(frozen=True)
class Config(tokenmatcher.Config):
    """TokenMatcher's settings, and the modules'; [paper] is printed in CMAG's."""

    stage_epochs: tuple[int, int] = (50, 100)  # [paper]
    mate_weight: tuple[float, float] = (0.03, 0.03)  # before, after `mate_switch` [test script]
    camera_epochs: tuple[int, int] = (20, 25)  # only with carc=false [tokenmatcher: script]
    cats: bool = True  # cycle-aware topology, a loss on the batch
    cats_k: int = 10  # nearest neighbours of a node [paper]
    cats_p: int = 3  # edges of the path that an edge back closes [paper]
    cats_temperature: float = 0.07  # [paper]
    cats_closing: Closing = "transpose"  # the closing edge runs back [figure], or along [text]
    cats_simple: bool = False  # paths over four different images only; ours
    cats_extra_edge: bool = True  # from the last to the first neighbour [paper]
    cats_exclude_self: bool = True  # from the loss's sum [paper: not]
    cats_weight: float = 0.1  # ours
    cats_convolution: bool = False  # the graph-convolution branch as well; its use is ours
    cats_convolution_weight: float = 0.1  # ours
    dcam: bool = True  # cross-modal attention over class tokens
    dcam_reduction: int = 8  # of queries and keys [paper]
    dcam_scope: Scope = "batch_tokens"  # whom a token asks; the paper's readings conflict
    dcam_value: Literal["full", "reduced"] = "full"  # its width; the paper's readings conflict
    dcam_gate: float = 0.0  # where the learned factor starts; ours
    dcam_weight: float = 0.5  # ours
    gsmem: bool = True  # graph over the batch and a queue of earlier features
    gsmem_size: int = 4096  # rows of the queue; ours
    gsmem_start: int = 512  # rows it needs before it is used; ours
    gsmem_layers: int = 2  # ours
    gsmem_least: int = 3  # neighbours of a node at least [paper]
    gsmem_base: int = 10  # neighbours of a node that is alone [paper]
    gsmem_beta: float = 0.5  # neighbours less for each unit of density [paper]
    gsmem_radius: float = 0.3  # cosine distance within which others crowd [paper; metric ours]
    gsmem_per_radius: bool = True  # density divided by the radius [paper], or plain
    gsmem_weight: float = 0.1  # ours
    carc: bool = True  # camera-aware lists in place of TokenMatcher's camera stage and filter
    carc_eps: tuple[float, ...] = (0.6,)  # DBSCAN radius inside cameras, of all or each [paper]
    carc_p0: float = 0.8  # probability of the start for conflicts [paper]
    carc_conflicts: Conflicts = "drop_decays"  # the paper reads either way
    ramp: int = 5  # epochs of stage 2 over which the modules' losses grow in; ours
    weighting: Literal["fixed", "uncertainty"] = "fixed"  # or learned log-variances; ours


PRESETS = {
    "sysu": Config(),
    "regdb": Config(**{
        **vars(tokenmatcher.PRESETS["regdb"]),
        "stage_epochs": (50, 100),
        "carc": False,  # one camera of each kind
    }),
    "tiny": Config(**{
        **vars(tokenmatcher.PRESETS["tiny"]),
        "camera_epochs": (0, 0),
        "gsmem_size": 512,
        "gsmem_start": 128,
        "carc_eps": (0.5,),
    }),
}  # fmt: skip


class Cmag:
    """TokenMatcher and the modules around it; the encoder is TokenMatcher's own.

    Raises:
        InputError: CARC on data of one camera a modality, or no module's setting that can work.
    """

    presets: ClassVar[dict[str, Any]] = PRESETS

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        _require_sound(config, data)
        inside = None
        if config.carc:
            config = replace(config, camera_epochs=(0, 0))
            inside = self._consistent
        self.base = TokenMatcher(config, data, device, seed, inside)
        self.epochs, self.stage_starts = self.base.epochs, self.base.stage_starts
        assert isinstance(self.base.model, Vit)
        self.net: Vit = self.base.model
        self.modules: Any = _modules(config, self.net).to(device)
        self.queue = Queue(config.gsmem_size * config.gsmem, self.net.embedding_dim, device)
        self.local: dict[Modality, IntArray] = {}
        self.seen: dict[str, list[float]] = {}
        self.log: dict[str, float] = {}

    @property
    def model(self) -> Network:
        """The encoder; the modules around it are needed in training only."""
        return self.base.model

    def optimizer(self) -> torch.optim.Optimizer:
        """TokenMatcher's, over the modules too."""
        optimizer = self.base.optimizer()
        added = list(self.modules.parameters())
        if added:
            optimizer.add_param_group({"params": added})
        return optimizer

    def plan(self, epoch: int) -> Plan:
        """TokenMatcher's plan; the diagnostics of the modules join its log while it is trained."""
        self.seen, self.log = {}, {}
        plan = self.base.plan(epoch)
        self.log.update(plan.log)
        return replace(plan, log=self.log)

    @property
    def _second(self) -> bool:
        return self.base.when.stage == "stage 2"

    def _consistent(
        self, modality: Modality, neighbours: sparse.csr_array, features: Tensor
    ) -> sparse.csr_array:
        """CARC: lists within a modality that agree with what each camera sees."""
        config, epoch = self.config, self.base.when.epoch
        cams = self.data.cams[self.data.rows(modality)]
        if modality not in self.local:
            radii = radii_of("carc_eps", config.carc_eps, np.unique(self.data.cams).tolist())
            self.local[modality] = cluster_cameras(
                features, cams, radii, config.min_samples, config.k1, config.k2
            )
        found = consistent_neighbours(
            neighbours,
            cams,
            self.local[modality],
            epoch / config.stage_epochs[1],
            generator(self.seed, epoch, modality is IR),
            config.carc_p0,
            config.carc_conflicts,
        )
        self._see(f"carc_conflicts_{modality.value}", found.conflicts / max(neighbours.nnz, 1))
        self._see(f"carc_dropped_{modality.value}", found.dropped / max(found.conflicts, 1))
        self._see(f"carc_kept_{modality.value}", found.kept.nnz / max(neighbours.nnz, 1))
        return found.kept

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """TokenMatcher's terms, and in stage 2 one for every module."""
        terms = self.base.loss(batch, outputs)
        if not self._second:
            return terms
        config, joint = self.config, self._joint(batch)
        added: dict[str, Tensor] = {}
        if config.cats:
            added |= self._cats(batch, outputs, joint)
        if config.dcam:
            added["dcam"] = config.dcam_weight * self._dcam(batch, outputs, joint)
        if config.gsmem and self.queue.filled >= config.gsmem_start:
            added["gsmem"] = config.gsmem_weight * self._gsmem(batch, outputs)
        grown = min(1.0, (self.base.when.epoch + 1) / config.ramp)
        return terms | {name: grown * self._weighted(name, term) for name, term in added.items()}

    def _weighted(self, name: str, term: Tensor) -> Tensor:
        """A term, or the term under its learned uncertainty (Kendall et al., CVPR 2018)."""
        if self.config.weighting == "fixed":
            return term
        log_variance = self.modules["variances"][name]
        weighted: Tensor = torch.exp(-log_variance) * term + log_variance
        return weighted

    def _joint(self, batch: Batch) -> Tensor:
        """(B,) labels both modalities share: those of the one that has fewer clusters.

        A cluster without a partner keeps a label of its own.
        """
        base = self.base
        few = base.many.other
        labels = batch.labels.clone()
        mask = batch.of(few.other)
        own = labels[mask]
        partner = base.partners[few.other][own]
        alone = len(base.memories[few].rows_CD) + own
        labels[mask] = torch.where(partner >= 0, partner, alone)
        return labels

    def _cats(self, batch: Batch, outputs: Features, joint: Tensor) -> dict[str, Tensor]:
        config = self.config
        cycles = self._cycles(outputs.embedding, joint)
        self._see("cats_kept", cycles.kept())
        self._see("cats_across", cycles.across(batch.infrared))
        loss = circular_loss(
            outputs.embedding, cycles.pairs, config.cats_temperature, config.cats_exclude_self
        )
        terms = {"cats": config.cats_weight * loss}
        if config.cats_convolution:
            memory = self.base.memories[self.base.many.other]
            known = joint < len(memory.rows_CD)
            rows = torch.arange(len(memory.rows_CD), device=joint.device)
            nodes = torch.cat([F.normalize(outputs.embedding, dim=1), memory.rows_CD])
            passed = self.modules["convolution"](
                nodes, self._cycles(nodes, torch.cat([joint, rows]))
            )[: len(joint)]
            terms["cats convolution"] = config.cats_convolution_weight * memory.loss(
                passed[known], joint[known]
            )
        return terms

    def _cycles(self, features: Tensor, labels: Tensor) -> Cycles:
        config = self.config
        return find_cycles(
            features, labels, config.cats_k, config.cats_p, config.cats_closing,
            config.cats_simple, config.cats_extra_edge,
        )  # fmt: skip

    def _dcam(self, batch: Batch, outputs: Features, joint: Tensor) -> Tensor:
        attention = self.modules["attention"]
        enhanced = outputs.tokens.clone()
        for modality in Modality:
            own, other = batch.of(modality), batch.of(modality.other)
            enhanced[own] = attention(
                outputs.tokens[own],
                outputs.tokens[other],
                partners_in_batch(joint[own], joint[other]),
            )
        self._see("dcam_gate", float(attention.gate.detach()))
        return self._both(batch, self.net.embed_tokens(enhanced, keep_statistics=True))

    def _gsmem(self, batch: Batch, outputs: Features) -> Tensor:
        graph = self.modules["graph"]
        with autocast(self.device, self.config.precision):
            enhanced = graph(outputs.embedding, self.queue.held())
        found = self._both(batch, enhanced.float())
        self._see("gsmem_infrared", self.queue.balance())
        shares = torch.bincount(graph.counts, minlength=self.config.gsmem_base + 1).double()
        for count, share in enumerate((shares / shares.sum()).tolist()):
            if count >= self.config.gsmem_least:
                self._see(f"gsmem_with_{count}", share)
        return found

    def _both(self, batch: Batch, features: Tensor) -> Tensor:
        """Enhanced features against the memory of their own modality and their partner's."""
        losses = []
        for modality in Modality:
            mask = batch.of(modality)
            labels = batch.labels[mask]
            partner = self.base.partners[modality][labels]
            losses.append(self._contrast(modality, features[mask], labels))
            losses.append(self._contrast(modality.other, features[mask], partner))
        return torch.stack(losses).sum()

    def _contrast(self, modality: Modality, features: Tensor, labels: Tensor) -> Tensor:
        memory: Memory = self.base.memories[modality]
        known = labels >= 0
        return memory.loss(features[known], labels[known]) if known.any() else features.sum() * 0

    def _see(self, name: str, value: float) -> None:
        """Keep the epoch's mean of a number people may want to look at."""
        self.seen.setdefault(name, []).append(value)
        self.log[name] = round(float(np.mean(self.seen[name])), 4)

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """TokenMatcher's updates, and as many features of either modality into the queue."""
        self.base.after_step(batch, outputs)
        if self._second and self.config.gsmem:
            vis, ir = (batch.of(modality).nonzero()[:, 0] for modality in (VIS, IR))
            # Visible images come twice, the plain views first: each goes in once.
            count = min(len(vis) // 2, len(ir), len(self.queue.rows) // 2)
            rows = torch.cat([vis[:count], ir[:count]])
            self.queue.push(outputs.embedding[rows], batch.infrared[rows])

    def state(self) -> dict[str, Any]:
        """TokenMatcher's, and the modules' weights, queue and camera clusters."""
        return {
            "base": self.base.state(),
            "modules": self.modules.state_dict(),
            "queue": self.queue.state(),
            "local": {of.value: torch.from_numpy(found) for of, found in self.local.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.base.load_state(state["base"])
        self.modules.load_state_dict(state["modules"])
        self.queue.load_state(state["queue"])
        self.local = {Modality(name): found.cpu().numpy() for name, found in state["local"].items()}


def _modules(config: Config, net: Vit) -> nn.ModuleDict:
    """What is trained beside the encoder; nothing where every switch is off."""
    dim, tokens = net.embedding_dim // config.class_tokens, config.class_tokens
    modules = nn.ModuleDict()
    if config.cats and config.cats_convolution:
        modules["convolution"] = CycleConvolution(net.embedding_dim)
    if config.dcam:
        modules["attention"] = CrossAttention(
            dim,
            config.dcam_reduction,
            config.dcam_scope,
            config.dcam_gate,
            config.dcam_value == "full",
        )
    if config.gsmem:
        modules["graph"] = GraphMemory(
            dim, tokens, config.gsmem_layers, least=config.gsmem_least, base=config.gsmem_base,
            beta=config.gsmem_beta, radius=config.gsmem_radius,
            per_radius=config.gsmem_per_radius,
        )  # fmt: skip
    if config.weighting == "uncertainty":
        names = ("cats", "cats convolution", "dcam", "gsmem")
        modules["variances"] = nn.ParameterDict({name: torch.zeros(()) for name in names})
    return modules


def _require_sound(config: Config, data: TrainingSet) -> None:
    """Refuse settings that leave a module without effect."""
    if config.cats_simple and config.cats_p != 3:
        raise InputError("--set: cats_simple counts paths of cats_p=3 edges; set cats_p=3")
    start, images = config.gsmem_start, len(data.cams)
    if config.gsmem and start > min(config.gsmem_size, images):
        raise InputError(
            f"--set: gsmem_start={start} rows are never reached by a queue of "
            f"gsmem_size={config.gsmem_size} over {images} images; set gsmem_start lower"
        )
    if config.carc and not config.neighbour_weight:
        raise InputError(
            "--set: carc corrects neighbour lists, and neighbour_weight=0 uses none; set carc=false"
        )
    if config.carc and all(
        len(np.unique(data.cams[data.rows(modality)])) < 2 for modality in Modality
    ):
        raise InputError(
            "--set: carc needs a modality that several cameras see, and here each has one; set "
            "carc=false"
        )
