"""Read crops of the people in a video: detect them per frame, track them, cut out the best."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import floor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visir.core.types import ByteArray, InputError, Modality
from visir.data.locate import placed
from visir.sources.crop import Broken, Crop, ReadOptions, require_count, timestamp
from visir.sources.cuts import Cut, cut_out, pixels_of
from visir.sources.tracks import Box, picks, tracks

if TYPE_CHECKING:
    from visir.sources.detector import Detector

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")
_PATIENCE = 1.0  # seconds a person may be hidden inside one track
_DAMAGED = "{path}: the video is cut short or damaged ({error}); replace or remove it"
_MIN_STEP = 0.02  # seconds; frames are named by hundredths of a second


class Frame(NamedTuple):
    """A frame of a video: its number from 0, seconds since the first, (H, W, 3) uint8 RGB."""

    number: int
    seconds: float
    pixels: ByteArray


def require(path: Path, settings: ReadOptions) -> None:
    """Check, before any work is done, that people in a video can be detected.

    Raises:
        InputError: PyAV or a detector is missing, or an option is out of range.
    """
    if settings.detector is None:
        raise InputError(
            f"{path}: a video needs a person detector, which visir does not include; give "
            "torchvision's COCO weights with --detector (such as the file of "
            "fasterrcnn_resnet50_fpn_v2), or cut the people out yourself and give the folder of "
            "crops, which needs none"
        )
    if not settings.every >= _MIN_STEP:  # also refuses NaN
        raise InputError(f"every: must be {_MIN_STEP} seconds or more, got {settings.every}")
    require_count(settings)
    _pyav()


def crops(path: Path, settings: ReadOptions, detect: Detector) -> Iterator[Crop | Broken]:
    """Read a few crops of each person in a video.

    The video is read twice, first for the boxes and then for the pixels of the chosen ones, so
    that only one frame is in memory.
    """
    return _reported(path, _crops(path, settings, detect))


def cut(path: Path, cuts: Sequence[Cut], tags: tuple[str, ...]) -> Iterator[Crop | Broken]:
    """Cut out of a video, which is read once, in the order of its frames."""
    return _reported(path, _cut(path, cuts, tags))


def frames(path: Path, every: float) -> Iterator[Frame]:
    """Yield the first frame of a video, then the first of each `every` seconds, turned upright.

    Raises:
        InputError: the file has no video stream.
    """
    due = 0
    for number, seconds, frame in _decoded(path):
        step = floor(seconds / every + 1e-6)
        if step >= due:
            due = step + 1
            yield Frame(number, seconds, _upright(frame))


def numbered(path: Path, wanted: Collection[int]) -> Iterator[Frame]:
    """Yield the frames of these numbers, from 0, turned upright; those that there are.

    Raises:
        InputError: the file has no video stream.
    """
    last = max(wanted, default=-1)
    for number, seconds, frame in _decoded(path) if wanted else ():
        if number in wanted:
            yield Frame(number, seconds, _upright(frame))
        if number >= last:
            return


def _cut(path: Path, cuts: Sequence[Cut], tags: tuple[str, ...]) -> Iterator[Crop | Broken]:
    wanted: dict[int, list[Cut]] = {}
    for cut in cuts:
        if cut.fault:
            yield Broken(cut.source, cut.fault)
        else:
            wanted.setdefault(cut.frame, []).append(cut)
    for number, seconds, pixels in numbered(path, wanted.keys()):
        group = wanted.pop(number)
        timed = [c if c.time is None else c._replace(time=c.time + seconds) for c in group]
        yield from cut_out(pixels, timed, tags)
    for frame, group in sorted(wanted.items()):
        fault = f"has no frame {frame} (from 0); is it the video that the boxes were made of?"
        yield from (Broken(cut.source, f"{path}: {fault}") for cut in group)


def _reported(path: Path, stream: Iterator[Crop | Broken]) -> Iterator[Crop | Broken]:
    """The stream, with a broken crop at its end if the video cannot be read further."""
    av = _pyav()
    try:
        yield from stream
    except (av.FFmpegError, OSError) as error:
        yield Broken(str(path), _DAMAGED.format(path=path, error=error))
    except InputError as error:
        yield Broken(str(path), str(error))


def _decoded(path: Path) -> Iterator[tuple[int, float, Any]]:
    """Number, seconds since the first frame, and PyAV's frame."""
    with _pyav().open(str(path)) as container:
        if not container.streams.video:
            what = (
                "only sound, no pictures"
                if len(container.streams)
                else "neither pictures nor sound"
            )
            raise InputError(f"{path}: holds {what}; remove it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 25)
        start = None
        for number, frame in enumerate(container.decode(stream)):
            time = number / rate if frame.time is None else frame.time
            start = time if start is None else start
            yield number, time - start, frame


def _upright(frame: Any) -> ByteArray:  # noqa: ANN401 - of a package that may be missing
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return np.ascontiguousarray(pixels)


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise InputError(
            'videos need the package PyAV; install it with pip install "visir[video]"'
        ) from None
    return av


def _crops(path: Path, settings: ReadOptions, detect: Detector) -> Iterator[Crop | Broken]:
    found: list[list[Box]] = []
    moments: list[tuple[int, float]] = []
    size = (0, 0)
    for number, seconds, pixels in frames(path, settings.every):
        found.append(detect(pixels))
        moments.append((number, seconds))
        size = pixels.shape[:2]
    if not found:
        raise InputError(f"{path}: no frame can be read; replace or remove the video")
    camera, modality, time = origin(path, settings)
    by_name = None if modality is None else modality.value
    cuts = []
    gap = round(_PATIENCE / settings.every)
    for track, sights in enumerate(tracks(found, gap), start=1):
        for row, box in picks(sights, size, settings.crops):
            number, seconds = moments[row]
            source = f"{path}::track {track} @ {seconds:.2f}s"
            place = (str(path), number, *pixels_of(box, size))
            cuts.append(Cut(source, *place, camera, by_name, time, f"{path.stem}:{track}"))
    cuts.sort(key=lambda cut: cut.frame)
    yield from _cut(path, cuts, settings.tags)


def frame_size(path: Path) -> tuple[int, int]:
    """(height, width) of a video's frames, upright.

    Raises:
        InputError: the video is damaged, or has no frame.
    """
    av = _pyav()
    try:
        first = next(numbered(path, {0}), None)
    except (av.FFmpegError, OSError) as error:
        raise InputError(_DAMAGED.format(path=path, error=error)) from error
    if first is None:
        raise InputError(f"{path}: no frame can be read; replace or remove the video")
    height, width = first.pixels.shape[:2]
    return height, width


def origin(path: Path, settings: ReadOptions) -> tuple[str, Modality | None, float | None]:
    """Camera, modality (None: by colour) and time of the first frame of a video."""
    by_folder, folder = placed(path.parent.parts[-2:])
    modality = by_folder or settings.modality
    camera = (folder if by_folder else None) or settings.camera or path.stem
    start = timestamp(path.stem) if settings.start is None else settings.start
    return camera, modality, start
