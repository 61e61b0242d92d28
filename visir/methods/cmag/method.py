"""CMAG (IEEE TCSVT, 2026), reconstructed from its published formulas.

Visible-infrared re-identification without labels: TokenMatcher with four additional training
modules, each with a switch. The authors published formulas, a figure and evaluation scripts, but no
training code: what the paper does not state is ours and marked so.

| paper | function |
|---|---|
| CATS, cycle-aware topology, Eq. 1-15 | `visir.methods.cmag.cats` |
| DCAM-ViT, cross-modal attention, Eq. 16-20 | `visir.methods.cmag.dcam` |
| GSMEM, graph-structured memory, Eq. 21-28 | `visir.methods.cmag.gsmem` |
| CARC, camera-aware consistency, Eq. 29-32 | `visir.methods.cmag.carc.consistent_neighbours` |

With all four off it is bit-identical to `visir.methods.tokenmatcher` at the same settings.
Deviations: what is ours, and which readings there are, is stated beside every setting and in
docs/methods/cmag.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn import functional as F

from visir.cluster.cameras import cluster_cameras
from visir.cluster.memory import Memory
from visir.core.device import autocast, to_device
from visir.core.types import Batch, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.data.rng import generator
from visir.methods.cmag.carc import consistent_neighbours
from visir.methods.cmag.cats import CycleConvolution, Cycles, circular_loss, find_cycles
from visir.methods.cmag.dcam import CrossAttention, partners_in_batch
from visir.methods.cmag.gsmem import GraphMemory, Queue
from visir.methods.cmag.settings import PRESETS, Config, require_sound
from visir.methods.contract import Means, Method, Plan
from visir.methods.tokenmatcher import TokenMatcher, radii_of
from visir.nets.build import Features
from visir.nets.vit import Vit

VIS, IR = Modality.VISIBLE, Modality.INFRARED


class Cmag(Method):
    """TokenMatcher with modules around it; the backbone is TokenMatcher's.

    Raises:
        InputError: CARC with one camera per modality, or settings without effect.
    """

    presets: ClassVar[dict[str, Any]] = PRESETS
    config: Config
    model: Vit  # without the modules, which are used in training only

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        require_sound(config, data)
        inside = None
        if config.carc:
            config = replace(config, camera_epochs=(0, 0))
            inside = self._consistent
        self.base = TokenMatcher(config, data, device, seed, inside)
        self.epochs, self.stage_starts = self.base.epochs, self.base.stage_starts
        self.stage_start = config.stage_start
        assert isinstance(self.base.model, Vit)
        self.model = self.base.model
        self.modules: Any = _modules(config, self.model).to(device)
        rows = config.gsmem_size if config.gsmem else 0
        self.queue = Queue(rows, self.model.embedding_dim, device)
        self.local: dict[Modality, IntArray] = {}
        self.log = Means()

    def optimizer(self) -> torch.optim.Optimizer:
        """TokenMatcher's optimiser, with the modules' weights added."""
        optimizer = self.base.optimizer()
        added = list(self.modules.parameters())
        if added:
            optimizer.add_param_group({"params": added})
        return optimizer

    def plan(self, epoch: int) -> Plan:
        """TokenMatcher's plan; during the epoch the modules add their diagnostics to its log."""
        self.log = Means(digits=4)
        plan = self.base.plan(epoch)
        self.log.know(plan.log)
        return replace(plan, log=self.log)

    @property
    def _second(self) -> bool:
        return self.base.when.stage == "stage 2"

    def _consistent(
        self, modality: Modality, neighbours: sparse.csr_array, features: Tensor
    ) -> sparse.csr_array:
        """CARC: lists within a modality that agree with the clusters inside each camera."""
        config, epoch = self.config, self.base.when.epoch
        cams = self.data.cams[self.data.rows(modality)]
        if modality not in self.local:
            radii = radii_of("carc_eps", config.carc_eps, np.unique(self.data.cams).tolist())
            self.local[modality] = cluster_cameras(
                features,
                cams,
                eps=radii,
                min_samples=config.min_samples,
                k1=config.k1,
                k2=config.k2,
            )
        found = consistent_neighbours(
            neighbours,
            cams,
            self.local[modality],
            progress=epoch / config.stage_epochs[1],
            rng=generator(self.seed, epoch, modality is IR),
            p0=config.carc_p0,
            conflicts=config.carc_conflicts,
        )
        self.log.add(f"carc_conflicts_{modality.value}", found.conflicts / max(neighbours.nnz, 1))
        self.log.add(f"carc_dropped_{modality.value}", found.dropped / max(found.conflicts, 1))
        self.log.add(f"carc_kept_{modality.value}", found.kept.nnz / max(neighbours.nnz, 1))
        return found.kept

    def steps(self, epoch: int) -> int:
        """TokenMatcher's."""
        return self.base.steps(epoch)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """TokenMatcher's terms, and in stage 2 those of the modules."""
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
        """A term, or the term weighted by its learned uncertainty (Kendall et al., CVPR 2018)."""
        if self.config.weighting == "fixed":
            return term
        log_variance = self.modules["variances"][name]
        weighted: Tensor = torch.exp(-log_variance) * term + log_variance
        return weighted

    def _joint(self, batch: Batch) -> Tensor:
        """(B,) labels shared by both modalities: those of the one with fewer clusters, on the CPU.

        A cluster without a partner gets a label of its own.
        """
        base = self.base
        few = base.many.other
        labels = batch.host.labels.clone()
        views = batch.host.of(few.other)
        own = labels[views]
        partner = base.partners[few.other][own]
        alone = len(base.memories[few].rows_CD) + own
        labels[views] = torch.where(partner >= 0, partner, alone)
        return labels

    def _cats(self, batch: Batch, outputs: Features, joint: Tensor) -> dict[str, Tensor]:
        config = self.config
        cycles = self._cycles(outputs.embedding, joint)
        self.log.add("cats_kept", cycles.kept())
        self.log.add("cats_across", cycles.across(batch.infrared))
        loss = circular_loss(
            outputs.embedding, cycles.pairs, config.cats_temperature, config.cats_exclude_self
        )
        terms = {"cats": config.cats_weight * loss}
        if config.cats_convolution:
            memory = self.base.memories[self.base.many.other]
            known = (joint < len(memory.rows_CD)).nonzero()[:, 0]
            rows = torch.arange(len(memory.rows_CD))
            nodes = torch.cat([F.normalize(outputs.embedding, dim=1), memory.rows_CD])
            passed = self.modules["convolution"](
                nodes, self._cycles(nodes, torch.cat([joint, rows]))
            )[: len(joint)]
            terms["cats convolution"] = config.cats_convolution_weight * memory.loss(
                passed[to_device(known, passed.device)], joint[known]
            )
        return terms

    def _cycles(self, features: Tensor, labels: Tensor) -> Cycles:
        config = self.config
        return find_cycles(
            features,
            to_device(labels, features.device),
            k=config.cats_k,
            p=config.cats_p,
            closing=config.cats_closing,
            simple=config.cats_simple,
            extra_edge=config.cats_extra_edge,
        )

    def _dcam(self, batch: Batch, outputs: Features, joint: Tensor) -> Tensor:
        attention = self.modules["attention"]
        enhanced = outputs.tokens.clone()
        for modality in Modality:
            own, other = batch.of(modality), batch.of(modality.other)
            labels = (joint[batch.host.of(side)] for side in (modality, modality.other))
            enhanced[own] = attention(
                outputs.tokens[own],
                outputs.tokens[other],
                to_device(partners_in_batch(*labels), self.device),
            )
        self.log.add("dcam_gate", attention.gate)
        return self._both(batch, self.model.embed_tokens(enhanced, keep_statistics=True))

    def _gsmem(self, batch: Batch, outputs: Features) -> Tensor:
        graph = self.modules["graph"]
        with autocast(self.device, self.config.precision):
            enhanced = graph(outputs.embedding, self.queue.held())
        found = self._both(batch, enhanced.float())
        self.log.add("gsmem_infrared", self.queue.balance())
        least = self.config.gsmem_least
        for count in range(least, max(least, self.config.gsmem_base) + 1):
            self.log.add(f"gsmem_with_{count}", (graph.counts == count).double().mean())
        return found

    def _both(self, batch: Batch, features: Tensor) -> Tensor:
        """Enhanced features against the memories of their own and of the other modality."""
        losses = []
        for modality in Modality:
            own, labels = features[batch.of(modality)], batch.host.labels_of(modality)
            partner = self.base.partners[modality][labels]
            losses.append(self._contrast(modality, own, labels))
            losses.append(self._contrast(modality.other, own, partner))
        return torch.stack(losses).sum()

    def _contrast(self, modality: Modality, features: Tensor, labels: Tensor) -> Tensor:
        memory: Memory = self.base.memories[modality]
        known = (labels >= 0).nonzero()[:, 0]
        if not len(known):
            return features.sum() * 0
        return memory.loss(features[to_device(known, features.device)], labels[known])

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """TokenMatcher's updates; then as many features of each modality go into the queue."""
        self.base.after_step(batch, outputs)
        if self._second and self.config.gsmem:
            vis, ir = batch.of(VIS), batch.of(IR)
            # Visible images come twice, the plain views first: each is added once.
            count = min(len(vis) // 2, len(ir), len(self.queue.rows) // 2)
            rows = torch.cat([vis[:count], ir[:count]])
            self.queue.push(outputs.embedding[rows], batch.infrared[rows])

    def state(self) -> dict[str, Any]:
        """TokenMatcher's state, and the weights, queue and camera clusters of the modules."""
        return {
            "base": self.base.state(),
            "modules": self.modules.state_dict(),
            "queue": self.queue.state(),
            "local": {of.value: torch.from_numpy(found) for of, found in self.local.items()},
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.base.load_state(state["base"])
        self.modules.load_state_dict(state["modules"])
        self.queue.load_state(state["queue"])
        self.local = {Modality(name): found.cpu().numpy() for name, found in state["local"].items()}

    def step_state(self) -> dict[str, Any]:
        """TokenMatcher's, and the diagnostics of the epoch so far."""
        return {"base": self.base.step_state(), "seen": self.log.state()}

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        self.base.load_step_state(state["base"])
        self.log.load_state(state["seen"])


def _modules(config: Config, net: Vit) -> nn.ModuleDict:
    """What is trained beside the backbone; empty if every switch is off."""
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
            dim,
            tokens,
            config.gsmem_layers,
            minimum=config.gsmem_least,
            base=config.gsmem_base,
            beta=config.gsmem_beta,
            radius=config.gsmem_radius,
            per_radius=config.gsmem_per_radius,
        )
    if config.weighting == "uncertainty":
        names = ("cats", "cats convolution", "dcam", "gsmem")
        modules["variances"] = nn.ParameterDict({name: torch.zeros(()) for name in names})
    return modules
