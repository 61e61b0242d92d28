"""What the training loop asks of a method: subclass `Method`.

`visir/methods/TEMPLATE.py` is a complete small method to copy.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from visir.core.types import Batch, InputError, IntArray
from visir.data.dataset import Part, TrainingSet
from visir.nets.build import Features, Network

StageStart: TypeAlias = Literal["last", "test-best"]


@dataclass(frozen=True)
class Plan:
    """What one epoch trains on.

    Attributes:
        stage: name of this part of the training, for display.
        batches: the parts of each batch, exactly `steps` of them.
        steps: number of batches.
        lr: learning rate of this epoch.
        fresh_optimizer: reset the optimiser's state before this epoch.
        labels: (N,) pseudo-labels of all training rows, numbered per modality, -1 for outliers.
        partners: (visible clusters,) matched infrared cluster of each, -1 for none.
        log: further numbers for the metrics; read after the epoch, so it may grow until then.
        warnings: problems of the pseudo-labels, for display; one line each.
        trains: whether the batches are trained; if not, the network stays as it is.
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
    trains: bool = True


class Means(Mapping[str, float]):
    """Means over the steps of an epoch, and numbers known before it, for `Plan.log`.

    What a step adds may be on a device, and is read from there only when the means are: so a step
    does not wait for the device.

    Args:
        digits: to which the means are rounded; None for all.
    """

    def __init__(self, digits: int | None = None) -> None:
        self._digits = digits
        self._known: dict[str, float] = {}
        self._seen: dict[str, list[Tensor | float]] = {}

    def know(self, numbers: Mapping[str, float]) -> None:
        """Set the numbers known before the epoch."""
        self._known = dict(numbers)

    def add(self, name: str, value: Tensor | float) -> None:
        """What one step measured: a number, or a tensor with one."""
        value = value.detach().clone() if isinstance(value, Tensor) else value
        self._seen.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> float:
        if name not in self._seen:
            return self._known[name]
        mean = float(np.mean([float(value) for value in self._seen[name]]))
        return mean if self._digits is None else round(mean, self._digits)

    def __iter__(self) -> Iterator[str]:
        return iter({**self._known, **self._seen})

    def __len__(self) -> int:
        return len({**self._known, **self._seen})

    def state(self) -> dict[str, list[float]]:
        """What the steps so far added."""
        return {name: [float(value) for value in of] for name, of in self._seen.items()}

    def load_state(self, state: Mapping[str, Sequence[float]]) -> None:
        """Restore what `state` returned."""
        self._seen = {name: list(values) for name, values in state.items()}


class Settings(Protocol):
    """What every method's `Config` holds beside its own settings.

    Bounds of a setting stand in its type (`visir.core.bounds`).
    """

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input, in pixels."""

    @property
    def pad(self) -> int:
        """Border added before the random crop, in pixels."""

    @property
    def precision(self) -> str:
        """One of "auto", "bf16", "fp32"."""


class Method(ABC):
    """A way to train. Everything random in it is drawn from `seed` and the epoch.

    Attributes:
        presets: named settings, frozen dataclasses of one class with the fields of `Settings`;
            among them "tiny" (minutes on a CPU) and "smoke" (seconds, for tests).
        learns_from_labels: whether `data` holds identities; without this it never does.
        needs_both_modalities: whether training is refused without two images of each modality.
        config: the settings.
        model: what is trained, saved and used to embed.
        epochs: how many the whole training has.
        stage_starts: epochs at which a stage begins that continues from an earlier one's weights.
        stage_start: whether such a stage continues from the last epoch before it, or from the one
            that scored best on the test identities, as some public scripts do.
        reads_maps: whether `loss` or `after_step` reads the maps of `Features`; if not, several
            processes do not exchange them.
    """

    presets: ClassVar[dict[str, Any]] = {}
    learns_from_labels: ClassVar[bool] = False
    needs_both_modalities: ClassVar[bool] = True
    config: Any
    model: Network
    epochs: int
    stage_starts: Sequence[int] = ()
    stage_start: StageStart = "last"
    reads_maps: ClassVar[bool] = True

    @abstractmethod
    def __init__(self, config: Any, data: TrainingSet, device: torch.device, seed: int) -> None:  # noqa: ANN401
        """Build the network on `device`; set `config`, `model` and `epochs`."""

    @classmethod
    def learns_from_tracks(cls, config: Any) -> bool:  # noqa: ANN401
        """Whether `identities` need only be right inside each camera, so that tracks will do."""
        return False

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A new optimiser. A group's `lr_scale`, if it has one, multiplies the plan's rate."""

    @abstractmethod
    def plan(self, epoch: int) -> Plan:
        """What this epoch trains on; may embed and cluster the training images first."""

    def steps(self, epoch: int) -> int | None:
        """How many batches the epoch will have, for estimates; None if only its plan knows."""
        return None

    def forward(self, batch: Batch) -> Features:
        """What the networks compute of a batch, image by image, but for batch norms.

        With several processes, or with `--accumulate`, `batch` is a slice of the whole one. Only
        here a method may read `batch.images`, and only here is a network called that has batch
        norms for images.
        """
        found: Features = self.model(batch.images, batch.host.infrared)
        return found

    @abstractmethod
    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Named terms of the whole batch; the loop adds them up."""

    def before_step(self) -> None:
        """What comes between the gradients of the whole batch and the optimiser's step."""
        return

    @abstractmethod
    def after_step(self, batch: Batch, outputs: Features) -> None:
        """What follows the optimiser's step, such as updates of the memories."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Everything outside the model that the next epoch depends on."""

    @abstractmethod
    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned; tensors come in the memory of the CPU."""

    def step_state(self) -> dict[str, Any]:
        """What changes between two steps of an epoch and is neither in the model nor in `state`.

        The rows of memories, the number of the step, means for the log. A method that does not
        define it cannot be saved inside an epoch.
        """
        raise NotImplementedError

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Restore what `step_state` returned, after `plan` of the same epoch.

        Tensors come in the memory of the CPU.
        Objects that `plan` made are changed in place, as the plan may refer to them.
        """
        raise NotImplementedError


def require_step_state(found: type[Method], name: str) -> None:
    """Refuse to save a method inside an epoch that does not say what changes there.

    Raises:
        InputError: `step_state` or `load_step_state` is missing.
    """
    if found.step_state is Method.step_state or found.load_step_state is Method.load_step_state:
        raise InputError(
            f"method {name!r}: {found.__name__} lacks step_state or load_step_state; leave "
            "--save-every out, or add both"
        )


def require_method(found: object, name: str) -> type[Method]:
    """The class of a method, if it can be trained.

    Args:
        found: what was imported.
        name: for messages.

    Raises:
        InputError: not a class derived from `Method`, functions of it are missing, or its presets
            are.
    """
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise InputError(
            f"method {name!r}: is not a class derived from visir.methods.contract.Method; derive "
            "it, as visir/methods/TEMPLATE.py does"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise InputError(f"method {name!r}: {found.__name__} lacks {missing}; add them")
    if "tiny" not in found.presets:
        raise InputError(
            f"method {name!r}: {found.__name__}.presets is missing; set it to a dictionary of "
            'names to settings, with "tiny" among them'
        )
    return found
