"""Start the processes of one training on this machine, and report what ended them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Literal, NamedTuple

import torch

from visir.core.device import resolve_device
from visir.core.ranks import LostError
from visir.core.types import InputError
from visir.training.processes import is_one_of_many, require_devices

GRACE = 5.0  # seconds in which processes report, after one has ended
_HERE = "127.0.0.1"


class _Report(NamedTuple):
    """Why a process ended: a sentence, and whether it was bad input, a lost peer or a fault."""

    kind: Literal["input", "lost", "fault"]
    text: str


def launch(count: int, device: str, work: Callable[[], object]) -> None:
    """Call a function in several processes, which train together, until all have returned.

    Args:
        count: number of processes, one for each device.
        device: "auto", "cpu" or "cuda"; of a CPU each process takes an equal share of the cores.
        work: calls `visir.training.train.train`; it can be pickled.

    Raises:
        InputError: a process failed or was ended, in one sentence.
    """
    _require_fitting(count, device)
    from torch import distributed

    # Documented, but missing in the types.
    make_store = distributed.TCPStore  # type: ignore[attr-defined]
    store = make_store(_HERE, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        with _shared_cores(count):
            for number in range(count):
                ours, theirs = context.Pipe(duplex=False)
                place = (number, count, store.port)
                process = context.Process(target=_child, args=(place, theirs, work))
                process.start()
                theirs.close()
                started.append((process, ours))
        _watch(started)
    finally:
        _end([process for process, _ in started])


def _require_fitting(count: int, device: str) -> None:
    if count < 1:
        raise InputError(f"--devices {count}: give 1 or more")
    if is_one_of_many():
        raise InputError(
            f"--devices {count}: torchrun has started the processes already; leave --devices out"
        )
    if ":" in device:
        raise InputError(
            f"--devices {count} with --device {device}: each process has a device of its own; give "
            "--device cuda or cpu"
        )
    if resolve_device(device).type == "cuda":
        require_devices(count, torch.cuda.device_count())
    elif count > _cores():
        raise InputError(
            f"--devices {count}: this machine has {_cores()} cores, and each process on a CPU "
            "needs one; give a smaller number"
        )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _shared_cores(count: int) -> Iterator[None]:
    """Processes that start within it take an equal share of the cores, if nothing else is set."""
    names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
    added = [name for name in names if name not in os.environ]
    for name in added:
        os.environ[name] = str(max(_cores() // count, 1))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _watch(started: Sequence[tuple[BaseProcess, Connection]]) -> None:
    """Wait for all processes; if one fails, for the reports of all for a moment.

    Raises:
        InputError: the first reason of those that are no consequence of another.
    """
    running = {process.sentinel: process for process, _ in started}
    end = float("inf")
    while running and time.monotonic() < end:
        for sentinel in wait(list(running), timeout=0.2):
            process = running.pop(sentinel)  # type: ignore[arg-type]
            process.join()
            if process.exitcode:
                end = min(end, time.monotonic() + GRACE)
    codes = [process.exitcode for process, _ in started]
    if any(codes):
        raise InputError(_reason(codes, [_received(pipe) for _, pipe in started]))


def _received(pipe: Connection) -> _Report | None:
    try:
        return pipe.recv() if pipe.poll() else None
    except EOFError:
        return None


def _reason(codes: Sequence[int | None], reports: Sequence[_Report | None]) -> str:
    """One sentence for what ended the training."""
    count = len(codes)
    for number, (code, report) in enumerate(zip(codes, reports, strict=True), start=1):
        if report is not None and report.kind == "input":
            return report.text
        kept = "what was saved is kept: continue with --resume"
        if report is not None and report.kind == "fault":
            return f"process {number} of {count} failed ({report.text}); {kept}"
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            usual = " (usually the machine's memory was used up)" if name == "SIGKILL" else ""
            return f"process {number} of {count} was ended by {name}{usual}; {kept}"
        if code and report is None:
            return f"process {number} of {count} ended with exit code {code}; {kept}"
    return next(report.text for report in reports if report is not None)


def _end(processes: Sequence[BaseProcess]) -> None:
    """End what is still running."""
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


def _child(place: tuple[int, int, int], pipe: Connection, work: Callable[[], object]) -> None:
    """One of the processes: its place among them, then the work."""
    number, count, port = place
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ |= {
        "RANK": str(number),
        "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": _HERE,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the process that started us holds the store
    }
    try:
        with warnings.catch_warnings():
            work()
        return
    except InputError as error:
        pipe.send(_Report("lost" if isinstance(error, LostError) else "input", str(error)))
        code = 2
    except SystemExit:
        pipe.send(_Report("lost", "another process has ended"))
        code = 2
    except BaseException as error:
        traceback.print_exc()
        pipe.send(_Report("fault", f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"))
        code = 1
    sys.stderr.flush()
    os._exit(code)  # without waiting for threads that wait for other processes


def _end_with_parent() -> None:
    """Nothing may go on writing when the process that started this one is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
