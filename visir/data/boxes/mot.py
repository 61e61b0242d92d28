"""MOTChallenge text: `frame, id, left, top, width, height, conf, x, y, z`, a line for each box.

"All frame numbers, target IDs and bounding boxes are 1-based"; conf is a detection's confidence,
and in ground truth "a value of 0 means that this particular instance is ignored"
(motchallenge.net/instructions). The left column of pixels is therefore 1. Ground truth since MOT16
has nine columns: the seventh is that flag, the eighth the class (Milan et al., 2016, table 3).

A sequence's folder also holds `seqinfo.ini`, whose section `[Sequence]` says its name, the folder
of its frames (imDir), the frame rate and the size of the frames.
"""

from __future__ import annotations

import configparser
import csv
from collections.abc import Sequence
from pathlib import Path

from visir.core.types import InputError
from visir.data.boxes.mark import Annotation, Mark, edges, number

_CLASSES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle",
    "static person", "distractor", "occluder", "occluder on the ground", "occluder full",
    "reflection",
)  # fmt: skip
_GROUND_TRUTH = 9  # columns
_SEQUENCE = "seqinfo.ini"
_NAMES = ("frame", "id", "left", "top", "width", "height")


def looks(head: str) -> bool:
    """Whether the first line of a text has the form of this format."""
    fields = head.strip().split("\n", 1)[0].split(",")
    try:
        [float(field) for field in fields]
    except ValueError:
        return False
    return len(fields) >= len(_NAMES)


def read(path: Path, text: str) -> Annotation:
    """Read the content of a file; class names from a `labels.txt` beside it, as CVAT writes one.

    `seqinfo.ini` beside it or in the folder above adds what it says of the frames.

    Raises:
        InputError: a line has another form, or `seqinfo.ini` has.
    """
    found = Annotation(path, "mot", first=1, sequence=True)
    for folder in (path.parent, path.parent.parent):
        if (folder / _SEQUENCE).is_file():
            _read_sequence(folder / _SEQUENCE, found)
            break
    classes = _classes(path.with_name("labels.txt"))
    for row, fields in enumerate(csv.reader(text.splitlines()), start=1):
        where = f"{path}: line {row}"
        if not any(field.strip() for field in fields):
            continue
        if len(fields) < len(_NAMES):
            raise InputError(
                f"{where} has {len(fields)} fields; write frame,id,left,top,width,height,conf"
            )
        mark = _mark(where, fields, classes)
        if len(fields) > len(_NAMES) and number(where, "conf", fields[6]) == 0:
            found.left_out["marked as ignored (conf 0)"] += 1
        else:
            found.marks.append(mark)
    return found


def _mark(where: str, fields: Sequence[str], classes: Sequence[str]) -> Mark:
    frame, track, left, top, width, height = edges(where, fields[:6], _NAMES)
    if frame < 1 or frame != int(frame):
        raise InputError(f"{where}: frame is {fields[0]!r}; number the frames from 1")
    label = None
    if len(fields) == _GROUND_TRUTH:
        kind = int(number(where, "class", fields[7]))
        label = classes[kind - 1] if 0 < kind <= len(classes) else f"class {kind}"
    conf = number(where, "conf", fields[6]) if len(fields) > len(_NAMES) else 1.0
    return Mark(
        int(frame) - 1,
        left - 1,
        top - 1,
        left - 1 + width,
        top - 1 + height,
        where,
        label,
        track=f"{track:g}" if track >= 0 else None,  # -1 in detections
        score=conf if 0 < conf <= 1 else 1.0,
    )


def _read_sequence(path: Path, found: Annotation) -> None:
    """Add the frame rate, the size of the frames, their folder and the sequence's name."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({reason}); correct or remove it") from error
    said = parser["Sequence"] if parser.has_section("Sequence") else {}
    if "framerate" in said:
        found.fps = _positive(path, "frameRate", said["framerate"])
    if "imwidth" in said and "imheight" in said:
        width = _positive(path, "imWidth", said["imwidth"])
        found.sizes[None] = (int(width), int(_positive(path, "imHeight", said["imheight"])))
    found.folder = said.get("imdir", "").strip() or None
    found.camera = said.get("name", "").strip() or None


def _positive(path: Path, name: str, text: str) -> float:
    value = number(f"{path}", name, text)
    if value <= 0:
        raise InputError(f"{path}: {name} is {text!r}; write a number above 0")
    return value


def _classes(path: Path) -> Sequence[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return _CLASSES
