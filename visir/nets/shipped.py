"""Weights that come with visir: a ready model, and starts for trainings. Each has a card.

| name | what |
|---|---|
| `builtin` | a ready model for `visir search`, `index`, `serve` and `visir.load` |
| `person` | a backbone for `--start`, one file for each network in `PERSON` |

All of them have seen rendered people only. `python benchmarks/shipped.py` makes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from visir.core.run import Run, atomic_write
from visir.core.types import InputError

BUILTIN = "builtin"
VERSION = 1
"""Of the shipped weights; a later one has its own run folder."""
PERSON = ("hybrid-micro", "resnet-micro")
"""The networks that have a file to start from."""


@dataclass(frozen=True)
class Card:
    """What is known about shipped weights.

    Attributes:
        version: of the weights, from 1.
        title: what it is, in a few words.
        network: a name of `visir.nets.build.NetworkName`.
        size: (height, width) of its input, in pixels.
        data: what it was trained on.
        lights: what it has seen: "visible", "near infrared", "thermal".
        command: what makes it again.
        seeds: of the pools, and of the training.
        minutes: of training, on the named machine.
        accuracy: what it reaches, by what it was scored on, mAP in percent.
        limits: what it cannot do.
        licence: of the weights.
    """

    version: int
    title: str
    network: str
    size: tuple[int, int]
    data: str
    lights: tuple[str, ...]
    command: str
    seeds: str
    minutes: float
    accuracy: dict[str, float]
    limits: str
    licence: str = "the licence of visir"

    def warning(self, size: tuple[int, int] | None = None) -> str:
        """One line: what the weights have not seen.

        Args:
            size: (height, width) they are to be used at, in pixels; None for their own.
        """
        line = f"{self.title} has seen rendered people only, in {_listed(self.lights)}"
        if size not in (None, self.size):
            line += f", and images of {self.size[0]}x{self.size[1]} pixels, not {size[0]}x{size[1]}"
        return f"{line}; expect less of it on real cameras, and check it on images of your own"

    def __str__(self) -> str:
        """A few lines of text."""
        scores = ", ".join(f"{name} {value:.1f}" for name, value in self.accuracy.items())
        return "\n".join(
            [
                f"{self.title}: {self.network}, {self.size[0]}x{self.size[1]} pixels",
                f"trained on: {self.data}; it has seen {', '.join(self.lights)}",
                f"made by: {self.command} ({self.seeds}; {self.minutes:.0f} minutes)",
                f"mAP in percent on people it has not seen: {scores}",
                f"limits: {self.limits}",
                f"licence: {self.licence}",
            ]
        )


class ShippedWarning(UserWarning):
    """Weights are used on what they have not seen."""


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last} light" if first else f"{last} light"


def builtin_file() -> Path:
    """The file of the ready model."""
    return _file(f"{BUILTIN}.safetensors")


def start_file(name: str, network: str) -> Path | None:
    """The file of a shipped start; None if the name is not "person".

    Args:
        name: what `--start` was given.
        network: the network to start.

    Raises:
        InputError: there is no file for this network.
    """
    if name != "person":
        return None
    if network not in PERSON:
        raise InputError(
            f"--start person: there is no file for the network {network}; set network to "
            f"{' or '.join(PERSON)}, or name a file of your own"
        )
    return _file(f"person-{network}.safetensors")


def _file(name: str) -> Path:
    return Path(str(files("visir.nets").joinpath("shipped_weights", name)))


def as_run(run: Path) -> Path:
    """The run itself; for the ready model a run folder in `runs`, made when first used.

    A run folder keeps what later commands write beside the weights, such as a calibration.

    Raises:
        InputError: the folder cannot be written.
    """
    run = Path(run)
    if run != Path(BUILTIN) or run.exists():
        return run
    folder = Run(Path("runs") / f"{BUILTIN}-{VERSION}")
    if not folder.weights.exists():
        with atomic_write(folder.weights) as file:
            file.write(builtin_file().read_bytes())
    return folder.folder


def card_of(about: dict[str, Any]) -> Card | None:
    """The card in the description of a weights file; None if the file has none."""
    found = about.get("card")
    if found is None:
        return None
    return Card(**{**found, "size": tuple(found["size"]), "lights": tuple(found["lights"])})
