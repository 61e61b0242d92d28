"""The results folder: what each job is to do, what it found, and whether both fit the grid.

OUT/grid.yaml                        the grid, as its file was
OUT/results.json                     the results of all finished trainings
OUT/data/DATA/SEED/                  a data set, in images/
OUT/starts/DATA/KEY/SEED/            run folders, each with
OUT/arms/DATA/KEY/SEED/              job.json, result.json and log.txt
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from visir.bench.build import Build
from visir.bench.grid import Grid, read_grid
from visir.bench.jobs import Job
from visir.core.lock import locked
from visir.core.run import sweep, write_json, write_text
from visir.core.types import InputError
from visir.core.untrusted import parse_json

SCHEMA = 1
OF_JOB = ("schema", "job", "spec", "build")
_OF_TRAINING = ("torch", "processor", "minutes", "epochs", "scores", "labels")
_NAME = "# name: "
_PATIENCE = 5.0  # seconds in which processes of a killed run end
Results = Mapping[tuple[str, str, int], Mapping[str, Any]]
"""The result of each training by data set, start or arm, and seed."""


@dataclass(frozen=True)
class Store:
    """The results folder of one grid."""

    out: Path

    @property
    def grid(self) -> Path:
        """The grid's file, as it was when it ran last."""
        return self.out / "grid.yaml"

    @property
    def results(self) -> Path:
        """The results of all finished trainings together."""
        return self.out / "results.json"

    @property
    def grid_name(self) -> str:
        """The grid's name, from the line that `claim` writes."""
        first = self.grid.read_text(encoding="utf-8").partition("\n")[0]
        return first.removeprefix(_NAME) if first.startswith(_NAME) else ""

    def read_grid(self) -> Grid:
        """The grid as it ran last.

        Raises:
            InputError: nothing ran in this folder, or the file is unusable.
        """
        if not self.grid.exists():
            raise InputError(
                f"{self.out}: holds no results of a grid; name the --out folder of "
                "`visir bench run`, or its results.json"
            )
        return read_grid(str(self.grid), self.grid_name)

    def folder(self, key: str) -> Path:
        """The folder of a job."""
        return self.out / key

    def job(self, key: str) -> Path:
        """What the job is to do."""
        return self.out / key / "job.json"

    def result(self, key: str) -> Path:
        """What the job found; it is written last."""
        return self.out / key / "result.json"

    def log(self, key: str) -> Path:
        """What the job said while it ran."""
        return self.out / key / "log.txt"

    def done(self, jobs: Iterable[Job]) -> dict[str, dict[str, Any]]:
        """The results of the finished ones, by key.

        Raises:
            InputError: a result is damaged.
        """
        keys = [job.key for job in jobs if self.result(job.key).exists()]
        return {key: read_result(self.result(key)) for key in keys}

    def trained(self, grid: Grid) -> Results:
        """The results of a grid's finished trainings, by data set, start or arm, and seed.

        Raises:
            InputError: a result is damaged.
        """
        places = {key: self.result(grid.key_of(*key)) for key in grid.shown}
        return {key: read_result(path) for key, path in places.items() if path.exists()}

    def require_fits(self, grid: Grid, jobs: Sequence[Job], build: Build, other: bool) -> None:
        """Refuse a folder of another grid or build.

        Args:
            grid: the grid to run.
            jobs: its jobs.
            build: the one that runs.
            other: accept results of another build.

        Raises:
            InputError: what differs, and what to do.
        """
        if self.out.exists() and not self.grid.exists() and any(self.out.iterdir()):
            raise InputError(f"{self.out}: holds other files; name a new folder with --out")
        if self.grid.exists():
            held = self.grid_name
            if held != grid.name:
                raise InputError(
                    f"{self.out}: holds results of the grid {held!r}, not of {grid.name!r}; name "
                    "another folder with --out"
                )
        for job in jobs:
            path = self.job(job.key)
            if path.exists():
                _require_same(path, job, build, other)

    def claim(self, grid: Grid) -> None:
        """Store the grid's file."""
        head = f"{_NAME}{grid.name}\n"
        write_text(self.grid, head + grid.text.removeprefix(head))
        for kind in ("data", "starts", "arms"):
            if (self.out / kind).exists():
                sweep(self.out / kind)

    def prepare(self, job: Job, build: Build) -> None:
        """Write what a job is to do."""
        about = {"schema": SCHEMA, "job": job.as_json(), "spec": dict(job.spec)}
        write_json(self.job(job.key), {**about, "build": build.as_json()})

    def collect(self, grid: Grid, jobs: Sequence[Job], build: Build) -> None:
        """Write the results of all finished trainings together."""
        trainings = [job for job in jobs if job.kind != "data"]
        done = self.done(trainings)
        builds = {json.dumps(result["build"]) for result in done.values()}
        write_json(
            self.results,
            {
                "schema": SCHEMA,
                "grid": grid.name,
                "collected_by": build.as_json(),
                "builds": [json.loads(text) for text in sorted(builds)],
                "missing": [job.key for job in trainings if job.key not in done],
                "results": list(done.values()),
            },
        )

    @contextmanager
    def locked(self) -> Iterator[IO[str]]:
        """Hold the folder; jobs inherit the file, so that it is held until the last one ended.

        Raises:
            InputError: another process runs a grid there.
        """
        fix = "wait for it, or name another folder with --out"
        with locked(self.out, "runs a grid", fix, _PATIENCE) as file:
            yield file


def read_json(
    path: Path, keys: Iterable[str], fix: str, schema: int | None = SCHEMA
) -> dict[str, Any]:
    """A JSON file of this room.

    Args:
        path: the file.
        keys: that it must hold.
        fix: the end of the message of an error.
        schema: version of the file's form; None for a file without one.

    Raises:
        InputError: it cannot be read, or lacks a key.
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {fix}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected keys and values; {fix}")
    for key in keys:
        if key not in found:
            raise InputError(f"{path}: key {key!r} is missing; {fix}")
    if schema is not None and found["schema"] != schema:
        raise InputError(
            f"{path}: schema {found['schema']!r} is not {schema}, which this build reads; {fix}"
        )
    return found


_COLLECT = "collect it anew with visir bench run"
_AGAIN = "remove the file and run the grid again: a finished training is only scored anew"


def read_result(path: Path) -> dict[str, Any]:
    """A job's result.

    Raises:
        InputError: the file is damaged.
    """
    found = read_json(path, OF_JOB, _AGAIN)
    _require_result(found, str(path), _AGAIN)
    return found


def _require_result(found: Mapping[str, Any], where: str, fix: str) -> None:
    """Refuse a damaged result."""
    if not isinstance(found["job"], dict) or "kind" not in found["job"]:
        raise InputError(f"{where}: key 'job' is damaged; {fix}")
    if found["job"]["kind"] == "data":
        return
    for key in _OF_TRAINING:
        if key not in found:
            raise InputError(f"{where}: key {key!r} is missing; {fix}")
    if not isinstance(found["scores"], dict):
        raise InputError(f"{where}: key 'scores' is damaged; {fix}")
    for protocol, scores in found["scores"].items():
        trials = scores.get("trials") if isinstance(scores, dict) else None
        if not trials or not all("mAP" in one and "queries" in one for one in trials):
            raise InputError(f"{where}: scores of {protocol!r} are damaged; {fix}")


def read_results(path: Path) -> tuple[str, Results]:
    """The name of a grid, and the results of its finished trainings.

    Args:
        path: the --out folder of `visir bench run`, or a results.json from one.

    Raises:
        InputError: nothing ran there, or the file or a result is damaged.
    """
    if not path.is_file():
        store = Store(path)
        grid = store.read_grid()
        return grid.name, store.trained(grid)
    whole = read_collected(path, ("schema", "grid", "results"))
    found = {}
    for number, result in enumerate(whole["results"], 1):
        try:
            job = result["job"]
            found[job["data"], job["name"], job["seed"]] = result
        except (KeyError, TypeError) as error:
            where = f"{path}: result {number}"
            raise InputError(f"{where}: key 'job' is damaged ({error!r}); {_COLLECT}") from None
    return str(whole["grid"]), found


def read_collected(path: Path, keys: tuple[str, ...] = ("schema", "results")) -> dict[str, Any]:
    """A results.json: `results` is the list of them, `grid` the name of their grid.

    Args:
        path: the file.
        keys: that it must have.

    Raises:
        InputError: the file or a result is damaged.
    """
    whole = read_json(path, keys, _COLLECT)
    if not isinstance(whole["results"], list):
        raise InputError(f"{path}: key 'results' is not a list; {_COLLECT}")
    for number, result in enumerate(whole["results"], 1):
        where = f"{path}: result {number}"
        if not isinstance(result, dict) or "job" not in result:
            raise InputError(f"{where}: key 'job' is missing; {_COLLECT}")
        _require_result(result, where, _COLLECT)
    return whole


def _require_same(path: Path, job: Job, build: Build, other: bool) -> None:
    """Refuse what another build made, or what was made with other settings."""
    known = read_json(path, OF_JOB, "remove its folder and run the grid again")
    try:
        made = Build(**known["build"])
    except TypeError:
        raise InputError(
            f"{path}: key 'build' is damaged; remove {path.parent} and run the grid again"
        ) from None
    if not other and not build.same_as(made):
        raise InputError(
            f"{path}: was made by {made}, and this is {build}; run it with that build, name "
            "another folder with --out, or mix both with --allow-other-build"
        )
    was, now = known["spec"], json.loads(json.dumps(job.spec))
    codes = [spec.pop("code", None) for spec in (was, now)]  # older results have none
    if not other and codes[0] not in (None, codes[1]):
        raise InputError(
            f"{path}: was made with other code of the method {now['method']}; undo the change, "
            "name another folder with --out, or mix both with --allow-other-build"
        )
    differing = _differing(was, now)
    if differing:
        raise InputError(
            f"{path}: was made with {', '.join(differing)}; undo the change in the grid, remove "
            f"{path.parent} to do the job again, or name another folder with --out"
        )


def _differing(was: Mapping[str, Any], now: Mapping[str, Any], within: str = "") -> list[str]:
    """What differs, in words; settings that one of two builds does not have are left out."""
    found = []
    for key in dict.fromkeys((*was, *now)):
        before, after = was.get(key), now.get(key)
        if key == "resolved" and isinstance(before, dict) and isinstance(after, dict):
            shared = before.keys() & after.keys()
            before = {name: before[name] for name in sorted(shared)}
            after = {name: after[name] for name in sorted(shared)}
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differing(before, after, f"{within}{key}: ")
        else:
            found.append(f"{within}{key} {before!r} instead of {after!r}")
    return found
