"""What the training loop asks of a method: a model and four answers, no base class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from visir.core.types import Batch, InputError, IntArray
from visir.data.dataset import Part, TrainingSet
from visir.nets.build import Features, Network


@dataclass(frozen=True)
class Plan:
    """One epoch, planned.

    Attributes:
        stage: what to call this part of the training, for people.
        batches: the parts of each batch, exactly `steps` of them.
        steps: number of batches.
        lr: learning rate of this epoch.
        fresh_optimizer: forget the optimiser's state before this epoch.
        labels: (N,) pseudo-labels of all training rows, numbered per modality, -1 for outliers.
        partners: (visible clusters,) infrared cluster taken for the same person, -1 for none.
        log: further numbers for the metrics; read when the epoch is over, so it may still grow.
        warnings: what looks wrong with the pseudo-labels, for people; a line each.
    """

    stage: str
    batches: Iterable[Sequence[Part]]
    steps: int
    lr: float
    fresh_optimizer: bool = False
    labels: IntArray | None = None
    partners: IntArray | None = None
    log: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()


class Settings(Protocol):
    """What every method's `Config` holds beside its own numbers."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""

    @property
    def pad(self) -> int:
        """Border before the random crop, in pixels."""

    @property
    def precision(self) -> str:
        """One of "auto", "bf16", "fp32"."""


_MAY_BE_ZERO = {
    "pad", "stage_epochs", "switch", "intra_from", "cross_from", "camera_epochs", "camera_from",
    "mate_switch", "share_net", "classes", "warmup",
}  # fmt: skip
_POSITIVE = {
    "eps",
    "camera_eps",
    "carc_eps",
    "cats_temperature",
    "gsmem_radius",
    "temperature",
    "transport_temperature",
    "transport_slack",
    "lr",
    "power",
    "kl_temperature",
    "address_temperature",
}
_SHARES = {
    "eps", "camera_eps", "jitter", "momentum", "first_momentum", "instance_momentum",
    "carc_eps", "carc_p0", "mixed_momentum", "aggregation", "ratio", "neighbour_ratio", "drop_path",
    "smoothing", "bleach", "erasing", "gray", "threshold", "trunk_lr",
}  # fmt: skip


def require_usable(config: object) -> None:
    """Refuse counts below one, where nothing else makes sense, and numbers out of their range.

    Raises:
        InputError: the setting and its value.
    """
    for name, value in vars(config).items():
        for number in value if isinstance(value, tuple) else (value,):
            least = 0 if name in _MAY_BE_ZERO else 1
            if type(number) is int and number < least:
                raise InputError(f"--set: {name} must be at least {least}, got {value}")
            if type(number) is not float:
                continue
            if number < 0 or (name in _POSITIVE and number == 0):
                raise InputError(f"--set: {name} must be above 0, got {value}")
            if name in _SHARES and number > 1:
                raise InputError(f"--set: {name} must be at most 1, got {value}")


class Method(Protocol):
    """A way to train. Everything random in it is drawn from `seed` and the epoch."""

    presets: ClassVar[dict[str, Any]]
    epochs: int

    def __init__(self, config: Any, data: TrainingSet, device: torch.device, seed: int) -> None:  # noqa: ANN401
        """Build the network on `device`.

        `data` holds identities only where the class says `learns_from_labels = True`.
        """

    @property
    def stage_starts(self) -> Sequence[int]:
        """Epochs at which a stage begins that goes on from an earlier one's weights."""

    @property
    def model(self) -> Network:
        """What is trained, saved and embedded with."""

    def optimizer(self) -> torch.optim.Optimizer:
        """A fresh optimiser; a group's `lr_scale`, where it has one, multiplies the plan's rate."""

    def plan(self, epoch: int) -> Plan:
        """Look at the data with the model as it is, and say what this epoch trains on."""

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Named terms; the loop adds them up."""

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """What follows the optimiser's step: updates of the memories."""

    def state(self) -> dict[str, Any]:
        """Everything outside the model that the next epoch depends on."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
