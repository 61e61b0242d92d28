"""CAJ: channel-augmented joint learning (Ye, Ruan, Du, Shou; ICCV 2021), and its successor CAJ+.

AGW's network and batches with other views: a visible image also comes with one of its channels in
place of all three, an infrared one likewise or in grey, and boxes are erased in all views, so that
colours help less. The triplet loss uses the squared difference between the distances to the same
and to other identities. CAJ+ (Ye, Wu, Chen, Shen; TPAMI 2023) makes the views of an image agree on
their predictions.

| paper | function |
|---|---|
| channel exchange, adaptive greyscale, erasing | `visir.data.transforms.augment` |
| enhanced squared difference loss | `visir.methods.losses.squared_difference` |
| joint learning of the three views | `Caj.loss` |
| co-refinement of CAJ+ | `Caj._refine` |

Deviations: boxes are erased after channels are copied (script: before; see
`visir.data.transforms`); the last epoch is the result (script: the best one on the test
identities); the test compares the embedding behind the bottleneck (script: its mean with the
features before it). The presets of CAJ+ are named "-plus"; its training for RegDB kept the views of
the first paper [script].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, assert_never

from torch import Tensor
from torch.nn import functional as F

from visir.core.bounds import Positive, Share
from visir.core.types import Batch, Modality
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
    erasing: tuple[Share, Share] = (0.5, 0.5)  # probability, visible and infrared [script]
    gray: Share = 0.5  # p of the adaptive greyscale of infrared images [script]
    bleach: Share = 0.0  # probability of a grey weak visible view [script; CAJ+: .1]
    kl_weight: float = 0.0  # weight; visible learn from infrared predictions [script]
    kl_temperature: Positive = 3.0  # [script]
    refine: Refine = "off"  # which views learn from others [CAJ+: weak from strong views]
    refine_weight: float = 1.0  # [CAJ+ script]


_PLUS: dict[str, Any] = {"erasing": (0.6, 0.5), "gray": 0.6, "bleach": 0.1, "refine": "weak"}
PRESETS = {
    "sysu": Config(),
    "sysu-plus": Config(**_PLUS),
    "regdb": Config(),
    "regdb-plus": Config(refine="weak"),
    # A narrow network from random weights learns little with erased boxes, and needs more epochs.
    "tiny": Config(
        **{**labelled.TINY, "epochs": 60, "lr_steps": (30, 50)},
        non_local="intended",
        erasing=(0.0, 0.0),
    ),
    "smoke": Config(**labelled.SMOKE, non_local="intended", erasing=(0.0, 0.0)),
}


class Caj(agw.Agw):
    """AGW's network, optimiser and losses with views that hide colours."""

    presets: ClassVar[dict[str, Any]] = PRESETS
    config: Config

    def plan(self, epoch: int) -> Plan:
        """Two views of a visible image, one of an infrared one."""
        vis, ir = self.config.erasing
        visible = (
            Augmentation(View.PLAIN, erasing=vis, bleach=self.config.bleach),
            Augmentation(View.EXCHANGE, erasing=vis),
        )
        infrared = (Augmentation(View.GRAY, erasing=ir, gray=self.config.gray),)
        return labelled.plan(
            self.config, self.data, self.seed, epoch, visible=visible, infrared=infrared
        )

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Identity loss and triplets over all three views, and agreement of the views if asked."""
        config, terms = self.config, super().loss(batch, outputs)
        if not config.kl_weight and config.refine == "off":
            return terms
        logits = self.logits(outputs)
        weak, strong = logits[batch.of(Modality.VISIBLE)].chunk(2)
        infrared = logits[batch.of(Modality.INFRARED)]
        if config.kl_weight:
            terms["kl"] = config.kl_weight * _divergence(weak, infrared, config.kl_temperature)
        if config.refine != "off":
            terms["refine"] = config.refine_weight * self._refine(weak, strong, infrared)
        return terms

    def _refine(self, weak: Tensor, strong: Tensor, infrared: Tensor) -> Tensor:
        """Cross-entropy to the prediction of another view of the same identity."""
        match self.config.refine:
            case "weak":
                return _learn_from(weak, strong)
            case "strong":
                return _learn_from(strong, weak)
            case "both":
                return _learn_from(weak, strong) + _learn_from(infrared, strong)
            case "off":
                return weak.new_zeros(())
            case _:
                assert_never(self.config.refine)


def _learn_from(pupil: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of (B, C) logits with the teacher's probabilities, which get no gradient."""
    return F.cross_entropy(pupil, teacher.detach().softmax(dim=1))


def _divergence(pupil: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence from the teacher's tempered probabilities."""
    return F.kl_div(
        (pupil / temperature).log_softmax(dim=1),
        (teacher.detach() / temperature).softmax(dim=1),
        reduction="batchmean",
    )
