"""Label Studio json: a list of tasks, each with `data` and `annotations`.

x, y, width and height of a `rectanglelabels` value are percent (0 to 100) of the image, from its
top left corner (labelstud.io, RectangleLabels). A `videorectangle` has a `sequence` of such boxes;
frames are numbered from 1, and `enabled` says that the person is seen until the next one, or after
the last one to the end of the video, which has `framesCount` frames by its length and rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from visir.core.names import shown
from visir.core.types import InputError
from visir.data.boxes.mark import TURNED, Annotation, Mark, between, edges, number, reading

_NAMES = ("x", "y", "width", "height")
_IMAGE, _VIDEO = ("rectanglelabels", "rectangle"), "videorectangle"


def looks(content: object) -> bool:
    """Whether parsed JSON has the form of this format."""
    return (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        and "data" in content[0]
        and bool({"annotations", "predictions"} & content[0].keys())
    )


def read(path: Path, content: list[dict[str, Any]]) -> Annotation:
    """Read parsed JSON.

    Of several annotations of a task the one marked as ground truth is taken, else the first that
    was not cancelled; predictions are taken where there is no annotation.

    Raises:
        InputError: a part is missing or has another form.
    """
    found = Annotation(path, "label-studio", shares=True, first=1)
    with reading(path, "Label Studio", "JSON (not JSON-MIN)"):
        for row, task in enumerate(content):
            where = f"{path}: task {task.get('id', row)}"
            for result in _chosen(found, task):
                _read_result(found, where, task["data"], result)
    return found


def _chosen(found: Annotation, task: dict[str, Any]) -> list[dict[str, Any]]:
    kept = [a for a in task.get("annotations") or () if not a.get("was_cancelled")]
    kept = kept or list(task.get("predictions") or ())
    if not kept:
        return []
    best = next((each for each in kept if each.get("ground_truth")), kept[0])
    others = sum(len(each["result"]) for each in kept if each is not best)
    if others:
        found.left_out["of a second annotator or prediction"] += others
    return list(best["result"])


def _read_result(
    found: Annotation, where: str, data: dict[str, Any], result: dict[str, Any]
) -> None:
    kind, value = result.get("type"), result.get("value", {})
    where = f"{where}, region {result.get('id')}"
    if kind in _IMAGE:
        if result.get("image_rotation") or value.get("rotation"):
            found.left_out[TURNED] += 1
            return
        name = _file(where, data)
        if result.get("original_width") and result.get("original_height"):
            found.sizes[name] = (int(result["original_width"]), int(result["original_height"]))
        label = next(iter(value.get("rectanglelabels") or ()), None)
        score = number(where, "score", result.get("score") or 1.0)
        found.marks.append(_mark(where, value, name, label)._replace(score=score))
    elif kind == _VIDEO:
        found.sequence = True
        label = next(iter(value.get("labels") or ()), None)
        track = str(result["id"])
        keys = [
            (
                _mark(where, step, int(step["frame"]) - 1, label)._replace(track=track),
                bool(step.get("enabled", True)),
            )
            for step in sorted(value["sequence"], key=lambda step: int(step["frame"]))
        ]
        count = int(number(where, "framesCount", value.get("framesCount") or 0))
        found.marks += between(found, keys, count)


def _mark(where: str, value: dict[str, Any], frame: int | str, label: str | None) -> Mark:
    if not isinstance(label, str | None):
        raise InputError(f"{where}: its label is {shown(label)}; write a text there")
    x, y, width, height = edges(where, [value.get(name) for name in _NAMES], _NAMES)
    return Mark(frame, x / 100, y / 100, (x + width) / 100, (y + height) / 100, where, label)


def _file(where: str, data: dict[str, Any]) -> str:
    """The image's path in the address under which Label Studio knows it."""
    for address in _texts(data):
        parts = urlsplit(address)
        local = parse_qs(parts.query).get("d")  # of local storage: /data/local-files/?d=a/b.jpg
        name = local[0] if local else unquote(parts.path)
        if "." in name.rpartition("/")[2]:
            return name
    raise InputError(f"{where}: its data names no image file; export the tasks with their data")


def _texts(data: dict[str, Any]) -> Iterator[str]:
    return (value for value in data.values() if isinstance(value, str))
