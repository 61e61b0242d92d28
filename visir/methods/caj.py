"""CAJ: channel-augmented joint learning (Ye, Ruan, Du, Shou; ICCV 2021), and its successor CAJ+.

AGW's network and batches, but a visible image also comes with one of its channels in place of all
three, infrared ones likewise or in grey, and boxes of all of them are erased: colours are no
longer worth learning. The triplet loss counts the gap between own and other identities squared.
CAJ+ (Ye, Wu, Chen, Shen; TPAMI 2023) lets the views of an image agree on their predictions.

| paper | function |
|---|---|
| channel exchange, adaptive greyscale, erasing | `visir.data.transforms.augment` |
| enhanced squared difference loss | `visir.methods.losses.squared_difference` |
| joint learning of the three views | `Caj.loss` |
| co-refinement of CAJ+ | `Caj._refine` |

Deviations: boxes are erased after channels are copied (script: before; see
`visir.data.transforms`); the last epoch is the result (script: the best one on the test
identities); the test compares what lies behind the bottleneck (script: its mean with what lies
before it). The presets of CAJ+ are named plus; its training for RegDB kept the first paper's views
[script].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.types import Batch
from visir.data.dataset import TrainingSet
from visir.data.transforms import Augmentation, View
from visir.methods import agw, labelled
from visir.methods.contract import Plan
from visir.nets.features import Features

Refine = Literal["off", "weak", "strong", "both"]


@dataclass(frozen=True)
class Config(agw.Config):
    """Defaults are the public script's for SYSU-MM01 unless marked otherwise."""

    epochs: int = 100  # [script]
    triplets: agw.Triplets = "squared"  # [paper]
    erasing: tuple[float, float] = (0.5, 0.5)  # chance, visible and infrared [script]
    gray: float = 0.5  # p of infrared images' adaptive greyscale [script]
    bleach: float = 0.0  # chance that a weak visible view is grey [script; CAJ+: .1]
    kl_weight: float = 0.0  # of infrared predictions as the visible ones' target [script]
    kl_temperature: float = 3.0  # [script]
    refine: Refine = "off"  # who learns from others' predictions [CAJ+: weak from strong views]
    refine_weight: float = 1.0  # [CAJ+ script]


_PLUS: dict[str, Any] = {"erasing": (0.6, 0.5), "gray": 0.6, "bleach": 0.1, "refine": "weak"}
PRESETS = {
    "sysu": Config(),
    "sysu-plus": Config(**_PLUS),
    "regdb": Config(),
    "regdb-plus": Config(refine="weak"),
    # A narrow network from nothing learns little of images with boxes erased, and takes its time.
    "tiny": Config(
        **{**labelled.TINY, "epochs": 60, "lr_steps": (30, 50)},
        non_local="intended",
        erasing=(0.0, 0.0),
    ),
}


class Caj:
    """AGW's training with views that hide colours."""

    presets: ClassVar[dict[str, Config]] = PRESETS
    learns_from_labels: ClassVar[bool] = True

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        self.config, self.data, self.seed = config, data, seed
        self.base = agw.Agw(config, data, device, seed)
        self.model, self.epochs, self.stage_starts = self.base.model, config.epochs, ()
        self.optimizer, self.after_step = self.base.optimizer, self.base.after_step
        self.state, self.load_state = self.base.state, self.base.load_state

    def plan(self, epoch: int) -> Plan:
        """Two views of a visible image, one of an infrared one."""
        vis, ir = self.config.erasing
        visible = (
            Augmentation(View.PLAIN, erasing=vis, bleach=self.config.bleach),
            Augmentation(View.EXCHANGE, erasing=vis),
        )
        infrared = (Augmentation(View.GRAY, erasing=ir, gray=self.config.gray),)
        return labelled.plan(self.config, self.data, self.seed, epoch, visible, infrared)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Identities and triplets over all three views, and what they ask of each other."""
        config, terms = self.config, self.base.loss(batch, outputs)
        if not config.kl_weight and config.refine == "off":
            return terms
        logits = self.base.logits(outputs)
        weak, strong = logits[~batch.infrared].chunk(2)
        infrared = logits[batch.infrared]
        if config.kl_weight:
            terms["kl"] = config.kl_weight * _divergence(weak, infrared, config.kl_temperature)
        if config.refine != "off":
            terms["refine"] = config.refine_weight * self._refine(weak, strong, infrared)
        return terms

    def _refine(self, weak: Tensor, strong: Tensor, infrared: Tensor) -> Tensor:
        """Cross-entropy to the prediction of another view of the same identity."""
        if self.config.refine == "strong":
            return _learn_from(strong, weak)
        found = _learn_from(weak, strong)
        return found + _learn_from(infrared, strong) if self.config.refine == "both" else found


def _learn_from(pupil: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy (B, C logits) with the teacher's probabilities, which learn nothing."""
    return F.cross_entropy(pupil, teacher.detach().softmax(dim=1))


def _divergence(pupil: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence from the teacher's tempered probabilities."""
    return F.kl_div(
        (pupil / temperature).log_softmax(dim=1),
        (teacher.detach() / temperature).softmax(dim=1),
        reduction="batchmean",
    )
