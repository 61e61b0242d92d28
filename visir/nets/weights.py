"""Weights on disk: safetensors with what is needed to build the network again as metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from visir.nets.build import Network, build
from visir.nets.two_stream import ADCA_TRUNKS, TwoStream, names_from_adca, names_from_imagenet
from visir.nets.vit import Vit
from visir.run import atomic_write
from visir.types import InputError


def save_weights(path: Path, net: nn.Module, about: dict[str, Any]) -> None:
    """Write a network's state; `about["net"]` holds the arguments of `build`, in JSON values."""
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


def load_weights(path: Path) -> tuple[Network, dict[str, Any]]:
    """Build the network a file describes and fill it: (network in evaluation mode, description).

    Raises:
        InputError: not a file of visir's, or its network is not one that can be built.
    """
    about = read_about(path)
    try:
        described = dict(about["net"])
        net = build(described.pop("size"), tuple(described.pop("image_size")), **described)
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{path}: its network cannot be built from the description in the file ({error}); "
            "use the version of visir that wrote it"
        ) from error
    start_from(net, path)
    return net.eval(), about


class Loaded(NamedTuple):
    """What became of a file's tensors: `kept` ones of the network found none and stay as drawn."""

    used: int
    unused: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        """One line for people."""
        line = f"{self.used} tensors loaded"
        for names, what in ((self.unused, "unused"), (self.kept, "not in the file, as drawn")):
            if names:
                some = ", ".join(names[:3]) + ", ..." * (len(names) > 3)
                line += f", {len(names)} {what} ({some})"
        return line


def start_from(net: Network, path: Path) -> Loaded:
    """Fill `net` with weights from a file.

    Files are visir's own (.safetensors), torchvision's of a ResNet, or ADCA's checkpoints. The
    classifier of the last two is not used; torchvision's have no bottleneck, which stays as drawn.

    Raises:
        InputError: a tensor is missing, left over, or of another shape; the message says which.
    """
    if path.suffix == ".safetensors":
        read_about(path)
        whole = safetensors.torch.load_file(path)
        state = net.complete(whole) if isinstance(net, Vit) else whole
        return Loaded(len(whole), (), _fill(net, path, state))
    whole = _read_checkpoint(path)
    if not isinstance(net, TwoStream):
        raise InputError(
            f"{path}: a ResNet's checkpoint can start the network resnet50 only; set "
            "--set network=resnet50 or give a .safetensors file of visir"
        )
    may_stay: tuple[str, ...] = ()
    if any(name.startswith(tuple(ADCA_TRUNKS)) for name in whole):
        sources, spare = names_from_adca(whole), ("classifier.", *ADCA_TRUNKS)
    else:
        sources, spare, may_stay = names_from_imagenet(whole), ("fc.",), ("bottleneck.",)
    unused = sorted(whole.keys() - sources.values())
    _refuse_left_over(path, [name for name in unused if not name.startswith(spare)])
    kept = _fill(net, path, {name: whole[source] for name, source in sources.items()}, may_stay)
    return Loaded(len(whole) - len(unused), tuple(unused), kept)


def _fill(
    net: Network, path: Path, state: dict[str, Tensor], may_stay: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Check names and shapes, then load; `may_stay` begins the names a file need not have.

    Returns:
        Names of the network's tensors that stay as they were.
    """
    own = net.state_dict()
    _refuse_left_over(path, sorted(state.keys() - own.keys()))
    kept = sorted(own.keys() - state.keys())
    for name in kept:
        # Files written before batch norm counted its batches lack the counters.
        if not name.startswith(may_stay) and not name.endswith("num_batches_tracked"):
            raise InputError(f"{path}: tensor {name} is missing; start from the same network size")
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise InputError(
                f"{path}: tensor {name} is {tuple(value.shape)}, "
                f"the network needs {tuple(own[name].shape)}; use the same size and class tokens"
            )
    net.load_state_dict({**own, **state})
    return tuple(kept)


def _refuse_left_over(path: Path, names: list[str]) -> None:
    if names:
        raise InputError(
            f"{path}: tensor {names[0]} has no place in this network; start from the same "
            "network size"
        )


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch, by name; nothing in the file is run.

    Raises:
        InputError: the file cannot be read, or holds more than tensors and plain values.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give a run folder or a file of "
            "weights"
        ) from error
    except Exception as error:  # torch's reader of damaged files raises many kinds
        raise InputError(
            f"{path}: damaged, or not a checkpoint of tensors alone, and code in a file is never "
            "run; give a .safetensors file of visir, or a .pth file with a state dict"
        ) from error
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        found = {}
    named = {str(name).removeprefix("module."): value for name, value in found.items()}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path}: holds no state dict; give a .pth file with named tensors")
    return tensors
