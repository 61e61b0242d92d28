"""Boxes of people that another program made: annotation files of five formats.

Each reader turns its format's origin and unit into the edges of `Mark`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from visir.core.types import InputError
from visir.core.untrusted import parse_json
from visir.data.boxes import coco, cvat, label_studio, mot, yolo
from visir.data.boxes.mark import Annotation, Mark, described, only_labelled

Format = Literal["mot", "coco", "cvat", "label-studio", "yolo"]
FORMATS: tuple[Format, ...] = get_args(Format)
_INSIDE = ("gt/gt.txt", "annotations.xml", "det/det.txt")
"""Files that stand for their folder, as MOTChallenge and CVAT pack it."""

__all__ = ["FORMATS", "Annotation", "Format", "Mark", "described", "format_of", "read_boxes"]


def read_boxes(
    path: Path, form: Format | Literal["auto"] = "auto", labels: Sequence[str] = ()
) -> Annotation:
    """Read the boxes of an annotation file, or of a folder of YOLO's files.

    Args:
        path: the file or folder.
        form: its format; detected from the content unless given.
        labels: which classes are people; if none is given, those of
            `visir.data.boxes.mark.PEOPLE`.

    Raises:
        InputError: the file cannot be read, is of no known format, holds no box, or no box of these
            labels.
    """
    path = _place(path)
    found = _read(path, format_of(path) if form == "auto" else form)
    if not found.marks:
        why = f" ({described(found.left_out)} left out)" if found.left_out else ""
        raise InputError(f"{path}: holds no box to use{why}; give the file with the boxes")
    return only_labelled(found, labels)


def format_of(path: Path) -> Format:
    """The format of an annotation file, from its content.

    Raises:
        InputError: it is missing, or of no known format.
    """
    path = _place(path)
    if path.is_dir():
        if any(yolo.looks(_head(file)) for file in yolo.label_files(path)):
            return "yolo"
        raise InputError(
            f"{path}: holds no YOLO text file with boxes; give the annotation file itself"
        )
    head = _head(path)
    if head.lstrip()[:1] in ("{", "["):
        content = _json(path)
        if coco.looks(content):
            return "coco"
        if label_studio.looks(content):
            return "label-studio"
    elif cvat.looks(head):
        return "cvat"
    elif mot.looks(head):
        return "mot"
    elif yolo.looks(head):
        raise InputError(f"{path}: YOLO's boxes of one frame; give the folder of all frames' files")
    raise InputError(
        f"{path}: none of the formats {', '.join(FORMATS)}; export the boxes in one of them"
    )


def _read(path: Path, form: Format) -> Annotation:
    match form:
        case "mot":
            return mot.read(path, _text(path))
        case "cvat":
            return cvat.read(path, _text(path))
        case "yolo":
            if not path.is_dir():
                raise InputError(f"{path}: a file; give the folder of YOLO's files")
            return yolo.read(path)
        case "coco":
            content = _json(path)
            if not coco.looks(content):
                raise InputError(f"{path}: not COCO json; it needs images and annotations")
            return coco.read(path, content)
        case "label-studio":
            content = _json(path)
            if not label_studio.looks(content):
                raise InputError(f"{path}: not Label Studio's json; export it as JSON")
            return label_studio.read(path, content)
        case _:
            raise InputError(f"format {form!r} is unknown; use auto, {', '.join(FORMATS)}")


def _place(path: Path) -> Path:
    """The file that is meant by a folder which holds one of the well-known files."""
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; name the file with the boxes")
    return next((path / name for name in _INSIDE if (path / name).is_file()), path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); export it again") from error


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(2048).decode("utf-8-sig", "replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def _json(path: Path) -> Any:  # noqa: ANN401
    try:
        return parse_json(_text(path))
    except ValueError as error:
        raise InputError(f"{path}: not JSON that can be read ({error}); export it again") from error
