"""The jobs of a grid: what each one does, exactly, and which ones it needs done before."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import visir
from visir.bench.grid import Grid, Training
from visir.bench.usable import Usable, require_usable
from visir.core.config import to_mapping
from visir.core.run import Run, sha256
from visir.methods import METHODS
from visir.nets.shipped import start_file

Kind = Literal["data", "starts", "arms"]


@dataclass(frozen=True, eq=False)  # equal if it is the same object, so that it can be a key
class Job:
    """One data set to render, or one training to do and to score.

    kind: what it is, and the first folder of its key; data: key of its data set; name: key of its
    start or arm, empty for a data set; seed: of the people, or of the training; needs: keys of jobs
    that come before; spec: everything that determines its result, as plain values.
    """

    kind: Kind
    data: str
    name: str
    seed: int
    needs: tuple[str, ...]
    spec: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Its folder below the results, such as arms/people/adca/0."""
        return "/".join(filter(None, (self.kind, self.data, self.name, str(self.seed))))

    @property
    def title(self) -> str:
        """What it is, for display."""
        return f"{self.name or 'data set'} ({self.data}, seed {self.seed})"

    def as_json(self) -> dict[str, Any]:
        """What identifies it, as plain values."""
        return {"kind": self.kind, "data": self.data, "name": self.name, "seed": self.seed}


def jobs_of(grid: Grid) -> list[Job]:
    """All jobs, each after those it needs, seed by seed.

    Raises:
        InputError: something in the grid cannot be used; everything is checked before any job.
    """
    usable = require_usable(grid)
    found: dict[str, Job] = {}
    for seed in grid.seeds:
        for data in grid.scored:
            for name in grid.trainings:
                _add_training(grid, data, name, seed, usable, found)
    return list(found.values())


def _add_data(grid: Grid, data: str, seed: int, found: dict[str, Job]) -> str:
    """Add a data set, unless it is there already; return its key.

    Its own seed, if it names one, gives all trainings the same people.
    """
    arguments = {**grid.data[data]}
    own = int(arguments.setdefault("seed", seed))
    job = Job("data", data, "", own, (), {"synth": arguments})
    found.setdefault(job.key, job)
    return job.key


def _add_training(
    grid: Grid,
    data: str,
    name: str,
    seed: int,
    usable: Usable,
    found: dict[str, Job],
) -> str:
    """Add a training after its start, unless it is there already; return its key."""
    key = grid.key_of(data, name, seed)
    if key in found:
        return key
    start, training = grid.start_of(name), grid.trainings[name]
    people = _add_data(grid, training.data or data, seed, found)
    needs: tuple[str, ...] = (people,)
    network = getattr(usable.settings.get(name), "network", "")
    begin = _file(start, network)
    if start in grid.trainings:
        before = _add_training(grid, data, str(start), seed, usable, found)
        needs, begin = (people, before), {"job": before}
    spec = {
        "start": begin,
        **_declared(training),
        "resolved": to_mapping(usable.settings[name]) if training.method else {},
        "data": people,
        "seed": seed,
        "protocols": [] if training.data else usable.protocols[data],
    }
    found[key] = Job(grid.kind_of(name), training.data or data, name, seed, needs, spec)
    return key


def _declared(training: Training) -> dict[str, Any]:
    """What the grid says of a training, except for its label and its start."""
    declared = {
        "method": training.method,
        "preset": training.preset,
        "settings": dict(training.settings),
        "command": training.command,
    }
    code = _code_of(training.method) if training.method else None
    return declared | ({"code": code} if code else {})


def _code_of(method: str) -> str | None:
    """12 digits of the SHA-256 of a method's file, if it is not visir's: no build tells of that."""
    found = METHODS.find(method)
    path = inspect.getsourcefile(found)
    outside = found.__module__.partition(".")[0] != visir.__name__
    return sha256(Path(path))[:12] if outside and path else None


def _file(start: str | None, network: str) -> dict[str, str] | None:
    """A start that is no job: its path or name, and its content's hash if it is a file."""
    if start is None:
        return None
    path = start_file(start, network) or Path(start)
    weights = Run(path).weights if path.is_dir() else path
    return {"file": start} | ({"sha256": sha256(weights)} if weights.is_file() else {})
