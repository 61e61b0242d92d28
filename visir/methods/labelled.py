"""What the methods that learn from labels have in common: settings, batches, schedule, classifier.

All of AGW (Ye et al., TPAMI 2021): an epoch passes once over the larger modality in batches of
P identities with K images in each modality, stochastic gradient descent trains the network at a
tenth of the rate of what lies on top of it, and the rate rises first and falls twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from visir.core.types import Batch, InputError, IntArray, Modality
from visir.data.dataset import Part, TrainingSet
from visir.data.rng import generator
from visir.data.samplers import identity_batches
from visir.data.transforms import Augmentation, View
from visir.methods.contract import Plan
from visir.nets.build import ResNetName
from visir.nets.features import Features
from visir.nets.two_stream import TwoStream


@dataclass(frozen=True)
class Config:
    """Defaults are those of AGW's public script for SYSU-MM01, [AGW], unless marked otherwise."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [AGW]
    network: ResNetName = "resnet50"  # [paper]; "resnet18" and "resnet-micro" are ours
    power: float = 3.0  # of the generalised mean [AGW]
    people: int = 8  # P, identities in a batch [AGW]
    images: int = 4  # K, of each identity in each modality [AGW]
    epochs: int = 81  # [AGW]
    lr: float = 0.1  # of classifiers and bottlenecks [AGW]
    trunk_lr: float = 0.1  # factor of it, for the rest [AGW]
    warmup: int = 10  # epochs in which the rate rises [AGW]
    lr_steps: tuple[int, ...] = (20, 50)  # epochs at which the rate falls to a tenth [AGW]
    momentum: float = 0.9  # of the gradient, Nesterov's [AGW]
    weight_decay: float = 5e-4  # [AGW]
    pad: int = 10  # border before the random crop, pixels [AGW]
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # ours


TINY: dict[str, Any] = {
    "size": (64, 32),
    "network": "resnet-micro",
    "epochs": 30,
    "lr_steps": (15, 25),
    "warmup": 2,
    "trunk_lr": 1.0,
    "pad": 4,
}
"""What the tiny presets change: a narrow network that nothing has trained before."""


PLAIN = Augmentation(View.PLAIN, erasing=0.0)
"""A view that is cropped and perhaps mirrored, no more."""


def require_sound(config: Config) -> None:
    """Refuse batches in which nobody can be told from anybody.

    Raises:
        InputError: fewer than two identities in a batch.
    """
    if config.people < 2:
        raise InputError("--set: people=1 leaves nobody to be told from; set at least 2")


class Learner(Protocol):
    """What AGW and HCT answer the loop alike; each adds its network and its loss.

    Attributes:
        trunk: what learns at the trunk's rate.
        head: what the network puts on top of it, learning at the whole rate.
        top: the classifiers, which only training needs.
    """

    learns_from_labels: ClassVar[bool] = True
    stage_starts: Sequence[int] = ()
    config: Config
    data: TrainingSet
    seed: int
    epochs: int
    model: TwoStream
    trunk: nn.Module
    head: nn.Module
    top: nn.Module

    def optimizer(self) -> torch.optim.Optimizer:
        """Descent; the head learns as fast as the classifiers."""
        return sgd(self.config, [self.trunk], [self.head, self.top])

    def plan(self, epoch: int) -> Plan:
        """Pad, crop and mirror; nothing is erased."""
        return plan(self.config, self.data, self.seed, epoch)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Named terms; the loop adds them up."""

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Nothing is kept between steps."""
        return

    def state(self) -> dict[str, Any]:
        """The classifiers."""
        return self.top.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.top.load_state_dict(state)


def known(data: TrainingSet) -> IntArray:
    """The identities, of a method that was given them."""
    if data.identities is None:
        raise InputError("this method learns from labels, and the training set came without")
    return data.identities


def plan(
    config: Config, data: TrainingSet, seed: int, epoch: int,
    visible: Sequence[Augmentation] = (PLAIN,), infrared: Sequence[Augmentation] = (PLAIN,),
) -> Plan:  # fmt: skip
    """One pass over the larger modality.

    Args:
        config: the settings.
        data: the training images.
        seed: of the run.
        epoch: each one has its own draws.
        visible: the views of each visible image.
        infrared: of each infrared one.
    """
    labels = known(data)
    larger = max(len(data.rows(modality)) for modality in Modality)
    steps = larger // (config.people * config.images) + 1
    views = (visible, infrared)
    draws = identity_batches(
        labels, data.infrared, config.people, config.images, generator(seed, epoch)
    )
    return Plan(
        stage="training",
        batches=(
            [Part(rows, labels[rows], how) for rows, hows in zip(next(draws), views, strict=True)
             for how in hows]
            for _ in range(steps)
        ),
        steps=steps,
        lr=rate(config, epoch),
        warnings=_scarce(config, data, labels) if epoch == 0 else (),
    )  # fmt: skip


def rate(config: Config, epoch: int) -> float:
    """Linear rise over the warm-up, then a tenth of it from each step on."""
    if epoch < config.warmup:
        return config.lr * (epoch + 1) / config.warmup
    return config.lr * 0.1 ** sum(epoch >= step for step in config.lr_steps)


def _scarce(config: Config, data: TrainingSet, labels: IntArray) -> tuple[str, ...]:
    """A warning where identities have fewer images than a batch holds of each."""
    counts = np.stack([np.bincount(labels[data.rows(modality)]) for modality in Modality])
    few = int((counts.min(axis=0) < config.images).sum())
    if not few:
        return ()
    return (f"{few} identities have fewer than {config.images} images in a modality (images=K); "
            "theirs are repeated",)  # fmt: skip


def sgd(config: Config, trunk: Iterable[nn.Module], top: Iterable[nn.Module]) -> torch.optim.SGD:
    """Nesterov's descent: `top` at the whole rate, `trunk` at its share."""
    groups = [(trunk, config.trunk_lr), (top, 1.0)]
    return torch.optim.SGD(
        [
            {"params": [weight for part in parts for weight in part.parameters()
                        if weight.requires_grad], "lr_scale": scale}
            for parts, scale in groups
        ],
        lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
    )  # fmt: skip


def classifier(width: int, data: TrainingSet, bias: bool) -> nn.Linear:
    """A linear classifier of the training identities, weights N(0, .001) [AGW]."""
    layer = nn.Linear(width, int(known(data).max()) + 1, bias=bias)
    nn.init.normal_(layer.weight, 0.0, 0.001)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
