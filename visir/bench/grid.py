"""What a grid declares: data sets, starts, arms, seeds, protocols, and the table made of them.

A grid is a YAML file or a profile of this package. Here its own form is checked; whether methods,
settings, data sets and protocols exist is checked in `visir.bench.usable`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal

from visir.bench.columns import COLUMNS, LABELS, column
from visir.core.config import did_you_mean, from_mapping
from visir.core.names import shown
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml
from visir.nets.shipped import STARTS

PROFILES = files("visir.bench") / "profiles"
NO_START = "none"
NAMED_STARTS = ("imagenet", *STARTS)  # of `visir train --start`
_BY_NETWORK = ("imagenet", "person")  # of these, which file it is depends on the network
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Training:
    """A start or an arm: a training that every data set and every seed gets.

    method: name or address; empty for an arm that scores its start as it is; preset: its named
    settings; settings: those that are replaced, by name, as text; start: key of a start or of
    another arm, a file, a run folder, a name that `visir train --start` knows, or "none", for arms
    the grid's start if None; label: its name in tables, its key if empty (a start without a label
    has no row); command: which command of visir makes it; pretrain also writes pretrained.pth,
    which the trainings that start from it then read; data: of a start, key of the data set that it
    learns from, once for all others; None for the one that is scored.
    """

    method: str = ""
    preset: str = "tiny"
    settings: Mapping[str, str] = field(default_factory=dict)
    start: str | None = None
    label: str = ""
    command: Literal["train", "pretrain"] = "train"
    data: str | None = None


@dataclass(frozen=True)
class Table:
    """What tables and plots show.

    control: key of the arm that differences are taken from, None for none; protocol: the one whose
    scores are shown, the grid's first if None; columns: names of `visir.bench.columns`; titles: of
    data sets, by key; caption: a sentence below every table; tolerance: of `visir bench check`, by
    column or ROW/COLUMN, in the unit that the table shows.
    """

    control: str | None = None
    protocol: str | None = None
    columns: tuple[str, ...] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    caption: str = ""
    tolerance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """A declared grid.

    path: the file, for messages; text: its content; data: arguments of `visir synth` for each data
    set; starts and arms: trainings by key; start: of arms that name none; seeds: of data sets and
    trainings; protocols: keys of what is scored; paired: whether arms are compared seed by seed.
    """

    path: str
    text: str
    name: str
    data: Mapping[str, Mapping[str, Any]]
    starts: Mapping[str, Training]
    arms: Mapping[str, Training]
    start: str
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]
    paired: bool
    table: Table

    @property
    def trainings(self) -> dict[str, Training]:
        """Starts and arms by key."""
        return {**self.starts, **self.arms}

    @property
    def scored(self) -> list[str]:
        """Keys of the data sets that have a table: those that no start names as its own."""
        own = {start.data for start in self.starts.values()}
        return [key for key in self.data if key not in own]

    @property
    def shown(self) -> list[tuple[str, str, int]]:
        """Data set, start or arm, and seed of every training that a table can show."""
        return [
            (data, name, seed)
            for data in self.scored
            for name, training in self.trainings.items()
            if training.data is None
            for seed in self.seeds
        ]

    def kind_of(self, name: str) -> Literal["starts", "arms"]:
        """Whether a training is a start or an arm."""
        return "starts" if name in self.starts else "arms"

    def key_of(self, data: str, name: str, seed: int) -> str:
        """The folder of a start's or an arm's training below the results."""
        own = self.trainings[name].data or data
        return f"{self.kind_of(name)}/{own}/{name}/{seed}"

    def start_of(self, key: str) -> str | None:
        """The start of a training; None if it has random weights."""
        training = self.trainings[key]
        start = training.start or (self.start if key in self.arms else NO_START)
        return None if start == NO_START else start


@dataclass(frozen=True)
class _File:
    """The keys of a grid file."""

    data: Any
    arms: Any
    seeds: tuple[int, ...]
    protocols: tuple[str, ...]
    name: str = ""
    starts: Any = None
    start: str = NO_START
    paired: bool = True
    table: Any = None


def profile_names() -> list[str]:
    """Names of the packaged grids."""
    return sorted(item.name[:-5] for item in PROFILES.iterdir() if item.name.endswith(".yaml"))


def read_grid(source: str, name: str = "") -> Grid:
    """Read a grid.

    Args:
        source: a YAML file, or the name of a profile.
        name: of a grid whose file does not say it; its file name if empty.

    Raises:
        InputError: no such file or profile, or a key, a type or a reference between keys is wrong.
    """
    if Path(source).suffix in (".yaml", ".yml") or Path(source).is_file():
        return _read(Path(source), name or Path(source).stem)
    if source not in profile_names():
        near = did_you_mean(source, profile_names())
        raise InputError(f"grid {source!r}: no such file, and no profile; {near}")
    with as_file(PROFILES / f"{source}.yaml") as path:
        return _read(path, source)


def _read(path: Path, name: str) -> Grid:
    where = str(path)
    raw = from_mapping(_File, load_yaml(path), where)
    grid = Grid(
        path=where,
        text=path.read_text(encoding="utf-8"),
        name=raw.name or name,
        data={key: _mapping(value, f"{where}: data: {key}")
              for key, value in _keyed(raw.data, f"{where}: data")},
        starts=_trainings(raw.starts or {}, f"{where}: starts"),
        arms=_trainings(raw.arms, f"{where}: arms"),
        start=raw.start,
        seeds=raw.seeds,
        protocols=raw.protocols,
        paired=raw.paired,
        table=_table(raw.table or {}, f"{where}: table"),
    )  # fmt: skip
    _check(grid)
    return grid


def _mapping(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: expected keys and values, got {shown(value)}")
    return value


def _keyed(value: object, where: str) -> Iterable[tuple[str, Any]]:
    """The entries of a mapping whose keys name folders."""
    for key, entry in _mapping(value, where).items():
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise InputError(
                f"{where}: key {shown(key)} cannot name a folder; use letters, digits, '-', '_' "
                "and '.'"
            )
        yield key, entry


def _trainings(value: object, where: str) -> dict[str, Training]:
    found = {}
    for key, entry in _keyed(value, where):
        fields = dict(_mapping(entry, f"{where}: {key}"))
        given = _mapping(fields.pop("settings", {}) or {}, f"{where}: {key}: settings")
        # `Training` holds text, as the command line takes it; YAML's own numbers and lists are it.
        plain = from_mapping(_Fields, fields, f"{where}: {key}")
        settings = {str(name): _text(of) for name, of in given.items()}
        found[key] = Training(**vars(plain), settings=settings)
    return found


@dataclass(frozen=True)
class _Fields:
    """The keys of a training, without its settings."""

    method: str = ""
    preset: str = "tiny"
    start: str | None = None
    label: str = ""
    command: Literal["train", "pretrain"] = "train"
    data: str | None = None


def _text(value: object) -> str:
    """A setting as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value)


@dataclass(frozen=True)
class _TableFields:
    """The keys of a table."""

    control: str | None = None
    protocol: str | None = None
    columns: tuple[str, ...] = ("rank1", "mAP", "difference", "minutes")
    titles: Any = None
    caption: str = ""
    tolerance: Any = None


def _table(value: object, where: str) -> Table:
    read = from_mapping(_TableFields, value, where)
    titles = {
        str(key): str(of) for key, of in _mapping(read.titles or {}, f"{where}: titles").items()
    }
    tolerance = {}
    for key, of in _mapping(read.tolerance or {}, f"{where}: tolerance").items():
        if isinstance(of, bool) or not isinstance(of, (int, float)) or not of >= 0:
            raise InputError(f"{where}: tolerance: {key} must be a number >= 0, got {shown(of)}")
        tolerance[str(key)] = float(of)
    for name in (*read.columns, *(key.rpartition("/")[2] for key in tolerance)):
        if column(name) is None:
            near = did_you_mean(name, COLUMNS)
            raise InputError(
                f"{where}: column {name!r} is unknown; {near}; a number of the last plan is named "
                f"{LABELS}NAME"
            )
    return Table(read.control, read.protocol, read.columns, titles, read.caption, tolerance)


def _check(grid: Grid) -> None:
    """Refuse what cannot be run or drawn, whatever the methods are."""
    for name, entries in (("data", grid.data), ("arms", grid.arms), ("seeds", grid.seeds),
                          ("protocols", grid.protocols)):  # fmt: skip
        if not entries:
            raise InputError(f"{grid.path}: {name} is empty; name at least one")
    for seed in grid.seeds:
        if seed < 0:
            raise InputError(f"{grid.path}: seeds: {seed} is negative; seeds are 0 or more")
        if grid.seeds.count(seed) > 1:
            raise InputError(f"{grid.path}: seeds: {seed} is given twice; keep one of them")
    for key in grid.arms:
        if key in grid.starts:
            raise InputError(f"{grid.path}: {key!r} names a start and an arm; rename one of them")
    if not grid.scored:
        raise InputError(f"{grid.path}: data: starts learn from all of them; name one to score")
    _check_table(grid)
    _check_data(grid)
    _check_starts(grid)


def _check_table(grid: Grid) -> None:
    table, where = grid.table, f"{grid.path}: table"
    if table.control is not None and table.control not in grid.arms:
        raise InputError(
            f"{where}: control: there is no arm {table.control!r}; "
            f"{did_you_mean(table.control, grid.arms)}"
        )
    if "difference" in table.columns and table.control is None:
        raise InputError(
            f"{where}: column 'difference' needs a control; add control: with the key of an arm"
        )
    if table.protocol is not None and table.protocol not in grid.protocols:
        near = did_you_mean(table.protocol, grid.protocols)
        raise InputError(f"{where}: protocol: {table.protocol!r} is not scored; {near}")
    for key in table.tolerance:
        row = key.rpartition("/")[0]
        if row and row not in grid.trainings:
            near = did_you_mean(row, grid.trainings)
            raise InputError(
                f"{where}: tolerance: {key!r}: there is no start or arm {row!r}; {near}"
            )
    for key in table.titles:
        if key not in grid.data:
            near = did_you_mean(key, grid.data)
            raise InputError(f"{where}: titles: there is no data set {key!r}; {near}")


def _check_data(grid: Grid) -> None:
    """Only starts have data of their own, and only arms have no method."""
    for key, training in grid.trainings.items():
        where = f"{grid.path}: {key}"
        if training.data is not None and training.data not in grid.data:
            near = did_you_mean(training.data, grid.data)
            raise InputError(f"{where}: data: there is no data set {training.data!r}; {near}")
        if training.data is not None and (key in grid.arms or training.label):
            raise InputError(
                f"{where}: data: only a start without a label can learn from other data than what "
                f"is scored; add an arm with nothing but start: {key}"
            )
        if not training.method:
            _check_bare(grid, key, where)


def _check_bare(grid: Grid, key: str, where: str) -> None:
    """An arm without a method has a start that is a whole network, and nothing to train with."""
    start = grid.start_of(key)
    if key in grid.starts or start is None:
        raise InputError(f"{where}: key 'method' is missing; only an arm with a start has none")
    if start in _BY_NETWORK:
        whole = [name for name in NAMED_STARTS if name not in _BY_NETWORK]
        raise InputError(
            f"{where}: start: {start} can be trained from, not scored; add a method, or name "
            f"{', '.join(whole)}, a run folder, a file, or a start or arm of the grid"
        )
    training = grid.trainings[key]
    plain = Training(start=training.start, label=training.label, data=training.data)
    if training != plain:
        raise InputError(
            f"{where}: preset, settings and command are for a training; name its method, or "
            "remove them"
        )


def _check_starts(grid: Grid) -> None:
    """Every start is a training of the grid or a file, and no training starts from itself."""
    known = grid.trainings
    for key in known:
        start = grid.start_of(key)
        if start is None or start in (*NAMED_STARTS, *known) or Path(start).exists():
            continue
        raise InputError(
            f"{grid.path}: start of {key!r}: {start!r} is no start or arm of the grid and no file; "
            f"{did_you_mean(start, [*known, NO_START, *NAMED_STARTS])}"
        )
    for key in known:
        chain = [key]
        while (start := grid.start_of(chain[-1])) in known and start not in chain:
            chain.append(str(start))
        if start in chain:
            circle = " -> ".join([*chain[chain.index(start) :], start])
            raise InputError(
                f"{grid.path}: {circle}: each starts from the next, so none can begin; give one of "
                f"them another start, or {NO_START}"
            )
