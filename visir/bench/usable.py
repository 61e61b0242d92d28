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
from typing import Any, get_type_hints

from visir.bench.grid import Grid, Training
from visir.core.bounds import require_within_bounds
from visir.core.config import apply, did_you_mean, from_mapping
from visir.core.types import InputError
from visir.data.registry import open_benchmark
from visir.synth.layouts import Spec, lay_out
from visir.synth.write import synthesise
from visir.training.settings import find_preset

_RUNS_OWN = ("out", "progress")  # arguments of `synthesise` that no grid chooses


def require_usable(grid: Grid) -> dict[str, Any]:
    """Check everything that the grid names.

    Returns:
        The settings of every start and arm, by its key.

    Raises:
        InputError: a method, preset, setting, data set or protocol is unknown or unusable; the
            message names the file, the key and the nearest known word.
    """
    found = {}
    for part, trainings in (("starts", grid.starts), ("arms", grid.arms)):
        for key, training in trainings.items():
            found[key] = _settings(training, f"{grid.path}: {part}: {key}")
    for key, arguments in grid.data.items():
        where = f"{grid.path}: data: {key}"
        _check_arguments(arguments, where)
        known = _protocol_keys(arguments, where)
        for protocol in grid.protocols:
            if protocol not in known:
                raise InputError(
                    f"{grid.path}: protocols: {protocol!r} is none of data set {key!r}; "
                    f"{did_you_mean(protocol, known)}"
                )
    return found


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


def _protocol_keys(arguments: Mapping[str, Any], where: str) -> list[str]:
    """The protocols of the data set, of which no image is rendered."""
    named = {of.name for of in fields(Spec)}
    given = {key: value for key, value in arguments.items() if key in named}
    twin = arguments.get("twin")
    try:
        spec = Spec(**{"layout": "sysu", **given, **({"layout": twin} if twin else {})})
        lay_out(spec)  # refuses impossible numbers
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    keys = _keys_of(spec.layout)
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
