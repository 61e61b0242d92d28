"""Weights on disk: safetensors with what is needed to build the network again as metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from visir.nets.vit import Vit
from visir.run import atomic_write
from visir.types import InputError


def save_weights(path: Path, net: nn.Module, about: dict[str, Any]) -> None:
    """Write a network's state; `about` must hold "net", the arguments of `Vit`, as JSON values."""
    state = {name: value.detach().clone() for name, value in net.state_dict().items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(state, {"visir": json.dumps(about)}))


def read_about(path: Path) -> dict[str, Any]:
    """The description stored beside the weights.

    Raises:
        InputError: not a safetensors file, or not one of visir's.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("visir")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    if about is None:
        raise InputError(f"{path}: no visir description in the file; train with visir first")
    return dict(json.loads(about))


def load_weights(path: Path) -> tuple[Vit, dict[str, Any]]:
    """Build the network a file describes and fill it: (network in evaluation mode, description)."""
    about = read_about(path)
    net = Vit(**{**about["net"], "image_size": tuple(about["net"]["image_size"])})
    start_from(net, path)
    return net.eval(), about


def start_from(net: nn.Module, path: Path) -> None:
    """Fill `net` with weights of an earlier run of the same network.

    Raises:
        InputError: a tensor is missing, left over, or of another shape; the message says which.
    """
    read_about(path)
    state = safetensors.torch.load_file(path)
    own = net.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in state or name not in own:
            where = "is missing" if name not in state else "has no place in this network"
            raise InputError(f"{path}: tensor {name} {where}; start from the same network size")
        if own[name].shape != state[name].shape:
            raise InputError(
                f"{path}: tensor {name} is {tuple(state[name].shape)}, "
                f"the network needs {tuple(own[name].shape)}; use the same size and class tokens"
            )
    net.load_state_dict(state)
