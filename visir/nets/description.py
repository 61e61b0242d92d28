"""The description in a weights file: what it may hold, checked before anything is built from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import safetensors
from torch import nn

from visir.core.bounds import Above, AtLeast, AtMost, require_within_bounds
from visir.core.config import from_mapping
from visir.core.device import PRECISIONS
from visir.core.names import shown
from visir.core.types import InputError
from visir.core.untrusted import parse_json
from visir.data.ranges import from_json
from visir.nets.build import NetworkName
from visir.nets.shipped import Card
from visir.nets.two_stream import Width

_LONGEST = 1 << 20  # characters of a description
_TEXTS = ("method", "dataset", "split")
Side = Annotated[int, AtLeast(8), AtMost(2048)]
FEW = 64
"""Class tokens, or strips, of a network at most; published ones have up to 6."""


@dataclass(frozen=True)
class Described:
    """The network of a weights file: the arguments of `visir.nets.build.build`."""

    size: NetworkName
    image_size: tuple[Side, Side]
    class_tokens: Annotated[int, AtLeast(1), AtMost(FEW)] = 1
    drop_path: Annotated[float, AtLeast(0), AtMost(1)] = 0.0
    shallow: bool = False
    share_net: Annotated[int, AtLeast(0), AtMost(5)] = 1
    non_local: Width = "off"
    power: Annotated[float, Above(0), AtMost(1000)] = 3.0
    strips: Annotated[int, AtLeast(0), AtMost(FEW)] = 0


def parsed(text: str, path: Path) -> dict[str, Any]:
    """The description of a file, checked.

    Args:
        text: as it is stored, in JSON.
        path: the file, for messages.

    Raises:
        InputError: it is not JSON, or a value has the wrong type or is out of bounds.
    """
    where = f"{path}: description"
    try:
        about = parse_json(text) if len(text) <= _LONGEST else None
    except ValueError:
        about = None
    if not isinstance(about, dict):
        raise InputError(f"{where} is damaged or not visir's; give a weights file that visir wrote")
    for name in _TEXTS:
        if not isinstance(about.get(name), str | None):
            raise InputError(f"{where}: {name} must be text, got {shown(about[name])}")
    if about.get("precision", "auto") not in PRECISIONS:
        said, known = shown(about["precision"]), ", ".join(PRECISIONS)
        raise InputError(f"{where}: precision must be one of {known}, got {said}")
    for name, kind in (("net", Described), ("card", Card)):
        if about.get(name):
            _require(kind, about[name], f"{where}: {name}")
    from_json(about.get("ranges", {}), f"{where}: ranges")
    return about


def _require(kind: type, value: object, where: str) -> None:
    try:
        found: object = from_mapping(kind, value, where)
        with naming(where):
            require_within_bounds(found)
    except (InputError, RecursionError) as error:
        raise InputError(
            f"{str(error)[:500]}; use the version of visir that wrote the file, or copy it again"
        ) from error


def require_shapes(net: nn.Module, path: Path) -> None:
    """Refuse a safetensors file whose header has other shapes than its network needs.

    Raises:
        InputError: the first tensor that differs.
    """
    needed = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    with safetensors.safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            shape = tuple(file.get_slice(name).get_shape())
            if name in needed and needed[name] != shape:
                raise InputError(
                    f"{path}: tensor {name} is {shape}, and the network that its description names "
                    f"needs {needed[name]}; copy the file again"
                )


@contextmanager
def naming(place: object) -> Iterator[None]:
    """Name a file, or a place in it, in errors of the block."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
