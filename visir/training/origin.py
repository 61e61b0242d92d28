"""What a checkpoint was trained with: settings and images; a resumed run must have the same."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from visir.core.config import to_mapping
from visir.core.run import Run
from visir.core.types import Benchmark, InputError, IntArray
from visir.training.settings import RunSettings

_MOVES = ("data", "exclude")  # may change: the images are compared instead


class _Image(NamedTuple):
    """What is compared of an image: its file, and what a training takes from the data set."""

    content: str
    modality: str
    camera: int
    identity: int | None


def listed(benchmark: Benchmark, contents: Sequence[str], identities: IntArray | None) -> str:
    """The training images, one JSON array a line: path, content, modality, camera, identity.

    Args:
        benchmark: the data set; paths are relative to its folder, so that it may move.
        contents: of each training image, from `visir.data.contents.contents`.
        identities: labels that are trained on; None for methods that learn without.
    """
    rows = []
    for number, (record, content) in enumerate(zip(benchmark.train, contents, strict=True)):
        path = record.path
        if path.is_relative_to(benchmark.root):
            path = path.relative_to(benchmark.root)
        label = None if identities is None else int(identities[number])
        image = _Image(content, record.modality.value, record.cam, label)
        rows.append(json.dumps([os.fspath(path), *image]) + "\n")
    return "".join(rows)


def origin(setting: RunSettings, images: str) -> dict[str, Any]:
    """What a checkpoint keeps of the settings and of the list of images."""
    return {"settings": dict(_flat(to_mapping(setting))), "images": _digest(images)}


def require_same_settings(run: Run, known: Mapping[str, Any], setting: RunSettings) -> None:
    """Refuse settings that were edited after the training began.

    Raises:
        InputError: what changed, and what to do.
    """
    now = dict(_flat(to_mapping(setting)))
    changed = [
        f"{name} is {now[name]!r}, but the run was trained with {value!r}"
        for name, value in known["settings"].items()
        if name in now and name not in _MOVES and now[name] != value
    ]
    if changed:
        raise InputError(
            f"{run.config}: {'; '.join(changed)}; restore this to resume, or start another run "
            f"(--start {run.folder} takes this one's weights)"
        )


def require_same_images(run: Run, known: Mapping[str, Any], images: str, root: Path) -> None:
    """Refuse a data set whose training images are not those the training began with.

    Args:
        run: the run; its list of images is read to say what changed.
        known: what the checkpoint keeps.
        images: the list now, from `listed`.
        root: folder of the data set.

    Raises:
        InputError: what changed, and what to do.
    """
    if _digest(images) == known["images"]:
        return
    before = run.images.read_text(encoding="utf-8") if run.images.exists() else ""
    what = "the training images are not those of the run"
    if _digest(before) == known["images"]:
        what = _difference(_rows(before), _rows(images))
    raise InputError(
        f"{root}: {what}; restore the data set to resume {run.folder}, or start another run "
        f"(--start {run.folder} takes this one's weights)"
    )


def _difference(before: dict[str, _Image], now: dict[str, _Image]) -> str:
    """What changed between two lists of images, with the first image of each kind."""
    both = [name for name in before if name in now]
    kinds = {
        "added": [name for name in now if name not in before],
        "removed": [name for name in before if name not in now],
        "replaced": [name for name in both if now[name].content != before[name].content],
        "given another camera or modality": [
            name for name in both if now[name][1:3] != before[name][1:3]
        ],
        "given another identity": [name for name in both if now[name][3] != before[name][3]],
    }
    said = [f"{len(names)} {kind} (first {names[0]})" for kind, names in kinds.items() if names]
    if not said:
        return "the training images come in another order"
    return f"of the training images, {', '.join(said)} since the run began"


def _rows(text: str) -> dict[str, _Image]:
    rows = (json.loads(line) for line in text.splitlines())
    return {row[0]: _Image(*row[1:]) for row in rows}


def _digest(images: str) -> str:
    return hashlib.sha256(images.encode()).hexdigest()


def _flat(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The run's values, and those of the method's settings, by their names."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", of) for inner, of in value.items())
        else:
            yield name, value
