# ruff: noqa: N999 - in capitals, so that it is seen first
"""A method to copy: name of the method (Authors, VENUE year).

What it does, in a few sentences. This one is real and small: it clusters each modality separately
and trains every image towards the prototype of its cluster. It can be trained as it is:
`visir train visir.methods.TEMPLATE:Template --data people --out runs/mine`.

To add a method to visir: copy this file, write `docs/methods/<name>.md`, and add one line to
`METHODS` in `visir/methods/__init__.py`. Outside visir the file alone is enough.

| paper | function |
|---|---|
| pseudo-labels per modality, Sec. 3.1 | `visir.cluster.labels.pseudo_labels` |
| contrastive loss, Eq. 1 | `visir.cluster.memory.Memory.loss`, `Template.loss` |
| update of the prototypes, Eq. 2 | `visir.cluster.memory.Memory.update` |

Deviations: what differs from the paper or its code, and why.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from visir.cluster.labels import pseudo_labels
from visir.cluster.memory import Memory, prototypes, restore_rows, rows_of
from visir.core.bounds import CountFrom0, Positive, PositiveShare, Share
from visir.core.types import Batch, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.methods.clustering import batches_by_cluster, cluster_training, embed_training, join
from visir.methods.contract import Method, Plan
from visir.methods.schedule import adam
from visir.nets.build import Features, NetworkName, build


@dataclass(frozen=True)
class Config:
    """Settings, each with its source. Types hold the bounds: an `int` is >= 1, a `float` >= 0."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [paper]
    network: NetworkName = "resnet50"  # [paper]
    epochs: int = 50  # [paper]
    iterations: int = 200  # batches per epoch [script]
    clusters: int = 8  # of each modality per batch [script]
    instances: int = 16  # images of each cluster in a batch [paper]
    eps: PositiveShare = 0.6  # DBSCAN radius, Jaccard distance [paper]
    min_samples: int = 4  # neighbours of a core point [paper]
    k1: int = 30  # k-reciprocal neighbourhood [script]
    k2: int = 6  # query expansion [script]
    temperature: Positive = 0.05  # [paper]
    momentum: Share = 0.1  # weight of the old prototype [script]
    lr: Positive = 3.5e-4  # Adam [paper]
    weight_decay: float = 5e-4  # [script]
    pad: CountFrom0 = 10  # border before the random crop, pixels [script]
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


PRESETS = {
    "sysu": Config(),
    "tiny": Config(  # minutes on a CPU
        size=(64, 32),
        network="micro",
        epochs=20,
        iterations=40,
        instances=4,
        eps=0.5,
        k1=16,
        lr=1e-3,
        pad=4,
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    epochs=3,
    iterations=2,
    clusters=2,
    instances=2,
    eps=0.7,
    min_samples=2,
    k1=4,
    k2=2,
    precision="fp32",
)


class Template(Method):
    """One line on what is trained, and which state is kept between epochs."""

    presets: ClassVar[dict[str, Any]] = PRESETS
    reads_maps: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.device, self.seed = config, data, device, seed
        self.epochs = config.epochs
        self.model = build(config.network, config.size).to(device)
        self.memories: dict[Modality, Memory] = {}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all trainable weights."""
        return adam(self.model, self.config.lr, self.config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Embed, cluster, build the memories; then batches of clusters."""
        config = self.config
        features = embed_training(self.model, self.data, self.device, config.precision)
        labels, momentum, warnings = cluster_training(
            features, self._cluster, config.eps, config.momentum, adapt="eps"
        )
        self.memories = {
            modality: Memory(prototypes(of, labels[modality]), momentum, config.temperature)
            for modality, of in features.items()
        }
        joined = join(self.data, labels)
        return Plan(
            stage="training",
            batches=batches_by_cluster(
                self.data,
                joined,
                clusters=dict.fromkeys(Modality, config.clusters),
                instances=config.instances,
                steps=config.iterations,
                seed=self.seed,
                epoch=epoch,
            ),
            steps=config.iterations,
            lr=config.lr,
            labels=joined,
            warnings=warnings,
        )

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        config = self.config
        return pseudo_labels(features, eps, config.min_samples, config.k1, config.k2)

    def steps(self, epoch: int) -> int:
        """As set; for estimates of the time."""
        return self.config.iterations

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Each modality against its own memory (Eq. 1)."""
        return {
            modality.value: memory.loss(
                outputs.embedding[batch.of(modality)], batch.labels[batch.of(modality)]
            )
            for modality, memory in self.memories.items()
        }

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Update both memories with the batch (Eq. 2)."""
        for modality, memory in self.memories.items():
            views = batch.of(modality)
            memory.update(outputs.embedding[views], batch.host.labels_of(modality))

    def state(self) -> dict[str, Any]:
        """Empty: the memories are rebuilt from the model in every epoch."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def step_state(self) -> dict[str, Any]:
        """The rows of the memories."""
        return rows_of(self.memories.values())

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned."""
        restore_rows(self.memories.values(), state)
