"""Runs jobs on several devices, each job in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from visir.bench.jobs import Job
from visir.bench.store import Store
from visir.core.device import resolve_device
from visir.core.types import InputError

_GRACE = 5.0  # seconds that a process has to end before it is killed


class Process(Protocol):
    """A job that runs."""

    def poll(self) -> int | None:
        """Its exit code, or None while it runs."""

    def stop(self) -> None:
        """End it, and wait until it has ended."""


Launch = Callable[[Job, str], Process]
"""Starts a job on a device."""


@dataclass
class Running:
    """A job that runs: where, since when (seconds of the clock), and its process."""

    job: Job
    device: str
    began: float
    process: Process


@dataclass
class Outcome:
    """What became of the jobs.

    done: keys of finished ones, those of earlier runs too; failed: keys of those that ended with an
    error; left: keys of those not begun, because the time was over or what they need failed;
    out_of_time: whether the time was over.
    """

    done: set[str]
    failed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    out_of_time: bool = False


class Watcher(Protocol):
    """What is told of a run."""

    def started(self, running: Running) -> None:
        """A job has started."""

    def finished(self, running: Running, succeeded: bool) -> None:
        """A job has ended."""

    def waiting(self, running: Sequence[Running]) -> None:
        """Called between looks at the processes."""


def run_jobs(
    jobs: Sequence[Job],
    done: set[str],
    devices: Sequence[str],
    launch: Launch,
    watcher: Watcher,
    minutes: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    pause: float = 0.1,
) -> Outcome:
    """Run all jobs that are not done, in their order, as soon as a device is free.

    Args:
        jobs: each after those it needs.
        done: keys of finished jobs.
        devices: one entry for each job that may run at a time; a device may be named twice.
        launch: starts a job.
        watcher: what is told of every start and end.
        minutes: after which no job is started any more; None for no limit.
        clock: seconds.
        pause: seconds between two looks at the processes.

    Returns:
        What became of the jobs. If this is left by an exception, all processes have been ended.
    """
    outcome, began = Outcome(set(done)), clock()
    waiting = [job for job in jobs if job.key not in done]
    running: list[Running] = []
    try:
        while True:
            over = minutes is not None and clock() - began >= 60 * minutes
            free = _free(devices, running)
            ready = [job for job in waiting if outcome.done.issuperset(job.needs)]
            if ready and free and not over:
                one = Running(ready[0], free[0], clock(), launch(ready[0], free[0]))
                waiting.remove(one.job)
                running.append(one)
                watcher.started(one)
            elif running:
                watcher.waiting(running)
                time.sleep(pause)
                _reap(running, outcome, watcher)
            else:
                outcome.left = [job.key for job in waiting]
                outcome.out_of_time = bool(ready) and over
                return outcome
    finally:
        for one in running:
            one.process.stop()


def _free(devices: Sequence[str], running: Sequence[Running]) -> list[str]:
    free = list(devices)
    for one in running:
        free.remove(one.device)
    return free


def _reap(running: list[Running], outcome: Outcome, watcher: Watcher) -> None:
    """Take the processes that have ended out of `running`."""
    for one in [*running]:
        code = one.process.poll()
        if code is None:
            continue
        running.remove(one)
        if code == 0:
            outcome.done.add(one.job.key)
        else:
            outcome.failed.append(one.job.key)
        watcher.finished(one, code == 0)


class _Child:
    """A process that leads a group of its own, so that Ctrl-C reaches the parent only."""

    def __init__(
        self, words: Sequence[str], log: Path, environment: Mapping[str, str], lock: int
    ) -> None:
        with log.open("ab") as file:
            self.child = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                pass_fds=(lock,),
            )

    def poll(self) -> int | None:
        """As `Process.poll`."""
        return self.child.poll()

    def stop(self) -> None:
        """As `Process.stop`: what is on disk is whole at any moment."""
        for sent in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.child.pid, sent)
            with suppress(subprocess.TimeoutExpired):
                self.child.wait(_GRACE)
                return


def in_processes(store: Store, devices: Sequence[str], lock: int) -> Launch:
    """What starts a job in a process of its own.

    Args:
        store: the results folder.
        devices: all that are used; CPU jobs share the cores.
        lock: descriptor of the folder's lock, which the processes inherit.
    """
    on_cpu = sum(device == "cpu" for device in devices)
    threads = max(1, (os.cpu_count() or 1) // max(1, on_cpu))
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ} if on_cpu > 1 else {**os.environ}

    def launch(job: Job, device: str) -> Process:
        words = [sys.executable, "-m", "visir.bench.work", str(store.out), job.key, device]
        return _Child(words, store.log(job.key), environment, lock)

    return launch


def chosen_devices(text: str) -> list[str]:
    """The devices of `--devices`: all visible GPUs, or the CPU, for "auto".

    Raises:
        InputError: a device is unknown or missing.
    """
    import torch

    if text == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [f"cuda:{number}" for number in range(count)] or ["cpu"]
    found = []
    for name in text.split(","):
        device = resolve_device(name.strip() or "?")
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise InputError(
                f"devices: {name.strip()} is not there; this machine has "
                f"{torch.cuda.device_count()} GPUs, numbered from 0"
            )
        found.append(str(device))
    return found
