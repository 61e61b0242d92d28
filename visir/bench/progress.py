"""What a run of a grid says on standard error, and how long it has yet to go."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visir.bench.jobs import Job
from visir.bench.schedule import Running
from visir.bench.store import Store
from visir.core.progress import say
from visir.core.run import Run
from visir.core.types import InputError

_EVERY = 60.0  # seconds between two lines while nothing starts or ends


class Estimate:
    """Minutes of jobs, from finished ones of the same arm, whatever their data set and seed."""

    def __init__(self, jobs: Sequence[Job], results: Mapping[str, Mapping[str, Any]]) -> None:
        self._taken: dict[tuple[str, str], list[float]] = {}
        for job in jobs:
            if job.key in results:
                self.add(job, float(results[job.key]["minutes"]))

    def add(self, job: Job, minutes: float) -> None:
        """Learn from a finished job."""
        self._taken.setdefault((job.kind, job.name), []).append(minutes)

    def of(self, job: Job) -> float | None:
        """The mean of the same arm's jobs; else that of all arms; None before the first."""
        own = self._taken.get((job.kind, job.name))
        if own is None:
            others = [taken for (kind, _), taken in self._taken.items() if kind == job.kind]
            own = [minutes for taken in others for minutes in taken]
        return sum(own) / len(own) if own else None

    def left(
        self, waiting: Sequence[Job], running: Mapping[Job, float], devices: int
    ) -> float | None:
        """Minutes until all is done, if the devices share the work evenly.

        Args:
            waiting: jobs that have not begun.
            running: minutes that running jobs have taken so far.
            devices: how many jobs run at a time.

        Returns:
            Minutes; None if a job's own time cannot be estimated yet.
        """
        times = [self.of(job) for job in (*waiting, *running)]
        known = [minutes for minutes in times if minutes is not None]
        if len(known) < len(times):
            return None
        passed = sum(min(minutes, self.of(job) or 0.0) for job, minutes in running.items())
        return max(0.0, sum(known) - passed) / max(1, devices)


class Lines:
    """A line at every start and end, and one a minute in between; also on a pipe.

    Args:
        store: the results folder.
        jobs: all jobs.
        results: of the finished ones, by key.
        devices: how many jobs run at a time.
        clock: seconds.
    """

    def __init__(
        self,
        store: Store,
        jobs: Sequence[Job],
        results: Mapping[str, Mapping[str, Any]],
        devices: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.jobs, self.devices, self.clock = store, jobs, devices, clock
        self.estimate = Estimate(jobs, results)
        self.over = set(results)
        self.running: dict[str, Running] = {}
        self.last = clock()

    def started(self, running: Running) -> None:
        """As `Watcher.started`."""
        self.running[running.job.key] = running
        self._say(f"{running.job.title}: started on {running.device}")

    def finished(self, running: Running, succeeded: bool) -> None:
        """As `Watcher.finished`."""
        job, minutes = running.job, (self.clock() - running.began) / 60
        del self.running[job.key]
        if succeeded:
            self.over.add(job.key)
            self.estimate.add(job, minutes)
        self._say(f"{job.title}: " + (f"done in {spelt(minutes)}" if succeeded else
                                      f"failed: {last_line(self.store, job.key)}"))  # fmt: skip

    def waiting(self, running: Sequence[Running]) -> None:
        """As `Watcher.waiting`."""
        if self.clock() - self.last < _EVERY:
            return
        self._say(", ".join(f"{one.job.title}: {self._at(one)}" for one in running))

    def _at(self, running: Running) -> str:
        """How far a job is."""
        try:
            lines = Run(self.store.folder(running.job.key)).read_metrics()
        except InputError:  # half a line is being written
            lines = []
        epochs = sum(line["kind"] == "epoch" for line in lines)
        passed = spelt((self.clock() - running.began) / 60)
        return f"{epochs} epochs done, running for {passed}" if epochs else f"running for {passed}"

    def _say(self, text: str) -> None:
        self.last = self.clock()
        busy = {one.job: (self.last - one.began) / 60 for one in self.running.values()}
        waiting = [job for job in self.jobs if job.key not in self.over and job not in busy]
        left = self.estimate.left(waiting, busy, self.devices)
        rest = "" if left is None else f", about {spelt(left)} left"
        line = f"[{len(self.over)} of {len(self.jobs)} done{rest}] {text}"
        say(line)
        sys.stderr.flush()


def spelt(minutes: float) -> str:
    """A duration in words."""
    if minutes < 1:
        return f"{60 * minutes:.0f} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def last_line(store: Store, key: str) -> str:
    """The last line that a job said."""
    path = store.log(key)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return f"{said[-1] if said else 'it said nothing'} ({path})"
