"""The device of computations, and bf16 autocast."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from visir.core.types import InputError

PRECISIONS = ("auto", "bf16", "fp32")
"""Of products of networks; auto is bf16 where the device has units for it."""


def resolve_device(name: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda[:n]" into a device.

    Raises:
        InputError: the device is unknown or missing.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r} is unknown; use cpu, cuda or cuda:<number>") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name!r}: no usable GPU was found; use --device cpu")
    return device


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy values from the memory of the CPU to a device, without waiting for the device.

    A plain `.to` waits until a GPU has computed everything that was asked of it before.
    """
    if device.type == "cuda" and values.device.type == "cpu" and values.numel():
        values = values.pin_memory()  # only from such memory the copy runs beside the program
    return values.to(device, non_blocking=True)


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has computed everything that was asked of it, to take the time."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Autocast to bf16 if `precision` is "bf16", or if it is "auto" and the device supports it."""
    enabled = product_dtype(device, precision) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


def product_dtype(device: torch.device, precision: str) -> torch.dtype:
    """The dtype of products: bf16 in the cases of `autocast`, else float32.

    Raises:
        InputError: there is no such precision.
    """
    match precision:
        case "bf16":
            return torch.bfloat16
        case "fp32":
            return torch.float32
        case "auto":
            return torch.bfloat16 if multiplies_bf16(device) else torch.float32
        case _:
            raise InputError(f"precision {precision!r} is unknown; use {', '.join(PRECISIONS)}")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device has units for bf16 products, so that these are faster than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public name for it yet
    return known is not None and bool(known())


def memory_of(device: torch.device) -> int:
    """The whole memory of a device, in bytes: of a GPU, or of this machine."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
