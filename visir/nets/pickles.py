"""Other people's checkpoints: tensors by name, and nothing in the file runs.

Research code saves whole pickles: with the weights come settings, meters and classes of modules
that are long gone. The reader here rebuilds tensors and plain containers. Everything else a file
names becomes an inert stub, so neither is any of it imported, nor can it do anything.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch
from torch import Tensor

from visir.core.types import InputError

_WRAPPERS = ("state_dict", "model", "net", "teacher")
_PREFIXES = ("module.", "backbone.")
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Stub:
    """What a file names and visir does not know: takes everything, does nothing."""

    dump_patches = False  # torch asks classes of pickled modules

    def __new__(cls, *_: object, **__: object) -> Stub:
        """Take any arguments."""
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, _: object) -> None:
        """Take an item of a list."""

    def extend(self, _: object) -> None:
        """Take items of a list."""

    def add(self, _: object) -> None:
        """Take an item of a set."""

    def __hash__(self) -> int:
        """Any two are the same key."""
        return 0


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """A rebuilder of tensors, or a stub; nothing is imported."""
        return _ALLOWED.get((module, name), Stub)


def _load(file: IO[bytes], **settings: Any) -> Any:  # noqa: ANN401
    return _Unpickler(file, **settings).load()


# What torch.load takes for the pickle module; it knows its own storages by itself.
_READER = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="pickle")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch, by name.

    A state dict is found at the top level, or under "state_dict", "model", "net" or, as
    DINO saves it, "teacher". The prefixes of parallel and of wrapped networks are taken off; where
    some names begin with "backbone." only these are the network.

    Raises:
        InputError: the file cannot be read, or holds no named tensors.
    """
    found = _unpickled(path)
    for _ in _WRAPPERS:
        if isinstance(found, dict):
            found = _wrapped(found)
    named = {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    for prefix in _PREFIXES:
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()
                       if prefix == "module." or name.startswith(prefix)}  # fmt: skip
    if not tensors:
        raise InputError(f"{path}: holds no state dict; give a .pth file with named tensors")
    return tensors


def _wrapped(found: dict[Any, Any]) -> dict[Any, Any]:
    """The value of a dictionary under one of the usual names; the dictionary itself if none."""
    inside = (found[name] for name in _WRAPPERS if isinstance(found.get(name), dict))
    return next(inside, found)


def _unpickled(path: Path) -> object:
    try:
        if _is_program(path):
            raise InputError(
                f"{path}: is a TorchScript program, and code in a file is never run; give its "
                "state dict"
            )
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_READER)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give a run folder or a file of "
            "weights"
        ) from error
    except InputError:
        raise
    except Exception as error:  # torch's reader of damaged files raises many kinds
        raise InputError(
            f"{path}: damaged, or not a checkpoint of torch; give a .safetensors file of visir, "
            "or a .pth file with a state dict"
        ) from error


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("constants.pkl") for name in archive.namelist())
