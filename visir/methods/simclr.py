"""SimCLR on both modalities: a start for clustering where no pre-trained backbone is at hand.

A simple framework for contrastive learning (Chen et al., ICML 2020), with the views of
visible-infrared work: every image is told apart from every other image of its own modality in the
batch, while pad-crop, flip, erasing and the channel operations of CAJ make its two views.
Neither labels nor pairs across modalities are used. Both modalities share one stem here, and
visible images show one channel at a time, so that what the network learns of grey visible images
holds for infrared ones too; saved weights hold that stem twice, as every two-stem network starts.

| equation | function |
|---|---|
| NT-Xent, Eq. 1 | `visir.methods.losses.nt_xent`, once per modality |

Deviations: no projection head, so that what is trained is what clustering compares; views by
crop, erasing and channels instead of colour jitter and blur; Adam instead of LARS, for small
batches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from visir.core.types import Batch, Modality
from visir.data.dataset import TrainingSet
from visir.data.samplers import pairs_of_views
from visir.methods.contract import Plan
from visir.methods.losses import nt_xent
from visir.nets.features import Features
from visir.nets.vit import Vit


@dataclass(frozen=True)
class Config:
    """Every number is ours: SimCLR has not been published for these data."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels
    network: Literal["micro", "small", "base"] = "small"
    class_tokens: int = 1
    drop_path: float = 0.1
    epochs: int = 100
    iterations: int = 200  # batches an epoch
    batch: int = 128  # images of each modality, two views of each
    temperature: float = 0.1
    lr: float = 1e-3  # Adam; cosine to zero over all epochs
    weight_decay: float = 5e-4
    pad: int = 10  # pixels
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


class SimCLR:
    """Instance discrimination within each modality."""

    presets: ClassVar[dict[str, Config]] = PRESETS
    one_modality_will_do: ClassVar[bool] = True

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.seed = config, data, seed
        self.epochs = config.epochs
        self.stage_starts: tuple[int, ...] = ()
        self.model = Vit(config.network, config.size, config.class_tokens, config.drop_path).to(
            device
        )
        self.model.ir_stem = self.model.vis_stem

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam over all weights."""
        return torch.optim.Adam(
            self.model.parameters(), lr=self.config.lr, weight_decay=self.config.weight_decay
        )

    def plan(self, epoch: int) -> Plan:
        """Shuffled images of both modalities."""
        return Plan(
            stage="warm-up",
            batches=pairs_of_views(
                self.data, self.config.batch, self.config.iterations, self.seed, epoch
            ),
            steps=self.config.iterations,
            warnings=[
                f"there is no {modality.value} image; only the {modality.other.value} ones teach"
                for modality in Modality
                if epoch == 0 and not len(self.data.rows(modality))
            ],
            lr=self.config.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2,
        )

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """One NT-Xent term for each modality there is."""
        return {
            name: nt_xent(outputs.embedding[mask], self.config.temperature)
            for name, mask in (("visible", ~batch.infrared), ("infrared", batch.infrared))
            if mask.any()
        }

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Nothing is kept between steps."""

    def state(self) -> dict[str, Any]:
        """Nothing beside the model."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""
