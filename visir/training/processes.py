"""Joining the processes of one training, and what has to be alike in them.

Every process plans the same epochs. A batch is divided over them, and the outputs of the network
are brought together, so that losses, memories and pseudo-labels are computed on the whole batch in
each. Process 0 alone writes.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch

from visir.core import ranks
from visir.core.device import resolve_device
from visir.core.ranks import LostError
from visir.core.types import ByteArray, InputError

MEET = timedelta(minutes=5)  # until all processes have come
WAIT = timedelta(hours=24)  # for another process, which may be scoring or decoding
_turn = itertools.count()


def is_one_of_many() -> bool:
    """Whether torchrun, or `visir train --devices`, started this process with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_first() -> bool:
    """Whether this process is the one that writes; also before and after the training."""
    return int(os.environ.get("RANK", "0")) == 0 or not is_one_of_many()


@contextmanager
def joined(device: str) -> Iterator[torch.device]:
    """Meet the other processes, if there are any; this process's device.

    The first process with an `InputError` says it; the others end without a word, with exit code 2.

    Args:
        device: "auto", "cpu", "cuda" or, for a single process, "cuda:<n>".

    Raises:
        InputError: the device is missing, or the processes did not meet.
    """
    if not is_one_of_many():
        yield resolve_device(device)
        return
    from torch import distributed

    place = own_device(device)
    store, number, count = _met()
    backend = "gloo" if place.type == "cpu" else "cpu:gloo,cuda:nccl"
    try:
        with warnings.catch_warnings(), ranks.numbered(number, count), _lost_while_meeting():
            if number:
                warnings.simplefilter("ignore")  # process 0 says it
            distributed.init_process_group(
                backend, store=store, rank=number, world_size=count, timeout=WAIT
            )
            yield place
    except InputError:
        if not _is_first(store):
            raise SystemExit(2) from None
        raise
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def own_device(device: str) -> torch.device:
    """The device of this process: the GPU with its number on this machine, or the CPU.

    Raises:
        InputError: it has no such GPU, or one is named.
    """
    if ":" in device:
        raise InputError(
            f"device {device!r}: each process has a device of its own; give --device cuda or cpu"
        )
    place, number = resolve_device(device), int(os.environ.get("LOCAL_RANK", "0"))
    if place.type == "cpu":
        return place
    require_devices(number + 1, torch.cuda.device_count())
    place = torch.device("cuda", number)
    torch.cuda.set_device(place)
    return place


def require_devices(asked: int, found: int) -> None:
    """Refuse more GPUs than there are.

    Raises:
        InputError: there are fewer.
    """
    if asked > found:
        raise InputError(
            f"{asked} GPUs are asked for, and this machine has {found}; start at most {found} "
            "processes on it (--devices, or --nproc-per-node of torchrun)"
        )


def _met() -> tuple[Any, int, int]:
    """The store that the processes share, the number of this one, and their count."""
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    try:
        store, number, count = next(rendezvous("env://", timeout=MEET))
    except (ValueError, RuntimeError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        if "EADDRINUSE" in str(error) or "in use" in str(error):
            raise InputError(
                f"port {where} is in use; set MASTER_PORT (torchrun: --master-port) to another one"
            ) from error
        reason = str(error).splitlines()[0][:200]
        raise InputError(
            f"the processes did not meet at {where} within {MEET.seconds // 60} minutes "
            f"({reason}); start all of them, with the same MASTER_ADDR, MASTER_PORT and WORLD_SIZE"
        ) from error
    restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return PrefixStore(f"visir/{restarts}/{next(_turn)}", store), number, count


@contextmanager
def _lost_while_meeting() -> Iterator[None]:
    """Turn an error of the network outside an exchange into one sentence."""
    from torch import distributed

    try:
        yield
    except distributed.DistError as error:
        raise LostError(
            f"the connection to the other processes was lost ({str(error).splitlines()[0][:200]}); "
            "what was saved is kept: continue with --resume"
        ) from error


def _is_first(store: Any) -> bool:  # noqa: ANN401 - torch has no types for it
    """Whether no other process has reported an error; so it also seems if the store is gone."""
    try:
        return int(store.add("said", 1)) == 1
    except RuntimeError:
        return True


def require_alike(own: Mapping[str, object], fix: str) -> None:
    """Refuse processes that differ from process 0.

    Args:
        own: what is compared, by name.
        fix: the end of the message.

    Raises:
        InputError: the first difference.
    """
    found = ranks.of_all((socket.gethostname(), {name: str(value) for name, value in own.items()}))
    for number, (host, theirs) in enumerate(found):
        for name, value in found[0][1].items():
            if theirs.get(name) != value:
                raise InputError(
                    f"process {number + 1} of {len(found)} (on {host}) has {name} "
                    f"{theirs.get(name)}, but process 1 has {value}; {fix}"
                )


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """Identifies weights by their bytes."""
    found = hashlib.sha256()
    for name, value in state.items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def told_pixels(pixels: ByteArray | None) -> ByteArray:
    """The training images that process 0 has decoded; all map the same file.

    Raises:
        InputError: this process does not see the file.
    """
    about = None
    if isinstance(pixels, np.memmap):
        about = (str(pixels.filename), pixels.shape)
    about = ranks.told(about)
    if pixels is not None:
        return pixels
    assert about is not None
    path, shape = about
    try:
        return np.memmap(path, np.uint8, "r", shape=shape)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: process {ranks.rank() + 1} of {ranks.count()} (on {socket.gethostname()}) "
            f"cannot read it ({error}); put the run folder on a disk that all machines have under "
            "the same path"
        ) from error
