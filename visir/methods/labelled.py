"""What the methods that learn from labels share: settings, batches, schedule, classifier.

As in AGW (Ye et al., TPAMI 2021): an epoch passes once over the larger modality in batches of P
identities with K images in each modality. Stochastic gradient descent trains the backbone at a
tenth of the rate of bottleneck and classifier; the rate rises during a warm-up and falls twice.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from visir.core.bounds import CountFrom0, Positive, Share
from visir.core.types import Batch, InputError, IntArray, Modality
from visir.data.dataset import Part, TrainingSet
from visir.data.rng import generator
from visir.data.samplers import identity_batches
from visir.data.transforms import Augmentation, View
from visir.methods.contract import Method, Plan
from visir.methods.schedule import fused
from visir.nets.build import ResNetName
from visir.nets.features import Features
from visir.nets.two_stream import TwoStream


@dataclass(frozen=True)
class Config:
    """Defaults are from AGW's public script for SYSU-MM01, [AGW], unless marked otherwise."""

    size: tuple[int, int] = (288, 144)  # input height, width in pixels [AGW]
    network: ResNetName = "resnet50"  # [paper]; "resnet18" and "resnet-micro" are ours
    power: Positive = 3.0  # p of the generalised mean [AGW]
    people: int = 8  # P, identities in a batch [AGW]
    images: int = 4  # K, of each identity in each modality [AGW]
    epochs: int = 81  # [AGW]
    lr: Positive = 0.1  # of classifier and bottleneck [AGW]
    trunk_lr: Share = 0.1  # factor of the rate, for the backbone [AGW]
    warmup: CountFrom0 = 10  # epochs during which the rate rises [AGW]
    lr_steps: tuple[int, ...] = (20, 50)  # epochs at which the rate falls to a tenth [AGW]
    momentum: Share = 0.9  # of the gradient, Nesterov [AGW]
    weight_decay: float = 5e-4  # [AGW]
    pad: CountFrom0 = 10  # border before the random crop, pixels [AGW]
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
"""What the tiny presets change: a narrow network that starts from random weights."""
SMOKE: dict[str, Any] = {
    **TINY,
    "size": (32, 16),
    "epochs": 3,
    "people": 3,
    "images": 2,
    "precision": "fp32",
}
"""What the smoke presets change: seconds on a CPU, for tests."""

PLAIN = Augmentation(View.PLAIN, erasing=0.0)
"""A view that is only cropped and, at random, mirrored."""


def require_sound(config: Config) -> None:
    """Refuse batches of a single identity, in which nothing can be told apart.

    Raises:
        InputError: fewer than two identities in a batch.
    """
    if config.people < 2:
        raise InputError(
            "setting people=1: a batch needs at least two identities to compare; set 2 or more"
        )


class Learner(Method):
    """What AGW and HCT share; each adds its network and its loss.

    Attributes:
        backbone: what learns at the backbone's rate.
        bottleneck: the layers of the network behind it, which learn at the full rate.
        classifier: the classifiers, which are used in training only.
    """

    learns_from_labels: ClassVar[bool] = True
    reads_maps: ClassVar[bool] = False
    config: Config
    data: TrainingSet
    seed: int
    model: TwoStream
    backbone: nn.Module
    bottleneck: nn.Module
    classifier: nn.Module

    def optimizer(self) -> torch.optim.Optimizer:
        """Gradient descent; bottleneck and classifier learn at the full rate."""
        return sgd(self.config, [self.backbone], [self.bottleneck, self.classifier])

    def plan(self, epoch: int) -> Plan:
        """Views that are padded, cropped and mirrored, without erasing."""
        return plan(self.config, self.data, self.seed, epoch)

    def steps(self, epoch: int) -> int:
        """One pass over the larger modality."""
        return one_pass(self.config, self.data)

    @abstractmethod
    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Named terms; the loop adds them up."""

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Nothing to do."""
        return

    def state(self) -> dict[str, Any]:
        """The classifiers."""
        return self.classifier.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.classifier.load_state_dict(state)

    def step_state(self) -> dict[str, Any]:
        """Empty: nothing else changes."""
        return {}

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


def known(data: TrainingSet) -> IntArray:
    """The identities of the training images."""
    if data.identities is None:
        raise InputError("this method learns from labels, but the training set has none")
    return data.identities


def plan(
    config: Config,
    data: TrainingSet,
    seed: int,
    epoch: int,
    visible: Sequence[Augmentation] = (PLAIN,),
    infrared: Sequence[Augmentation] = (PLAIN,),
) -> Plan:
    """One pass over the larger modality.

    Args:
        config: the settings.
        data: the training images.
        seed: of the run.
        epoch: part of the random key, so every epoch draws other batches.
        visible: the views of each visible image.
        infrared: the views of each infrared image.
    """
    labels = known(data)
    steps = one_pass(config, data)
    views = (visible, infrared)
    draws = identity_batches(
        labels, data.infrared, config.people, config.images, generator(seed, epoch)
    )
    return Plan(
        stage="training",
        batches=(
            [
                Part(rows, labels[rows], how)
                for rows, hows in zip(next(draws), views, strict=True)
                for how in hows
            ]
            for _ in range(steps)
        ),
        steps=steps,
        lr=rate(config, epoch),
        warnings=_scarce(config, data, labels) if epoch == 0 else (),
    )


def one_pass(config: Config, data: TrainingSet) -> int:
    """The number of batches in a pass over the larger modality."""
    larger = max(len(data.rows(modality)) for modality in Modality)
    return larger // (config.people * config.images) + 1


def rate(config: Config, epoch: int) -> float:
    """Linear rise over the warm-up, then a tenth after each step."""
    if epoch < config.warmup:
        return config.lr * (epoch + 1) / config.warmup
    return config.lr * 0.1 ** sum(epoch >= step for step in config.lr_steps)


def _scarce(config: Config, data: TrainingSet, labels: IntArray) -> tuple[str, ...]:
    """A warning if identities have fewer images than a batch takes of each."""
    counts = np.stack([np.bincount(labels[data.rows(modality)]) for modality in Modality])
    few = int((counts.min(axis=0) < config.images).sum())
    if not few:
        return ()
    return (
        f"{few} identities have fewer than {config.images} images in a modality (images=K); "
        "theirs are repeated",
    )


def sgd(config: Config, slow: Iterable[nn.Module], fast: Iterable[nn.Module]) -> torch.optim.SGD:
    """Nesterov momentum: `fast` at the full rate, `slow` at the backbone's share of it."""
    groups: list[dict[str, Any]] = [
        {
            "params": [
                weight for part in parts for weight in part.parameters() if weight.requires_grad
            ],
            "lr_scale": scale,
        }
        for parts, scale in ((slow, config.trunk_lr), (fast, 1.0))
    ]
    return torch.optim.SGD(
        groups,
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.momentum > 0,
        fused=fused([weight for group in groups for weight in group["params"]]),
    )


def classifier(width: int, data: TrainingSet, bias: bool) -> nn.Linear:
    """A linear classifier of the training identities, weights N(0, .001) [AGW]."""
    layer = nn.Linear(width, int(known(data).max()) + 1, bias=bias)
    nn.init.normal_(layer.weight, 0.0, 0.001)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
