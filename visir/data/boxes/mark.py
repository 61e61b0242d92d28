"""A box of an annotation file, in the one form that all formats are read into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from visir.core.names import shown
from visir.core.types import InputError

PEOPLE = (
    "person", "people", "pedestrian", "human", "man", "woman", "child", "static person",
    "person on vehicle", "walker",
)  # fmt: skip
"""Labels that are taken unless the user names others; compared without case."""

TURNED = "turned boxes"
"""Why a box was left out: it has a rotation."""

MOST = 5_000_000
"""Boxes of a file, with those between key frames."""
UNSEEN = "of people no longer seen (outside)"
"""Why a box was left out: it only says that a track has ended."""


class Mark(NamedTuple):
    """One box.

    frame: its number from 0, or the name of its image file; left, top, right, bottom: edges, from 0
    at the left and the top edge of the frame, so that a box over a whole frame of W x H pixels has
    the edges 0, 0, W, H; in pixels, or as shares of width and height (`Annotation.shares`); where:
    its place in the file, for messages; label: its class, None if the file has none; track: the
    same for all boxes of one person in one camera, None if unknown; score: a detector's, 0 to 1;
    assumed: it is behind the last key frame of its track, and its frame may not be there.
    """

    frame: int | str
    left: float
    top: float
    right: float
    bottom: float
    where: str
    label: str | None = None
    track: str | None = None
    score: float = 1.0
    assumed: bool = False


@dataclass
class Annotation:
    """What an annotation file says.

    Attributes:
        path: the file, or the folder of YOLO's files.
        format: its name in `visir.data.boxes.FORMATS`.
        marks: the boxes, in the order of the file.
        shares: whether the edges are shares of the frame's width and height, not pixels.
        first: the number that the format gives to the first frame.
        sequence: whether the frames follow each other in time, so that people can be followed.
        sizes: (width, height) of frames in pixels, as far as the file says it; key None: of all.
        left_out: reason -> number of boxes that are not in `marks`.
        fps: frames in a second; None if the file does not say it.
        folder: of the frames, in the folder of the sequence; None if the file does not say it.
        camera: the name of the sequence; None if the file does not say it.
    """

    path: Path
    format: str
    marks: list[Mark] = field(default_factory=list)
    shares: bool = False
    first: int = 0
    sequence: bool = False
    sizes: dict[int | str | None, tuple[int, int]] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    fps: float | None = None
    folder: str | None = None
    camera: str | None = None


@contextmanager
def reading(path: Path, form: str, export: str) -> Iterator[None]:
    """Read parsed JSON of a form; what is missing or has another type becomes one sentence.

    Raises:
        InputError: it is not of this form; `export` is what to export it as.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path}: not {form}'s form ({type(error).__name__}: {error}); export it again as "
            f"{export}"
        ) from error


def number(where: str, name: str, value: object) -> float:
    """A finite number.

    Raises:
        InputError: it is none; the message names the place and the field.
    """
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not abs(found) < 1e9:  # also refuses NaN
        raise InputError(f"{where}: {name} is {shown(value)}; write a number there")
    return found


def edges(where: str, values: Sequence[object], names: Sequence[str]) -> list[float]:
    """Four numbers, named for messages."""
    return [number(where, name, value) for name, value in zip(names, values, strict=True)]


def only_labelled(annotation: Annotation, labels: Sequence[str]) -> Annotation:
    """The annotation with the boxes of these labels; of people if none is given.

    Boxes without a label are kept.

    Raises:
        InputError: there are boxes, and none has such a label.
    """
    wanted = {label.casefold() for label in labels or PEOPLE}
    kept = []
    for mark in annotation.marks:
        if mark.label is None or mark.label.casefold() in wanted:
            kept.append(mark)
        else:
            annotation.left_out[f"label {mark.label}"] += 1
    if annotation.marks and not kept:
        there = ", ".join(sorted({str(mark.label) for mark in annotation.marks}))
        raise InputError(
            f"{annotation.path}: its boxes have the labels {there}; name those of people with "
            "--label"
        )
    annotation.marks = kept
    return annotation


def between(
    annotation: Annotation, keys: Sequence[tuple[Mark, bool]], count: int = 0
) -> list[Mark]:
    """The boxes of a track in all frames, on straight lines between its key frames.

    Args:
        annotation: what they belong to.
        keys: boxes by rising frame, and whether the person stays in the frame after each.
        count: frames of the video, if the last box holds to its end where the person stays.

    Raises:
        InputError: the frame numbers are so far apart that the boxes would be too many.
    """
    frames = [int(mark.frame) for mark, _ in keys] + [count]
    gaps = (b - a for a, b, (_, stays) in zip(frames, frames[1:], keys, strict=False) if stays)
    if len(annotation.marks) + sum(max(1, gap) for gap in gaps) > MOST:
        raise InputError(
            f"{keys[0][0].where}: with the frames between key frames the file has more than "
            f"{MOST:,} boxes; check the frame numbers of its tracks"
        )
    found = []
    for (mark, stays), (after, _) in pairwise(keys):
        found.append(mark)
        start, end = int(mark.frame), int(after.frame)
        for frame in range(start + 1, end) if stays else ():
            part = (frame - start) / (end - start)
            left, top, right, bottom = (
                a + part * (b - a) for a, b in zip(mark[1:5], after[1:5], strict=True)
            )
            found.append(Mark(frame, left, top, right, bottom, *mark[5:]))
    for mark, stays in keys[-1:]:
        later = range(int(mark.frame) + 1, count) if stays else ()
        found += [mark, *(mark._replace(frame=frame, assumed=True) for frame in later)]
    return found


def described(counts: Mapping[str, int]) -> str:
    """`3 label car, 1 a group`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
