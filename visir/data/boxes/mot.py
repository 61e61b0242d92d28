"""MOTChallenge text: `frame, id, left, top, width, height, conf, x, y, z`, a line for each box.

"All frame numbers, target IDs and bounding boxes are 1-based"; conf is a detection's confidence,
and in ground truth "a value of 0 means that this particular instance is ignored"
(motchallenge.net/instructions). The left column of pixels is therefore 1. Ground truth since MOT16
has nine columns: the seventh is that flag, the eighth the class (Milan et al., 2016, table 3).
"""

from __future__ import annotations

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

    Raises:
        InputError: a line has another form.
    """
    found = Annotation(path, "mot", first=1, sequence=True)
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


def _classes(path: Path) -> Sequence[str]:
    try:
        return [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return _CLASSES
