"""Weights files: safetensors with the description of the network as metadata."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from visir.core.run import atomic_write
from visir.core.types import InputError
from visir.nets.build import Network, build
from visir.nets.description import naming, parsed, require_shapes
from visir.nets.foreign import SAME, Translation, describe, renamed, translate
from visir.nets.pickles import read_checkpoint
from visir.nets.two_stream import HEADS
from visir.nets.vit import Vit


def save_weights(path: Path, net: nn.Module, about: dict[str, Any]) -> None:
    """Write a network's state; `about["net"]` holds the arguments of `build`, in JSON values."""
    state = {name: value.detach().clone() for name, value in net.state_dict().items()}
    with atomic_write(path) as file:
        file.write(safetensors.torch.save(state, {"visir": json.dumps(about)}))


def read_about(path: Path) -> dict[str, Any]:
    """Read the description stored beside the weights.

    Raises:
        InputError: not a safetensors file, not written by visir, or the description cannot be.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            about = (file.metadata() or {}).get("visir")
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from error
    if about is None:
        raise InputError(
            f"{path}: the file has no description of visir; give a weights file that visir wrote"
        )
    return parsed(about, path)


class Loaded(NamedTuple):
    """The use of a file's tensors; `kept`: tensors of the network that keep initial values."""

    used: int
    unused: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        """One line of text."""
        line = f"{self.used} tensors loaded"
        missing = "not in the file, initial values kept"
        for names, what in ((self.unused, "unused"), (self.kept, missing)):
            if names:
                some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
                line += f", {len(names)} {what} ({some})"
        return line


class Opened(NamedTuple):
    """A network in evaluation mode, its description, and the use of the file's tensors."""

    net: Network
    about: dict[str, Any]
    loaded: Loaded


def load_weights(path: Path, power: float | None = None) -> Opened:
    """Build the network of a file and load its weights.

    Files are visir's own (.safetensors), or trained checkpoints that `visir.nets.foreign` supports.

    Args:
        path: the file.
        power: p of GeM pooling, for checkpoints that do not say it, see `foreign.describe`.

    Raises:
        InputError: the file is not supported, or its network cannot be built.
    """
    if path.suffix == ".safetensors":
        about = read_about(path)
        if not about.get("net"):
            raise InputError(
                f"{path}: its description names no network; give the weights file of a trained run"
            )
        with torch.device("meta"), _Unfilled():  # shapes alone, without memory for weights
            require_shapes(_build(about, path), path)
    else:
        whole = read_checkpoint(path)
        with naming(path):
            about = describe(whole, power)
    net = _build(about, path)
    loaded = start_from(net, path)
    return Opened(net.eval(), about, loaded)


class _Unfilled(TorchFunctionMode):
    """Leaves random numbers out: on the meta device they import PyTorch's compiler."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """The function's result, or the tensor as it is."""
        given = kwargs or {}
        of = getattr(func, "__module__", None)
        if func in (Tensor.normal_, Tensor.uniform_) or of == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def _build(about: dict[str, Any], path: Path) -> Network:
    described = dict(about["net"])
    with naming(path):
        return build(described.pop("size"), tuple(described.pop("image_size")), **described)


def convert(path: Path, out: Path, *, gem_p: float | None = None) -> Opened:
    """Convert a checkpoint to a weights file of visir.

    Arguments are those of `visir.commands.convert.convert`.

    Raises:
        InputError: as `load_weights`; `path` is a weights file of visir; `out` has another ending
            or exists.
    """
    if path.suffix == ".safetensors":
        raise InputError(f"{path}: is already in visir's format; give a checkpoint to convert")
    if out.suffix != ".safetensors":
        raise InputError(f"{out}: the name must end in .safetensors; choose such a name")
    if out.exists():
        raise InputError(f"{out}: the file exists; name another file, or remove it")
    opened = load_weights(path, gem_p)
    save_weights(out, opened.net, opened.about)
    return opened


def start_from(net: Network, path: Path) -> Loaded:
    """Load weights from a file into `net`.

    Files are visir's own (.safetensors), or checkpoints that `visir.nets.foreign` supports. Tensors
    they lack, such as the bottlenecks of a network trained for another task, keep their initial
    values. A transformer's positions are resized to the size of its images. Of a two-stream network
    of visir with other strips or non-local blocks these are left out, and layers that both
    modalities share there start both streams where each has its own.

    Raises:
        InputError: a tensor is missing, unexpected, or of another shape; the message names it.
    """
    if path.suffix == ".safetensors":
        about = read_about(path).get("net", {})
        whole = safetensors.torch.load_file(path)
        with naming(path):
            found = _fitted(whole, about, net)
    else:
        whole = read_checkpoint(path)
        with naming(path):
            found = translate(whole, net)
    kept = _fill(net, path, found.state, found.may_stay)
    return Loaded(len(whole) - len(found.unused), found.unused, kept)


def _fitted(whole: dict[str, Tensor], about: Mapping[str, Any], net: Network) -> Translation:
    """The tensors of a file of visir, as far as a network of the same size has a place for them.

    Args:
        whole: the file's tensors.
        about: the arguments of `build` that the file names.
        net: the network.
    """
    same = about.get("size") == net.described["size"]
    if isinstance(net, Vit):
        return Translation(net.complete(whole, about.get("image_size") if same else None), ())
    if not same:
        return Translation(whole, ())  # `_fill` says what differs
    described = {**net.described, **about}
    other = tuple(head for head, key in HEADS.items() if described[key] != net.described[key])
    sources = {}
    for name in net.state_dict():
        source = name if name in whole else f"layers.{name.partition('.')[2]}"
        if source in whole and not name.startswith(other):
            sources[name] = source
    return renamed(whole, sources, other, other)


def _fill(
    net: Network, path: Path, state: dict[str, Tensor], may_stay: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Check names and shapes, then load; `may_stay`: prefixes of names that may be missing.

    Returns:
        Names of the network's tensors that are not in the file.
    """
    own = net.state_dict()
    left_over = sorted(state.keys() - own.keys())
    if left_over:
        raise InputError(f"{path}: tensor {left_over[0]} has no place in this network; {SAME}")
    kept = sorted(own.keys() - state.keys())
    for name in kept:
        # Files of older PyTorch versions lack the counters of batch norm.
        if not name.startswith(may_stay) and not name.endswith("num_batches_tracked"):
            raise InputError(f"{path}: tensor {name} is missing; {SAME}")
    for name, value in state.items():
        if own[name].shape != value.shape:
            raise InputError(
                f"{path}: tensor {name} is {tuple(value.shape)}, "
                f"the network needs {tuple(own[name].shape)}; {SAME}"
            )
        if not bool(value.isfinite().all()):
            raise InputError(
                f"{path}: tensor {name} has values that are not numbers (NaN or infinite); use "
                "weights from before that happened, or train again"
            )
    net.load_state_dict({**own, **state})
    return tuple(kept)
