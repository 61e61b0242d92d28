"""What determines a run: method, data, seed and settings, as `config.yaml` keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from visir.core.bounds import require_within_bounds
from visir.core.config import apply, did_you_mean, from_mapping, load_yaml
from visir.core.run import Run
from visir.core.types import InputError
from visir.methods import METHODS


@dataclass(frozen=True)
class RunSettings:
    """What config.yaml holds: everything that determines a run.

    ranges: of cameras with more than 8 bits a pixel, see `visir.data.ranges`; None if there are
    none; exclude: file with the names of training images that are left out.
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


class DataPlace(NamedTuple):
    """A data set to open: its folder, its layout (detected if None), the split, what to exclude."""

    folder: Path
    layout: str | None
    split: int
    exclude: Path | None = None


def new_settings(
    run: Run,
    method: str,
    preset: str,
    settings: Mapping[str, str],
    seed: int,
    data: DataPlace,
    start: Path | None,
) -> RunSettings:
    """The settings of a new run.

    Raises:
        InputError: unusable settings, or the folder already holds a run.
    """
    if run.checkpoint.exists():
        raise InputError(
            f"{run.folder}: already holds a run; continue it with --resume, or name another --out"
        )
    config = apply(find_preset(method, preset), settings)
    require_within_bounds(config)
    return RunSettings(
        method=method,
        preset=preset,
        seed=seed,
        data=str(data.folder),
        layout=data.layout,
        split=data.split,
        start=None if start is None else str(start),
        exclude=None if data.exclude is None else str(data.exclude),
        settings=config,
    )


def find_preset(method: str, preset: str) -> Any:  # noqa: ANN401 - each method has a Config of its own
    """A method's settings by name.

    Raises:
        InputError: no such method or preset; the message suggests the nearest name.
    """
    presets = METHODS.find(method).presets
    if preset not in presets:
        raise InputError(
            f"preset {preset!r} of {method} is unknown; {did_you_mean(preset, presets)}"
        )
    return presets[preset]


def _read_settings(run: Run) -> RunSettings:
    if not run.config.exists():
        raise InputError(f"{run.config}: no such file; there is no run to resume in {run.folder}")
    stored = load_yaml(run.config)
    method, preset = stored.get("method", ""), stored.get("preset", "")
    kind = type(find_preset(str(method), str(preset)))
    config = from_mapping(kind, stored.pop("settings", {}), f"{run.config}: settings")
    return from_mapping(RunSettings, {**stored, "settings": config}, str(run.config))


def stored_settings(run: Run, method: str, settings: Mapping[str, str]) -> RunSettings:
    """The settings stored in the run; different ones are refused instead of ignored."""
    setting = _read_settings(run)
    if method != setting.method:
        raise InputError(f"{run.config}: the run's method is {setting.method}, not {method}")
    if apply(setting.settings, settings) != setting.settings:
        raise InputError(
            f"{run.config}: the run to resume has other settings than "
            f"{', '.join(f'{key}={value}' for key, value in settings.items())}; leave them out, "
            "or start another run"
        )
    return setting
