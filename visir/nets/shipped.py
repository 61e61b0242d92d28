"""Weights that come with visir, with a card each.

| name | what |
|---|---|
| `builtin` | a ready model, for every command that takes a run, and for `visir.load` |
| `person` | a backbone for `visir train --start`, one file for each network in `PERSON` |

They were trained on synthetic people only. `python benchmarks/shipped.py` makes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from visir.core.run import Run, atomic_write, sha256
from visir.core.types import InputError

BUILTIN = "builtin"
VERSION = 1
"""Of the ready model; every version has a run folder of its own."""
PERSON = ("hybrid-micro", "resnet-micro")
"""The networks that `person` can start."""
NETWORKS = {BUILTIN: "resnet-mini", **{f"person-{network}": network for network in PERSON}}
"""The network of every file."""
STARTS = (BUILTIN, "person", *(f"person-{network}" for network in PERSON))
"""The names that `visir train --start` knows; `person` is the file for the network."""
FOLDER = Path(str(files("visir.nets").joinpath("shipped_weights")))
SUMS = "sha256.txt"
"""One line a file, as `sha256sum` writes them."""


class ShippedWarning(UserWarning):
    """Shipped weights are used on what they have not seen."""


@dataclass(frozen=True)
class Card:
    """What is known about shipped weights.

    Attributes:
        title: what it is, in a few words.
        network: a name of `visir.nets.build.NetworkName`.
        size: (height, width) of the images it was trained on, in pixels.
        data: what it was trained on.
        lights: what it has seen: "visible", "near infrared", "thermal".
        command: what makes it again.
        seeds: of the pool and of the training.
        minutes: how long the training took, and on what.
        accuracy: mAP in percent by what it was scored on.
        limits: what it cannot do.
        licence: of the weights.
    """

    title: str
    network: str
    size: tuple[int, int]
    data: str
    lights: tuple[str, ...]
    command: str
    seeds: str
    minutes: str
    accuracy: dict[str, float]
    limits: str
    licence: str = "that of visir"

    def warning(self, size: tuple[int, int] | None = None) -> str:
        """One line: what the weights have not seen.

        Args:
            size: (height, width) they are used at, in pixels; their own if omitted.
        """
        seen = _listed([f"{light} light" for light in self.lights])
        line = f"{self.title} has seen synthetic people only, in {seen}"
        if size not in (None, self.size):
            line += f", at {self.size[0]}x{self.size[1]} pixels, not at {size[0]}x{size[1]}"
        return f"{line}; check it on labelled images of your own before you rely on it"

    def as_table(self) -> str:
        """A Markdown table."""
        cells = asdict(self) | {
            "size": f"{self.size[0]} x {self.size[1]} pixels",
            "lights": _listed(self.lights),
            "command": f"`{self.command}`",
            "accuracy": ", ".join(f"{name} {value:.1f}" for name, value in self.accuracy.items()),
        }
        named = {"lights": "light", "minutes": "training took", "accuracy": "mAP, %"}
        rows = [f"| {named.get(key, key)} | {cells[key]} |" for key in cells if key != "title"]
        return "\n".join([f"| {self.title} | |", "|---|---|", *rows]) + "\n"


def card_of(about: dict[str, Any]) -> Card | None:
    """The card in the description of a weights file; None for weights that visir does not ship."""
    found = about.get("card")
    if found is None:
        return None
    return Card(**{**found, "size": tuple(found["size"]), "lights": tuple(found["lights"])})


def is_builtin(run: Path | str) -> bool:
    """Whether this is the ready model, and not a file or folder of that name."""
    return Path(run) == Path(BUILTIN) and not Path(run).exists()


def builtin_file() -> Path:
    """The file of the ready model.

    Raises:
        InputError: the file is missing or damaged, or of another version of visir.
    """
    return _checked(f"{BUILTIN}.safetensors")


def start_file(name: str, network: str) -> Path | None:
    """The shipped file that a training starts from; None if nothing shipped has this name.

    A file or folder of that name comes first, so there is none then either.

    Args:
        name: what `--start` was given.
        network: the network that is trained; empty if none is.

    Raises:
        InputError: the start is not for this network, or the file is missing or damaged.
    """
    if name not in STARTS or Path(name).exists():
        return None
    if name != "person":
        if network not in ("", NETWORKS[name]):
            raise InputError(
                f"--start {name}: has weights of the network {NETWORKS[name]}, not of {network}; "
                f"set network={NETWORKS[name]}"
                + (f", or give --start person-{network}" if network in PERSON else "")
            )
        return _checked(f"{name}.safetensors")
    if network not in PERSON:
        raise InputError(
            f"--start person: there is no backbone for the network {network}; set network to "
            f"{' or '.join(PERSON)}, or name a run folder or a file"
        )
    return _checked(f"person-{network}.safetensors")


def as_run(run: Path) -> Path:
    """The run itself; for the ready model a run folder in `runs`, made when first used.

    A run folder keeps what commands write beside the weights, such as a calibration.

    Raises:
        InputError: the file of the ready model is missing or damaged.
        OSError: the folder cannot be written.
    """
    if not is_builtin(run):
        return Path(run)
    folder = Run(Path("runs") / f"{BUILTIN}-{VERSION}")
    if not folder.weights.exists():
        content = builtin_file().read_bytes()
        with atomic_write(folder.weights) as file:
            file.write(content)
    return folder.folder


def _checked(name: str) -> Path:
    """The path of a shipped file whose content is what was released."""
    path = FOLDER / name
    known = (FOLDER / SUMS).read_text("utf-8").splitlines()
    if not path.is_file() or f"{sha256(path)}  {name}" not in known:
        raise InputError(f"{path}: is missing, damaged, or of another version; install visir again")
    return path


def _listed(words: Sequence[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
