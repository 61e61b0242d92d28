"""Read tensors from pickled checkpoints without running any code in the file.

Research code saves whole pickles: the weights together with settings, meters and classes of modules
that no longer exist. This reader rebuilds tensors and plain containers. Everything else in the file
becomes an inert stub: it is not imported and cannot run.
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
_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Stub:
    """Stands for an unknown class in a file: accepts any call and does nothing."""

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
        """All stubs are the same key."""
        return 0


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """A rebuilder of tensors, or a stub; nothing is imported."""
        return _ALLOWED.get((module, name), Stub)


def _load(file: IO[bytes], **settings: Any) -> Any:  # noqa: ANN401
    return _Unpickler(file, **settings).load()


# torch.load uses this as its pickle module; it handles its storages itself.
_READER = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="pickle")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a PyTorch checkpoint, by name.

    The state dict is the file itself, or its entry "state_dict", "model", "net" or "teacher" (as
    DINO saves it). The prefixes "module." and "backbone." are removed; if any name begins with
    "backbone.", only those tensors are returned.

    Raises:
        InputError: the file cannot be read, or holds no named tensors.
    """
    found = _unpickled(path)
    for _ in _WRAPPERS:
        if isinstance(found, dict):
            found = _wrapped(found)
    named = {str(name): value for name, value in found.items()} if isinstance(found, dict) else {}
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    if any(name.startswith("backbone.") for name in tensors):
        tensors = {
            name.removeprefix("backbone."): value
            for name, value in tensors.items()
            if name.startswith("backbone.")
        }
    if not tensors:
        raise InputError(f"{path}: holds no state dict; give a .pth file with named tensors")
    return tensors


def _wrapped(found: dict[Any, Any]) -> dict[Any, Any]:
    """The entry of a dictionary under one of the usual names; the dictionary itself if none."""
    inside = (found[name] for name in _WRAPPERS if isinstance(found.get(name), dict))
    return next(inside, found)


def _unpickled(path: Path) -> object:
    try:
        if _is_program(path):
            raise InputError(
                f"{path}: is a TorchScript program; visir never runs code in a file. Give its "
                "state dict"
            )
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_READER)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give a run folder or a weights "
            "file"
        ) from error
    except InputError:
        raise
    except Exception as error:  # torch raises many classes for damaged files
        raise InputError(
            f"{path}: damaged, or not a PyTorch checkpoint; give a .safetensors file of visir, "
            "or a .pth file with a state dict"
        ) from error


def _is_program(path: Path) -> bool:
    """Whether an archive is a program.

    Raises:
        InputError: it declares more bytes than it has; PyTorch's own archives are not compressed.
        zipfile.BadZipFile: a file in it does not have its checksum.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        declared = sum(entry.file_size for entry in archive.infolist())
        there = path.stat().st_size
        if declared > there:
            raise InputError(
                f"{path}: declares {declared} bytes and has {there}; give a checkpoint as PyTorch "
                "writes it, which is not compressed"
            )
        if any(name.endswith("constants.pkl") for name in archive.namelist()):
            return True
        _require_checksums(archive)
    return False


def _require_checksums(archive: zipfile.ZipFile) -> None:
    """Read an archive's files against their checksums, which PyTorch itself does not look at.

    Raises:
        zipfile.BadZipFile: one is wrong.
    """
    for entry in archive.infolist():
        if entry.CRC:  # PyTorch can be told to write none
            with archive.open(entry) as file:
                while file.read(1 << 20):
                    pass
