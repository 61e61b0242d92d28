"""YOLO: a `.txt` for each frame, with lines of class, x and y of the centre, width and height.

All four are shares (0 to 1) of the frame's width and height, and classes are numbered from 0
(docs.ultralytics.com, object detection datasets). Class names are in `classes.txt` or `obj.names`,
a line each, or under `names` of a `data.yaml`. Ultralytics' own predictions append the confidence,
the track's number, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from visir.core.types import InputError
from visir.core.yaml_file import load_yaml
from visir.data.boxes.mark import Annotation, Mark, edges

_MOST_CLASSES = 100_000
_NAMES_FILES = ("classes.txt", "obj.names", "data.yaml", "data.yml")
_LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")  # of image paths
_NAMES = ("x", "y", "width", "height")


def looks(head: str) -> bool:
    """Whether the first line of a text has the form of this format."""
    fields = head.strip().split("\n", 1)[0].split()
    try:
        [float(field) for field in fields]
    except ValueError:
        return False
    return len(fields) >= 5


def label_files(folder: Path) -> list[Path]:
    """The files of frames in a folder or below, sorted."""
    others = {*_NAMES_FILES, *_LISTS, "labels.txt", "requirements.txt", "readme.txt"}
    return sorted(path for path in folder.rglob("*.txt") if path.name.lower() not in others)


def read(folder: Path) -> Annotation:
    """Read a folder of such files.

    A frame is named by the path of its file without the ending.

    Raises:
        InputError: a line has another form, or there are no class names and no numbers either.
    """
    found = Annotation(folder, "yolo", shares=True)
    lines: list[tuple[str, str, list[str]]] = []
    for path in label_files(folder):
        frame = path.relative_to(folder).with_suffix("").as_posix()
        try:
            rows = path.read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}); save it as text") from error
        for row, text in enumerate(rows, start=1):
            if text.strip():
                lines.append((f"{path}: line {row}", frame, text.split()))
    scored = any("." in fields[5] for _, _, fields in lines if len(fields) == 6)
    names = _class_names(folder)
    found.marks = [_mark(where, frame, fields, names, scored) for where, frame, fields in lines]
    found.sequence = any(mark.track is not None for mark in found.marks)
    return found


def _mark(where: str, frame: str, fields: list[str], names: Sequence[str], scored: bool) -> Mark:
    """One line; scored: of six numbers the last is a confidence, not a track."""
    if not 5 <= len(fields) <= 7 or not fields[0].isdigit():
        raise InputError(
            f"{where} has {len(fields)} numbers; write class, x, y, width and height (outlines and "
            "key points are not read)"
        )
    x, y, width, height = edges(where, fields[1:5], _NAMES)
    if max(x, y, width, height) > 2:
        raise InputError(
            f"{where}: {' '.join(fields[1:5])} are not shares of the frame; divide x and width by "
            "the frame's width, y and height by its height"
        )
    more = fields[5:]
    score = more.pop(0) if more and (scored or len(more) == 2) else "1"
    kind = int(fields[0])
    left, top = x - width / 2, y - height / 2
    return Mark(
        frame,
        left,
        top,
        left + width,
        top + height,
        where,
        names[kind] if kind < len(names) else str(kind),
        track=more[0] if more else None,
        score=edges(where, [score], ["confidence"])[0],
    )


def _class_names(folder: Path) -> list[str]:
    """Names by number, from a file in the folder or up to two folders above; empty if none."""
    folder = folder.absolute()
    for place in (folder, *folder.parents[:2]):
        for path in (place / name for name in _NAMES_FILES):
            if path.is_file():
                return _read_names(path)
    return []


def _read_names(path: Path) -> list[str]:
    try:
        if path.suffix not in (".yaml", ".yml"):
            text = path.read_text("utf-8-sig")
            return [line.strip() for line in text.splitlines() if line.strip()]
        names = load_yaml(path)["names"]
        if isinstance(names, dict):
            last = max(map(int, names), default=-1)
            if not -1 <= last < _MOST_CLASSES:
                raise ValueError(f"class {last} is not below {_MOST_CLASSES}")
            return [str(names.get(n, n)) for n in range(last + 1)]
        return [str(name) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: has no class names ({error}); write a list under names, or a name a line"
        ) from error
