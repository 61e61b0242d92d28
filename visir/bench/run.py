"""Run a grid: check it, do what is missing, and collect the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from visir.bench.build import this_build
from visir.bench.grid import Grid, read_grid
from visir.bench.jobs import Job, jobs_of
from visir.bench.progress import Lines, last_line
from visir.bench.schedule import Launch, Outcome, chosen_devices, in_processes, run_jobs
from visir.bench.store import Store
from visir.core.progress import say
from visir.core.types import InputError


@dataclass(frozen=True)
class Listed:
    """The jobs of a grid, and which are done."""

    jobs: tuple[Job, ...]
    done: frozenset[str]
    begun: frozenset[str]

    def __str__(self) -> str:
        lines = [f"{self._state(job):<6}{job.key}{_after(job)}" for job in self.jobs]
        return "\n".join([*lines, f"{len(self.done)} of {len(self.jobs)} jobs are done"])

    def _state(self, job: Job) -> str:
        return "done" if job.key in self.done else "begun" if job.key in self.begun else "-"


@dataclass(frozen=True)
class Ran:
    """What a run of a grid has done, and what is left."""

    store: Store
    jobs: tuple[Job, ...]
    outcome: Outcome

    @property
    def exit_code(self) -> int:
        """1 if a job failed."""
        return 1 if self.outcome.failed else 0

    def __str__(self) -> str:
        lines = [f"failed: {key}: {last_line(self.store, key)}" for key in self.outcome.failed]
        lines.append(f"{self.store.out}: {len(self.outcome.done)} of {len(self.jobs)} jobs done")
        if self.outcome.out_of_time:
            lines.append("the time is over; run the same command again to continue")
        elif self.outcome.failed:
            skipped = len(self.outcome.left)
            also = f" ({skipped} that need them were not begun)" if skipped else ""
            lines.append(f"run the same command again to repeat the failed jobs{also}")
        else:
            lines.append(f"next: visir bench render {self.store.out}")
        return "\n".join(lines)


def run(
    source: str,
    out: Path,
    *,
    devices: str = "auto",
    minutes: float | None = None,
    allow_other_build: bool = False,
    launch: Launch | None = None,
) -> Ran:
    """Do all jobs of a grid that are not done yet.

    Args:
        source: a grid's file, or the name of a profile.
        out: the results folder.
        devices: separated by commas, one for each job at a time; "auto" for all visible GPUs, or
            the CPU.
        minutes: after which no further job is started.
        allow_other_build: accept results of another build in the folder.
        launch: starts a job; in a process of its own if None.

    Returns:
        What was done.

    Raises:
        InputError: the grid, the folder or a device cannot be used; nothing has been started then.
    """
    if minutes is not None and not minutes > 0:
        raise InputError(f"minutes: must be above 0, got {minutes:g}")
    grid, store = read_grid(source), Store(out)
    jobs = jobs_of(grid)
    places = chosen_devices(devices)
    build = this_build()
    with _checked(store, grid, jobs, allow_other_build).locked() as lock:
        store.claim(grid)
        done = store.done(jobs)
        for job in jobs:
            if job.key not in done:
                store.prepare(job, build)
        _warn_without_control(grid)
        watcher = Lines(store, jobs, done, len(places))
        begin = launch or in_processes(store, places, lock.fileno())
        try:
            outcome = run_jobs(jobs, set(done), places, begin, watcher, minutes)
        finally:
            store.collect(grid, jobs, build)
    return Ran(store, tuple(jobs), outcome)


def listed(source: str, out: Path, *, allow_other_build: bool = False) -> Listed:
    """The jobs of a grid in their order, and which are done; nothing is written.

    Args:
        source: a grid's file, or the name of a profile.
        out: the results folder, which need not exist.
        allow_other_build: accept results of another build in the folder.

    Raises:
        InputError: the grid or the folder cannot be used.
    """
    grid = read_grid(source)
    jobs = jobs_of(grid)
    store = _checked(Store(out), grid, jobs, allow_other_build)
    done = store.done(jobs)
    begun = {job.key for job in jobs if store.log(job.key).exists() and job.key not in done}
    return Listed(tuple(jobs), frozenset(done), frozenset(begun))


def _checked(store: Store, grid: Grid, jobs: Sequence[Job], other: bool) -> Store:
    store.require_fits(grid, jobs, this_build(), other)
    return store


def _warn_without_control(grid: Grid) -> None:
    """A table without differences is rarely meant."""
    if grid.table.control is None and len(grid.arms) > 1:
        say(f"warning: {grid.path}: table names no control, so no differences are shown")


def _after(job: Job) -> str:
    """The training it starts from."""
    before = [key for key in job.needs if not key.startswith("data/")]
    return f"  after {', '.join(before)}" if before else ""
