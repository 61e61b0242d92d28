"""Whether a grid can be run: methods, presets, settings, data sets and protocols exist.

Everything is checked before the first job, so that no error waits for the last one.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from visir.bench.grid import Grid, Training
from visir.core.bounds import require_within_bounds
from visir.core.config import apply, did_you_mean, from_mapping
from visir.core.types import InputError
from visir.data.registry import open_benchmark
from visir.synth.layouts import Spec, lay_out
from visir.synth.write import synthesise
from visir.training.settings import find_preset

_RUNS_OWN = ("out", "progress")  # arguments of `synthesise` that no grid chooses


class Usable(NamedTuple):
    """What a grid's names mean.

    settings: of every start and arm that trains, by its key; protocols: keys of those scored, by
    data set.
    """

    settings: dict[str, Any]
    protocols: dict[str, list[str]]


def require_usable(grid: Grid) -> Usable:
    """Check everything that the grid names.

    Returns:
        What the names mean.

    Raises:
        InputError: a method, preset, setting, data set or protocol is unknown or unusable; the
            message names the file, the key and the nearest known word.
    """
    found = Usable({}, {})
    for part, trainings in (("starts", grid.starts), ("arms", grid.arms)):
        for key, training in trainings.items():
            if training.method:
                found.settings[key] = _settings(training, f"{grid.path}: {part}: {key}")
    known = {}
    for key, arguments in grid.data.items():
        where = f"{grid.path}: data: {key}"
        _check_arguments(arguments, where)
        layout = _layout(arguments, where)
        if key in grid.scored:
            known[key] = _protocol_keys(layout, arguments.get("twin"))
    _require_known(grid, [name for key in grid.scored for name in known[key]])
    for key in grid.scored:
        found.protocols[key] = [name for name in grid.protocols if name in known[key]]
        if not found.protocols[key]:
            raise InputError(
                f"{grid.path}: protocols: none of them is of data set {key!r}, which has "
                f"{', '.join(known[key]) or 'none at all'}"
            )
    return found


def _require_known(grid: Grid, known: list[str]) -> None:
    for protocol in grid.protocols:
        if protocol not in known:
            raise InputError(
                f"{grid.path}: protocols: {protocol!r} is none of data set "
                f"{' or '.join(map(repr, grid.scored))}; {did_you_mean(protocol, known)}"
            )


def _settings(training: Training, where: str) -> Any:  # noqa: ANN401 - each method has its own
    """The settings as they will be used."""
    try:
        preset = find_preset(training.method, training.preset)
        config = apply(preset, training.settings, "settings")
        require_within_bounds(config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if training.command == "pretrain" and training.method not in ("dino", "simclr"):
        raise InputError(
            f"{where}: command: pretrain makes backbones with dino or simclr, not "
            f"{training.method}; write command: train"
        )
    return config


def _check_arguments(arguments: Mapping[str, Any], where: str) -> None:
    """Unknown arguments of `visir synth`, and values of the wrong type."""
    hints = get_type_hints(synthesise)
    known: list[tuple[str, Any, Any]] = []
    for name, parameter in inspect.signature(synthesise).parameters.items():
        if name not in _RUNS_OWN:
            known.append((name, hints[name], field(default=parameter.default)))
    from_mapping(make_dataclass("Arguments", known), arguments, where)


def _layout(arguments: Mapping[str, Any], where: str) -> str:
    """The layout of the data set, of which no image is rendered."""
    named = {of.name for of in fields(Spec)}
    given = {key: value for key, value in arguments.items() if key in named}
    twin = arguments.get("twin")
    try:
        spec = Spec(**{"layout": "sysu", **given, **({"layout": twin} if twin else {})})
        lay_out(spec)  # refuses impossible numbers
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return spec.layout


def _protocol_keys(layout: str, twin: str | None) -> list[str]:
    """The protocols of a data set."""
    if layout == "pool":
        return []
    keys = _keys_of(layout)
    # Only a twin has the image counts that SYSU-MM01's official galleries were drawn for.
    return [*keys, *(key.replace("seeded", "official") for key in keys if twin == "sysu")]


@cache
def _keys_of(layout: str) -> list[str]:
    """The protocols of a layout, read from a folder of a few of its files without their content."""
    whole = lay_out(Spec(layout=layout, ids=12, images=1))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for path in {shot.path for shot in whole.shots}:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        for name, text in whole.lists.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return list(open_benchmark(root, layout).protocols)
