"""A device that does not exist, to find what would fail or wait on a GPU.

Its tensors hold real values, which the CPU computes, so that a whole training runs on it. As CUDA
does, it refuses operations on tensors of two devices. It also lists every place at which the
program would wait for the device: PyTorch calls the device "meta", of which it knows no kernels
and needs none.
"""

from __future__ import annotations

import sys
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")
CPU = torch.device("cpu")
VISIR = str(Path(__file__).parents[2] / "visir")
# What makes a size or a number of what is on the device, so that CUDA's kernels wait for it.
WAITING = {
    "_local_scalar_dense", "_unique", "_unique2", "bincount", "coalesce", "_coalesce", "equal",
    "is_nonzero", "masked_select", "nonzero", "unique_consecutive", "unique_dim",
}  # fmt: skip
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Wait(NamedTuple):
    """One wait for the device: what for, and where in visir, as "file:function"."""

    what: str
    place: str


class DeviceError(RuntimeError):
    """Tensors of two devices met in one operation."""


class Pretended(torch.Tensor):
    """A tensor of the device; `inner` holds its values, on the CPU."""

    @staticmethod
    def __new__(cls, inner, requires_grad=False):
        dense = inner.layout is torch.strided
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride() if dense else None,
            storage_offset=inner.storage_offset() if dense else None,
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=requires_grad,
        )

    def __init__(self, inner, requires_grad=False):
        self.inner = inner

    def __repr__(self):
        return f"Pretended({self.inner})"

    def __deepcopy__(self, memo):
        made = Pretended(self.inner.clone(), self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    def __reduce_ex__(self, protocol):
        return self.inner.__reduce_ex__(protocol)

    def tolist(self):
        return self.cpu().tolist()

    @property
    def data(self):
        return self.detach()

    @data.setter
    def data(self, value):
        self.inner = value.inner

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func}: outside of `pretended()`")


class _Mode(TorchDispatchMode):
    """Runs the operations of the device, and keeps the list of waits."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        given = [of for of in tree_flatten((args, kwargs))[0] if isinstance(of, torch.Tensor)]
        ours = [of for of in given if isinstance(of, Pretended)]
        device = kwargs.get("device")
        if not ours and (device is None or torch.device(device) != DEVICE):
            return func(*args, **kwargs)
        name = func._schema.name.removeprefix("aten::")
        self._watch(name, args, kwargs, given)
        if device is not None:
            kwargs["device"] = CPU
        inside = {id(of.inner): of for of in ours}
        args, kwargs = tree_map(lambda of: of.inner if isinstance(of, Pretended) else of,
                                (args, kwargs))  # fmt: skip
        found = func(*args, **kwargs)
        off = device is not None and torch.device(device) == CPU  # asked for on the CPU
        off = off or (name == "copy_" and not isinstance(given[0], Pretended))

        def outside(of):
            if off or not isinstance(of, torch.Tensor):
                return of
            return inside.get(id(of)) if id(of) in inside else Pretended(of)

        return tree_map(outside, found)

    def _watch(self, name, args, kwargs, given):
        """Refuse a mixture of devices; list a wait."""
        cpu = [of for of in given if not isinstance(of, Pretended)]
        wide = [of for of in cpu if of.dim()]
        if name in ("_to_copy", "copy_"):
            self._copied(name, args, kwargs, given)
        elif name in INDEXED:
            indices = [of for of in args[1] if of is not None]
            if any(of is one for of in wide for one in indices):
                self._wait("copy of an index to the device")
                wide = [of for of in wide if not any(of is one for one in indices)]
            masks = [of for of in indices if of.dtype in (torch.bool, torch.uint8)]
            filled = name != "index" and args[2].numel() == 1 and len(indices) == 1
            if masks and not filled:
                self._wait("index by a mask")
        elif name in WAITING:
            self._wait(name)
        elif name == "repeat_interleave" and kwargs.get("output_size") is None:
            self._wait("repeat_interleave without output_size")
        if wide and name not in ("_to_copy", "copy_"):
            shapes = [tuple(of.shape) for of in wide]
            raise DeviceError(f"{name}: tensors of the CPU {shapes} and of the device, {place()}")

    def _copied(self, name, args, kwargs, given):
        if name == "copy_":
            to = DEVICE if isinstance(args[0], Pretended) else CPU
            source, free = args[1], args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        else:
            to, source = torch.device(kwargs.get("device") or DEVICE), args[0]
            free = kwargs.get("non_blocking", False)
        there = isinstance(source, Pretended)
        if there and to == CPU:
            self._wait("copy to the host")
        if not there and to == DEVICE and not free:
            self._wait("copy to the device that waits")

    def _wait(self, what):
        self.waits.append(Wait(what, place()))


def place():
    """The innermost function of visir that is running."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(VISIR):
        frame = frame.f_back
    if frame is None:
        return "outside of visir"
    path = Path(frame.f_code.co_filename).relative_to(VISIR).as_posix()
    return f"{path}:{frame.f_code.co_name}"


def _autocast(kind):
    """`torch.autocast`, which has no rules for this device: those of the CPU."""

    def autocast(device_type, *args, **kwargs):
        return kind("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    return autocast


def _tensor(make):
    """`torch.tensor`, which keeps no values for this device: made on the CPU and copied."""

    def tensor(data, *, device=None, **kwargs):
        made = make(data, **kwargs)
        return made if device is None else made.to(device)

    return tensor


def _sparse_mm(multiply, waits):
    """`torch.sparse.mm`, which looks at the layout: a tensor of this device hides that."""

    def mm(matrix, other):
        if not isinstance(matrix, Pretended):
            return multiply(matrix, other)
        if not matrix.inner.is_coalesced():
            waits.append(Wait("sort of a sparse matrix", place()))
        return Pretended(multiply(matrix.inner, other.inner))

    return mm


@contextmanager
def pretended():
    """Within it the device exists; yields the list of waits, which grows."""
    waits = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), _Mode(waits):
        warnings.filterwarnings("ignore", ".*copying from a non-meta parameter")  # it is copied
        patch.setattr(torch, "autocast", _autocast(torch.autocast))
        patch.setattr(torch, "tensor", _tensor(torch.tensor))
        patch.setattr(torch.sparse, "mm", _sparse_mm(torch.sparse.mm, waits))
        yield waits


def values(of):
    """The values of tensors of the device, or of the CPU."""
    return of.inner if isinstance(of, Pretended) else of
