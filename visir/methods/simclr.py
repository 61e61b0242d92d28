"""SimCLR on both modalities: weights to start clustering from without a pre-trained backbone.

A simple framework for contrastive learning (Chen et al., ICML 2020) with views for visible-infrared
images: every image is contrasted with every other image of its modality in the batch; its two views
are made by pad-crop, flip, erasing and the channel operations of CAJ. Neither labels nor pairs
across modalities are used. Both modalities share one stem, and visible images show one channel at a
time, so that what is learned on grey visible images applies to infrared ones too. Saved weights
hold the stem twice, for networks with two stems.

| equation | function |
|---|---|
| NT-Xent, Eq. 1 | `visir.methods.losses.nt_xent`, once per modality |

Deviations: no projection head, so that the trained features are those that clustering compares;
crop, erasing and channel views instead of colour jitter and blur; Adam instead of LARS, for small
batches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from visir.core.bounds import CountFrom0, Positive, Share
from visir.core.types import Batch, Modality
from visir.data.dataset import TrainingSet
from visir.data.samplers import pairs_of_views
from visir.methods.contract import Method, Plan
from visir.methods.losses import nt_xent
from visir.methods.schedule import adam, cosine
from visir.nets.build import VitName
from visir.nets.features import Features
from visir.nets.vit import Vit


@dataclass(frozen=True)
class Config:
    """All numbers are ours: SimCLR has not been published for these data sets."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels
    network: VitName = "small"
    class_tokens: int = 1
    drop_path: Share = 0.1
    epochs: int = 100
    iterations: int = 200  # batches per epoch
    batch: int = 128  # images of each modality, two views of each
    temperature: Positive = 0.1
    lr: Positive = 1e-3  # Adam; cosine to zero over all epochs
    weight_decay: float = 5e-4
    pad: CountFrom0 = 10  # pixels
    precision: Literal["auto", "bf16", "fp32"] = "auto"


PRESETS = {
    "sysu": Config(),
    "regdb": Config(iterations=100),
    "tiny": Config(
        size=(64, 32),
        network="micro",
        drop_path=0.0,
        epochs=20,
        iterations=40,
        batch=32,
        lr=2e-3,
        pad=8,
    ),
}
PRESETS["smoke"] = replace(  # seconds on a CPU, for tests
    PRESETS["tiny"],
    size=(32, 16),
    epochs=3,
    iterations=2,
    batch=6,
    precision="fp32",
)


class SimCLR(Method):
    """Instance discrimination within each modality."""

    presets: ClassVar[dict[str, Config]] = PRESETS
    config: Config
    model: Vit
    needs_both_modalities: ClassVar[bool] = False

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.seed = config, data, seed
        self.epochs = config.epochs
        self.model = Vit(config.network, config.size, config.class_tokens, config.drop_path).to(
            device
        )
        self.model.ir_stem = self.model.vis_stem

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all weights."""
        return adam(self.model, self.config.lr, self.config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Shuffled images of both modalities."""
        return Plan(
            stage="warm-up",
            batches=pairs_of_views(
                self.data, self.config.batch, self.config.iterations, self.seed, epoch
            ),
            steps=self.config.iterations,
            warnings=[
                f"there are no {modality.value} images; {modality.other.value} ones alone are used"
                for modality in Modality
                if epoch == 0 and not len(self.data.rows(modality))
            ],
            lr=cosine(self.config.lr, epoch, self.epochs),
        )

    def steps(self, epoch: int) -> int:
        """As set."""
        return self.config.iterations

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """One NT-Xent term for each modality in the data."""
        return {
            modality.value: nt_xent(outputs.embedding[batch.of(modality)], self.config.temperature)
            for modality in Modality
            if len(batch.of(modality))
        }

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Nothing to do."""

    def state(self) -> dict[str, Any]:
        """Empty: the model is everything."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""

    def step_state(self) -> dict[str, Any]:
        """Empty: nothing else changes."""
        return {}

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""
