"""What a run's `config.yaml` says to others than the training itself."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from visir.core.config import from_mapping
from visir.core.run import Run
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml


@dataclass(frozen=True)
class RunConfig:
    """A part of `config.yaml`, see `visir.training.settings.RunSettings`."""

    data: str
    layout: str | None = None
    split: int = 1
    seed: int | None = None
    method: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


def read_config(run: Run) -> RunConfig:
    """Read the `config.yaml` of a run.

    Raises:
        InputError: it cannot be read, says no data set, or a value has the wrong type.
    """
    names = {each.name for each in dataclasses.fields(RunConfig)}
    known = {name: value for name, value in load_yaml(run.config).items() if name in names}
    if known.get("data") is None:
        raise InputError(f"{run.config}: key 'data' is missing; give the data set's folder")
    return from_mapping(RunConfig, known, str(run.config))
