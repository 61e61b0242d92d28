"""Divide inputs (folders, tar shards, videos) into units of work, and read the crops of a unit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visir.core.types import InputError
from visir.data.pixels import refuse_recording
from visir.data.ranges import RangeBook, as_json, from_json
from visir.data.table import same_name
from visir.sources import boxes, folders, tars, video
from visir.sources.crop import Broken, Crop, ReadOptions
from visir.sources.cuts import Cut
from visir.sources.hog import Hog, is_hog
from visir.sources.onnx_detector import OnnxDetector, is_onnx

if TYPE_CHECKING:
    from visir.sources.detector import Detector


class WorkUnit(NamedTuple):
    """Some images of a folder or a shard, or a whole video; all values are JSON values.

    input_type: "folder", "tar", "video" or "boxes"; items: `folders.Listed`, `tars.Member` or
    `cuts.Cut`, none for a video; ranges: of cameras with more than 8 bits a pixel, see
    `visir.data.ranges`.
    """

    input_type: str
    path: str
    items: Sequence[Sequence[Any]] = ()
    ranges: Mapping[str, Sequence[float]] = {}


def work_units(
    inputs: Sequence[Path],
    settings: ReadOptions,
    size: int,
    skip_broken: bool = False,
    book: RangeBook | None = None,
) -> Iterator[WorkUnit]:
    """List the images of all inputs and divide them.

    Args:
        inputs: folders, tar shards and videos.
        settings: how they are read.
        size: maximum number of images in a unit; a compressed shard or a video is always one unit.
        skip_broken: list unreadable members of shards too, so that they can be counted as skipped.
        book: takes the ranges of cameras with more than 8 bits a pixel; a new one if None.

    Raises:
        InputError: an input is none of these, is inside another one, or cannot be used.
    """
    book = book or RangeBook()
    _require_apart(inputs)
    if settings.stream is not None and "video" not in map(input_type, inputs):
        raise InputError("stream: no input is a video, which alone has streams; leave --stream out")
    if settings.boxes is not None:
        yield from _of_boxes(inputs, settings, size, skip_broken, book)
        return
    for path in inputs:
        kind = input_type(path)
        if kind == "video":
            video.require(path, settings)
            book.says(path.parent)
            video.settle(path, settings, book)
            yield WorkUnit(kind, str(path), (), as_json(book.used))
            continue
        listed: Sequence[Sequence[Any]]
        if kind == "folder":
            listed = folders.listed(path, settings, book)
        else:
            found = tars.listed(path, skip_broken)
            members = [one for one in found if same_name(one.name) not in settings.exclude]
            book.says(path.parent)
            tars.settle(path, members, settings, book)
            listed = members
        step = len(listed) if kind == "tar" and tars.compressed(path) else size
        for start in range(0, len(listed), step):
            yield WorkUnit(kind, str(path), listed[start : start + step], as_json(book.used))


def crops(
    unit: WorkUnit, settings: ReadOptions, detector: Callable[[], Detector]
) -> Iterator[Crop | Broken]:
    """The crops of a unit in their order; files of a folder are not read yet.

    Args:
        unit: what to read.
        settings: how to read it.
        detector: makes the person detector of a video, see `detectors`.
    """
    path, ranges = Path(unit.path), from_json(unit.ranges, unit.path)
    if unit.input_type == "folder":
        return folders.crops((folders.Listed(*item) for item in unit.items), settings, ranges)
    if unit.input_type == "tar":
        return tars.crops(path, (tars.Member(*item) for item in unit.items), settings, ranges)
    if unit.input_type == "boxes":
        return boxes.crops(path, [Cut(*item) for item in unit.items], settings, ranges)
    return video.crops(path, settings, detector(), ranges)


def detectors(settings: ReadOptions, device: str) -> Callable[[], Detector]:
    """Makes the detector of each video; a network is loaded when it is first needed, and once."""
    if settings.detector is not None and is_hog(settings.detector):
        return Hog

    def load() -> Detector:
        assert settings.detector is not None  # `work_units` refuses videos without one
        if is_onnx(settings.detector):
            return OnnxDetector(settings.detector)
        from visir.sources.detector import load_detector

        return load_detector(settings.detector, device)

    return cache(load)


def _of_boxes(
    inputs: Sequence[Path], settings: ReadOptions, size: int, skip_broken: bool, book: RangeBook
) -> Iterator[WorkUnit]:
    """The work in the one input that a file of boxes belongs to; a video is one unit."""
    if len(inputs) > 1:
        raise InputError(
            f"boxes: {settings.boxes} is of one folder of frames or one video, but "
            f"{len(inputs)} inputs are given; give one, with its own file of boxes"
        )
    (path,) = inputs
    if input_type(path) == "tar":
        raise InputError(f"boxes: {path} is a tar file; unpack it, and give the folder of frames")
    found = boxes.listed(path, settings, skip_broken)
    boxes.warn_of(found)
    boxes.settle(path, found.cuts, settings, book)
    step = size if path.is_dir() else max(1, len(found.cuts))
    for start in range(0, len(found.cuts), step):
        yield WorkUnit("boxes", str(path), found.cuts[start : start + step], as_json(book.used))


def input_type(path: Path) -> str:
    """What kind of input a path is: "folder", "tar" or "video".

    Raises:
        InputError: there is nothing, or it is none of these.
    """
    name = path.name.lower()
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; check the path")
    if name.endswith(tars.SUFFIXES):
        return "tar"
    if name.endswith(video.SUFFIXES):
        return "video"
    refuse_recording(path)
    raise InputError(
        f"{path}: not a folder and not a file ending in {', '.join(tars.SUFFIXES)} or "
        f"{', '.join(video.SUFFIXES)}; give one of these"
    )


def _require_apart(inputs: Sequence[Path]) -> None:
    """Refuse inputs that contain each other: their images would be read twice."""
    if not inputs:
        raise InputError("inputs: none given; name a folder, tar shard or video")
    places = {path.resolve(): path for path in inputs}
    if len(places) < len(inputs):
        raise InputError("inputs: one input was given twice; name each input once")
    for place, path in places.items():
        outer = next((places[above] for above in place.parents if above in places), None)
        if outer is not None and path.is_dir():
            raise InputError(f"{path}: is inside {outer}, another input; name only one of them")
