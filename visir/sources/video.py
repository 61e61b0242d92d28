"""Read crops of the people in a video: detect them per frame, track them, cut out the best."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from math import floor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.types import ByteArray, InputError, Modality, Span
from visir.data.locate import placed
from visir.data.pixels import grey8, grey8_alone
from visir.data.ranges import NONE, SAMPLE, RangeBook, Ranges, name_of
from visir.sources.crop import Broken, Crop, ReadOptions, require_count, timestamp
from visir.sources.cuts import Cut, cut_out, pixels_of, range_name
from visir.sources.tracks import Box, picks, tracks

if TYPE_CHECKING:
    from visir.sources.detector import Detector

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")
_PATIENCE = 1.0  # seconds a person may be hidden inside one track
_DAMAGED = "{path}: the video is cut short or damaged ({error}); replace or remove it"
_DEEP = re.compile(r"gray(9|10|12|14|16)[lb]e")  # FFmpeg's names of grey with more than 8 bits
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


def settle(path: Path, settings: ReadOptions, book: RangeBook) -> None:
    """Fix the range of a video whose frames are grey of more than 8 bits, by some of its frames.

    A video that cannot be read is passed over; whoever needs its frames is told.
    """
    av = _pyav()
    try:
        with av.open(str(path)) as container:
            streams = container.streams.video
            if not streams or not _DEEP.match(streams[0].codec_context.pix_fmt or ""):
                return
            every = max(settings.every, float(container.duration or 0) / av.time_base / SAMPLE)
        values = [_values(frame) for _, _, frame in _every(path, every)]
    except (av.FFmpegError, OSError, InputError):
        return
    camera, modality, _ = origin(path, settings)
    book.settle(name_of(modality or Modality.INFRARED, camera), values)


def crops(
    path: Path, settings: ReadOptions, detect: Detector, ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Read a few crops of each person in a video; `ranges` are of the cameras.

    The video is read twice, first for the boxes and then for the pixels of the chosen ones, so
    that only one frame is in memory.
    """
    return _reported(path, _crops(path, settings, detect, ranges))


def cut(
    path: Path, cuts: Sequence[Cut], tags: tuple[str, ...], ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Cut out of a video, which is read once, in the order of its frames."""
    return _reported(path, _cut(path, cuts, tags, ranges))


def frames(path: Path, every: float, span: Span | None = None) -> Iterator[Frame]:
    """Yield the first frame of a video, then the first of each `every` seconds, turned upright.

    Frames of grey of more than 8 bits become 8-bit grey by the span of their camera, without one by
    each frame's own values.

    Raises:
        InputError: the file has no video stream.
    """
    for number, seconds, frame in _every(path, every):
        yield Frame(number, seconds, _upright(frame, path, span))


def numbered(path: Path, wanted: Collection[int], span: Span | None = None) -> Iterator[Frame]:
    """Yield the frames of these numbers, from 0, as `frames` does; those that there are.

    Raises:
        InputError: the file has no video stream.
    """
    last = max(wanted, default=-1)
    for number, seconds, frame in _decoded(path) if wanted else ():
        if number in wanted:
            yield Frame(number, seconds, _upright(frame, path, span))
        if number >= last:
            return


def _every(path: Path, every: float) -> Iterator[tuple[int, float, Any]]:
    """The first frame, then the first of each `every` seconds, as `_decoded` yields them."""
    due = 0
    for number, seconds, frame in _decoded(path):
        step = floor(seconds / every + 1e-6)
        if step >= due:
            due = step + 1
            yield number, seconds, frame


def _cut(
    path: Path, cuts: Sequence[Cut], tags: tuple[str, ...], ranges: Ranges
) -> Iterator[Crop | Broken]:
    wanted: dict[int, list[Cut]] = {}
    for cut in cuts:
        if cut.fault:
            yield Broken(cut.source, cut.fault)
        else:
            wanted.setdefault(cut.frame, []).append(cut)
    span = ranges.get(range_name(cuts[0])) if cuts else None  # a video is one camera
    for number, seconds, pixels in numbered(path, wanted.keys(), span):
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


def _upright(frame: Any, path: Path, span: Span | None) -> ByteArray:  # noqa: ANN401 - of a package that may be missing
    pixels = _values(frame)
    if pixels.ndim == 2:
        grey = grey8_alone(pixels, path) if span is None else grey8(pixels, span)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def _values(frame: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    """(H, W, 3) uint8 RGB, or (H, W) uint16 of grey of more than 8 bits."""
    form = "gray16le" if _DEEP.match(frame.format.name) else "rgb24"
    return np.asarray(frame.to_ndarray(format=form))


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise InputError(
            'videos need the package PyAV; install it with pip install "visir[video]"'
        ) from None
    return av


def _crops(
    path: Path, settings: ReadOptions, detect: Detector, ranges: Ranges
) -> Iterator[Crop | Broken]:
    found: list[list[Box]] = []
    moments: list[tuple[int, float]] = []
    size = (0, 0)
    camera, modality, time = origin(path, settings)
    span = ranges.get(name_of(modality or Modality.INFRARED, camera))
    for number, seconds, pixels in frames(path, settings.every, span):
        found.append(detect(pixels))
        moments.append((number, seconds))
        size = pixels.shape[:2]
    if not found:
        raise InputError(f"{path}: no frame can be read; replace or remove the video")
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
    yield from _cut(path, cuts, settings.tags, ranges)


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
