"""The processes of one training: which one this is, and what they exchange.

Without `visir.training.processes.joined` there is one process, and every function here returns at
once. The exchange is PyTorch's `torch.distributed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from visir.core.types import InputError

T = TypeVar("T")
_this: tuple[int, int] = (0, 1)


class LostError(InputError):
    """Another process of the training has ended."""


def rank() -> int:
    """Number of this process, from 0."""
    return _this[0]


def count() -> int:
    """Number of processes of this training."""
    return _this[1]


def named() -> str:
    """This process, for messages, if there are others: "process 2 of 4: "."""
    return f"process {rank() + 1} of {count()}: " if count() > 1 else ""


@contextmanager
def numbered(number: int, of: int) -> Iterator[None]:
    """Within it this is process `number` of so many; `torch.distributed` is initialised."""
    global _this
    before, _this = _this, (number, of)
    try:
        yield
    finally:
        _this = before


def gathered(own: Tensor, sizes: Sequence[int]) -> Tensor:
    """The rows of all processes, in the order of the processes; without gradient.

    Args:
        own: (sizes[rank], ...) of this process.
        sizes: number of rows of every process.

    Raises:
        LostError: another process has ended.
    """
    if count() == 1:
        return own
    from torch import distributed

    padded = own.new_zeros(max(sizes), *own.shape[1:])
    padded[: len(own)] = own.detach()
    parts = [torch.empty_like(padded) for _ in sizes]
    with _losing():
        distributed.all_gather([_plain(part) for part in parts], _plain(padded))
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def add_up(values: Tensor) -> None:
    """Replace `values` by their sum over all processes, the same bits in each.

    Raises:
        LostError: another process has ended.
    """
    if count() > 1:
        from torch import distributed

        with _losing():
            distributed.all_reduce(values)


def copy_first(values: Sequence[Tensor]) -> None:
    """Give `values` the content they have in process 0.

    Raises:
        LostError: another process has ended.
    """
    if count() > 1:
        from torch import distributed

        with _losing():
            for value in values:
                distributed.broadcast(value, 0)


def told(value: T) -> T:
    """What process 0 calls this with; all wait for it.

    Raises:
        LostError: another process has ended.
    """
    if count() == 1:
        return value
    from torch import distributed

    found = [value if rank() == 0 else None]
    with _losing():
        distributed.broadcast_object_list(found, 0, device=torch.device("cpu"))
    return found[0]  # type: ignore[return-value]


def of_all(value: T) -> list[T]:
    """What all processes call this with, in the order of the processes.

    Raises:
        LostError: another process has ended.
    """
    if count() == 1:
        return [value]
    from torch import distributed

    found: list[T] = [value] * count()
    with _losing():
        distributed.all_gather_object(found, value)
    return found


def _plain(values: Tensor) -> Tensor:
    """The same bytes in a type that every backend can send."""
    if values.dtype is torch.bfloat16:
        return values.view(torch.int16)
    return values.view(torch.uint8) if values.dtype is torch.bool else values


@contextmanager
def _losing() -> Iterator[None]:
    """Turn an error of the exchange into one sentence."""
    try:
        yield
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise LostError(
            f"process {rank() + 1} of {count()} waited for another process, which has ended "
            f"({first[:200]}); what was saved is kept: continue with --resume"
        ) from error
