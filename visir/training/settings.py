"""What determines a run: method, data, seed and settings, as `config.yaml` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from visir.core import ranks
from visir.core.bounds import require_within_bounds
from visir.core.config import apply, did_you_mean, from_mapping
from visir.core.device import resolve_device
from visir.core.run import Run
from visir.core.types import Benchmark, InputError
from visir.core.yaml_file import load_yaml
from visir.data.registry import open_benchmark
from visir.methods import METHODS
from visir.training.own import OWN, facts_of, own_settings, own_start, require_own

BatchNorm: TypeAlias = Literal["shared", "own"]


@dataclass(frozen=True)
class RunSettings:
    """What config.yaml holds: everything that determines a run.

    ranges: of cameras with more than 8 bits a pixel, see `visir.data.ranges`; None if there are
    none; exclude: file with the names of training images that are left out; batch_norm: whether
    processes share the statistics of batch norms; norm_parts: parts of a batch with statistics of
    their own.
    """

    method: str
    preset: str
    seed: int
    data: str
    layout: str | None
    split: int
    start: str | None
    settings: Any
    ranges: Any = None
    exclude: str | None = None
    batch_norm: BatchNorm = "shared"
    norm_parts: int = 1


class Division(NamedTuple):
    """How batches are divided: by the processes, and in each into slices, one after the other."""

    accumulate: int = 1
    batch_norm: BatchNorm = "shared"

    @property
    def slices(self) -> int:
        """In all processes together."""
        return self.accumulate * ranks.count()

    @property
    def said(self) -> str:
        """For messages."""
        times = f"{ranks.count()} processes times --accumulate {self.accumulate}"
        return f"{self.slices} slices ({times})"

    @property
    def norm_parts(self) -> int:
        """Parts of a batch with statistics of their own."""
        return self.accumulate if self.batch_norm == "shared" else self.slices


class DataPlace(NamedTuple):
    """A data set to open: its folder, its layout (detected if None), the split, what to exclude."""

    folder: Path
    layout: str | None
    split: int
    exclude: Path | None = None


class Asked(NamedTuple):
    """What a command asks for; `settings` replace some of the preset's."""

    method: str
    preset: str
    settings: Mapping[str, str]
    seed: int
    data: DataPlace
    start: Path | None
    accumulate: int | None = None
    batch_norm: BatchNorm | None = None

    def named(self) -> dict[str, object]:
        """The values by the names that a command has for them, to be compared and shown."""
        return {
            "method": self.method,
            "--preset": self.preset,
            "--set": " ".join(f"{name}={value}" for name, value in self.settings.items()),
            "--seed": self.seed,
            "--data": self.data.folder,
            "--layout": self.data.layout,
            "--split": self.data.split,
            "--exclude-list": self.data.exclude,
            "--start": self.start,
            "--accumulate": self.accumulate,
            "--batch-norm": self.batch_norm,
        }


def require_new(run: Run) -> None:
    """Refuse a folder that holds a run.

    Raises:
        InputError: there is something to resume.
    """
    if run.begun:
        raise InputError(
            f"{run.folder}: already holds a run; continue it with --resume, or name another --out"
        )


def new_settings(asked: Asked) -> RunSettings:
    """The settings of a new run; those of the preset `own` wait for `sized`.

    Raises:
        InputError: unusable settings.
    """
    config = apply(find_preset(asked.method, asked.preset), asked.settings)
    require_within_bounds(config)
    division = Division(asked.accumulate or 1, asked.batch_norm or "shared")
    return RunSettings(
        method=asked.method,
        preset=asked.preset,
        seed=asked.seed,
        data=str(asked.data.folder),
        layout=asked.data.layout,
        split=asked.data.split,
        start=_start(asked),
        exclude=None if asked.data.exclude is None else str(asked.data.exclude),
        settings=config,
        batch_norm=division.batch_norm,
        norm_parts=division.norm_parts,
    )


def division_of(run: Run, setting: RunSettings, asked: Asked) -> Division:
    """How a run divides its batches; batch norms keep the meaning that the run began with.

    Raises:
        InputError: they would not, or a number is none.
    """
    if asked.accumulate is not None and asked.accumulate < 1:
        raise InputError(f"--accumulate {asked.accumulate}: give 1 or more")
    kind, parts = setting.batch_norm, setting.norm_parts
    processes = 1 if kind == "shared" else ranks.count()
    if asked.batch_norm not in (None, kind):
        raise InputError(
            f"{run.config}: the run began with --batch-norm {kind}, not {asked.batch_norm}; leave "
            "it out, or start another run"
        )
    if parts % processes or asked.accumulate not in (None, parts // processes):
        fitting = f"--accumulate {parts}" if kind == "shared" else f"--devices {parts}"
        raise InputError(
            f"{run.config}: the batch norms of the run began with {parts} parts of a batch, and "
            f"--batch-norm {kind} with {ranks.count()} processes and --accumulate "
            f"{asked.accumulate or 1} does not give these; use {fitting}, or start another run"
        )
    return Division(parts // processes, kind)


def settings_of(
    method: str,
    preset: str,
    replaced: Mapping[str, str],
    data: DataPlace | None = None,
    device: str = "auto",
) -> Any:  # noqa: ANN401 - each method has a Config of its own
    """The settings that a training would have; the images of a data set are listed, not read.

    Raises:
        InputError: no such method, preset or setting, or `own` without a data set.
    """
    config = apply(find_preset(method, preset), replaced)
    if preset != OWN:
        return config
    if data is None:
        raise InputError(f"preset {OWN!r}: is sized by the images; name their folder with --data")
    benchmark = open_benchmark(data.folder, data.layout, data.split)
    return own_settings(method, facts_of(benchmark, resolve_device(device)), replaced)


def sized(
    setting: RunSettings, asked: Asked, benchmark: Benchmark, device: torch.device
) -> RunSettings:
    """The settings of a new run with the preset `own`, sized by its images; others as they are.

    Raises:
        InputError: as `own_settings`.
    """
    if setting.preset != OWN:
        return setting
    config = own_settings(setting.method, facts_of(benchmark, device), asked.settings)
    require_within_bounds(config)
    start = own_start(config) if asked.start is None else setting.start
    return replace(setting, settings=config, start=start)


def _start(asked: Asked) -> str | None:
    """What `--start` names; none is random weights, where `own` would take shipped ones."""
    none = asked.start == Path("none") and not asked.start.exists()
    return None if asked.start is None or none else str(asked.start)


def find_preset(method: str, preset: str) -> Any:  # noqa: ANN401 - each method has a Config of its own
    """A method's settings by name; of `own` those of `tiny`, which are sized by the data later.

    Raises:
        InputError: no such method or preset; the message suggests the nearest name.
    """
    found = METHODS.find(method)
    if preset == OWN:
        return require_own(method).presets["tiny"]
    if preset not in found.presets:
        known = [*found.presets, *([] if found.learns_from_labels else [OWN])]
        raise InputError(f"preset {preset!r} of {method} is unknown; {did_you_mean(preset, known)}")
    return found.presets[preset]


def _read_settings(run: Run) -> RunSettings:
    if not run.config.exists():
        raise InputError(f"{run.config}: no such file; there is no run to resume in {run.folder}")
    stored = load_yaml(run.config)
    method, preset = stored.get("method", ""), stored.get("preset", "")
    kind = type(find_preset(str(method), str(preset)))
    config = from_mapping(kind, stored.pop("settings", {}), f"{run.config}: settings")
    return from_mapping(RunSettings, {**stored, "settings": config}, str(run.config))


def stored_settings(run: Run, asked: Asked) -> RunSettings:
    """The settings stored in the run; different ones are refused instead of ignored.

    Only `data` and `exclude` may differ: they then name the place the data set has moved to, whose
    images are compared. What is not given on the command line has its default in `asked` and is not
    compared.

    Raises:
        InputError: there is no run, or other settings are asked for.
    """
    setting = _read_settings(run)
    if asked.method != setting.method:
        raise InputError(f"{run.config}: the run's method is {setting.method}, not {asked.method}")
    if apply(setting.settings, asked.settings) != setting.settings:
        _refuse(run, asked.settings)
    stored = (setting.preset, setting.seed, setting.split, setting.layout, setting.start)
    start = _start(asked)
    given = {
        "--preset": (asked.preset, "tiny"),
        "--seed": (asked.seed, 0),
        "--split": (asked.data.split, 1),
        "--layout": (asked.data.layout, None),
        "--start": (start, None),
    }
    other = {
        name: value
        for (name, (value, default)), known in zip(given.items(), stored, strict=True)
        if value not in (default, known)
    }
    if other:
        _refuse(run, other)
    if asked.data.folder.resolve() != Path(setting.data).resolve():
        setting = replace(setting, data=str(asked.data.folder))
    if asked.data.exclude is not None:
        setting = replace(setting, exclude=str(asked.data.exclude))
    return setting


def _refuse(run: Run, other: Mapping[str, object]) -> None:
    said = ", ".join(f"{name}={value}" for name, value in other.items())
    raise InputError(
        f"{run.config}: the run to resume has other settings than {said}; leave them out, or "
        "start another run"
    )
