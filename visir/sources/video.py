"""Read crops of the people in a video: detect them per frame, track them, cut out the best."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from itertools import count, groupby
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from visir.core.types import ByteArray, InputError, Modality, Span
from visir.data.locate import placed
from visir.data.pixels import grey8, grey8_alone
from visir.data.ranges import NONE, SAMPLE, RangeBook, Ranges, name_of
from visir.sources.crop import Broken, Crop, ReadOptions, require_count, timestamp
from visir.sources.cuts import Cut, cut_out, pixels_of, range_name
from visir.sources.decode import Film, Raw, chosen, deep, pyav, values
from visir.sources.hog import Hog, is_hog
from visir.sources.onnx_detector import OnnxDetector, is_onnx
from visir.sources.tracks import PATIENCE, Box, picks, tracks

if TYPE_CHECKING:
    from visir.sources.detector import Detector

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".flv", ".asf", ".wmv", ".ts"),
    *(".mts", ".m2ts", ".mpg", ".mpeg", ".h264", ".264", ".hevc", ".h265", ".265"),
)
_DAMAGED = "{path}: the video is cut short or damaged ({error}); replace or remove it"
_NO_FRAME = "{path}: no frame can be read; replace or remove the video"
_NONE = np.empty((0, 0, 3), np.uint8)
_MIN_STEP = 0.02  # seconds; frames are named by hundredths of a second


class Frame(NamedTuple):
    """A frame of a video: (H, W, 3) uint8 RGB, and the rest as `visir.sources.decode.Raw`."""

    number: int
    seconds: float
    clip: int
    pixels: ByteArray


def require(path: Path, settings: ReadOptions) -> None:
    """Check, before any work is done, that people in a video can be detected.

    Raises:
        InputError: PyAV or a detector is missing, an option is out of range, or the file has no
            such stream.
    """
    if settings.detector is None:
        raise InputError(
            f"{path}: a video needs a person detector; give --detector hog, which needs no "
            "download, or the file of a network (docs/embedding.md names some), or cut the people "
            "out yourself and give the folder of crops, which needs none"
        )
    if not settings.every >= _MIN_STEP:  # also refuses NaN
        raise InputError(f"every: must be {_MIN_STEP} seconds or more, got {settings.every}")
    require_count(settings)
    if is_hog(settings.detector):
        Hog()  # says what is missing
    elif is_onnx(settings.detector):
        OnnxDetector(settings.detector)  # as here
    av = pyav()
    if settings.stream is not None:
        # Whoever needs the frames is told what is wrong with the file.
        with suppress(av.FFmpegError, OSError), av.open(str(path)) as container:
            chosen(path, container, settings.stream)


def settle(path: Path, settings: ReadOptions, book: RangeBook) -> None:
    """Fix the range of a video whose frames are grey of more than 8 bits, by some of its frames.

    A video that cannot be read is passed over; whoever needs its frames is told.
    """
    av = pyav()
    try:
        with av.open(str(path)) as container:
            stream, _ = chosen(path, container, settings.stream)
            if not deep(stream.codec_context.pix_fmt or ""):
                return
            every = max(settings.every, float(container.duration or 0) / av.time_base / SAMPLE)
        counts = [values(raw) for raw in _every(Film(path, settings.stream), every)]
    except (av.FFmpegError, OSError, InputError):
        return
    camera, modality, _ = origin(path, settings)
    book.settle(name_of(modality or Modality.INFRARED, camera), counts)


def crops(
    path: Path, settings: ReadOptions, detect: Detector, ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Read a few crops of each person in a video; `ranges` are of the cameras.

    The video is read twice, first for the boxes and then for the pixels of the chosen ones, so
    that only one frame is in memory.
    """
    return _reported(path, _crops(path, settings, detect, ranges))


def cut(
    path: Path, cuts: Sequence[Cut], settings: ReadOptions, ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Cut out of a video, which is read once, in the order of its frames."""
    film = Film(path, settings.stream)
    return _reported(path, _warned(film, _cut(film, cuts, settings.tags, ranges)))


def frames(film: Film, every: float, span: Span | None = None) -> Iterator[Frame]:
    """Yield the first frame of a video, then the first of each `every` seconds.

    They are upright, not mirrored, and have square pixels. Frames of grey of more than 8 bits
    become 8-bit grey by the span of their camera, without one by each frame's own values.

    Raises:
        InputError: the file has no such video stream.
    """
    for raw in _every(film, every):
        yield _frame(raw, film.path, span)


def numbered(film: Film, wanted: Collection[int], span: Span | None = None) -> Iterator[Frame]:
    """Yield the frames of these numbers, from 0, as `frames` does; those that there are.

    Raises:
        InputError: the file has no such video stream.
    """
    last = max(wanted, default=-1)
    for raw in film if wanted else ():
        if raw.number in wanted:
            yield _frame(raw, film.path, span)
        if raw.number >= last:
            return


def _every(film: Film, every: float) -> Iterator[Raw]:
    """The first frame, then the first of each `every` seconds."""
    due = 0
    for raw in film:
        step = floor(raw.seconds / every + 1e-6)
        if step >= due:
            due = step + 1
            yield raw


def _cut(
    film: Film, cuts: Sequence[Cut], tags: tuple[str, ...], ranges: Ranges
) -> Iterator[Crop | Broken]:
    wanted: dict[int, list[Cut]] = {}
    for cut in cuts:
        if cut.fault:
            yield Broken(cut.source, cut.fault)
        else:
            wanted.setdefault(cut.frame, []).append(cut)
    span = ranges.get(range_name(cuts[0])) if cuts else None  # a video is one camera
    for frame in numbered(film, {*wanted}, span):
        group = wanted.pop(frame.number)
        timed = [c if c.time is None else c._replace(time=c.time + frame.seconds) for c in group]
        yield from cut_out(frame.pixels, timed, tags)
    for number, group in sorted(wanted.items()):
        fault = f"has no frame {number} (from 0); is it the video that the boxes were made of?"
        yield from (Broken(cut.source, f"{film.path}: {fault}") for cut in group)


def _warned(film: Film, stream: Iterator[Crop | Broken]) -> Iterator[Crop | Broken]:
    """The stream; at its end it is said what was passed over."""
    yield from stream
    film.warn()


def _reported(path: Path, stream: Iterator[Crop | Broken]) -> Iterator[Crop | Broken]:
    """The stream, with a broken crop at its end if the video cannot be read further."""
    av = pyav()
    try:
        yield from stream
    except (av.FFmpegError, OSError) as error:
        yield Broken(str(path), _DAMAGED.format(path=path, error=error))
    except InputError as error:
        yield Broken(str(path), str(error))


def _frame(raw: Raw, path: Path, span: Span | None) -> Frame:
    pixels = values(raw)
    if pixels.ndim == 2:
        grey = grey8_alone(pixels, path) if span is None else grey8(pixels, span)
        pixels = np.repeat(grey[:, :, None], 3, axis=2)
    return Frame(raw.number, raw.seconds, raw.clip, pixels)


def _crops(
    path: Path, settings: ReadOptions, detect: Detector, ranges: Ranges
) -> Iterator[Crop | Broken]:
    found: list[list[Box]] = []
    looked: list[Frame] = []  # without their pixels
    sizes: list[tuple[int, int]] = []
    camera, modality, time = origin(path, settings)
    span = ranges.get(name_of(modality or Modality.INFRARED, camera))
    film = Film(path, settings.stream)
    for frame in frames(film, settings.every, span):
        found.append(detect(frame.pixels))
        sizes.append(frame.pixels.shape[:2])
        looked.append(frame._replace(pixels=_NONE))
    if not looked:
        raise InputError(_NO_FRAME.format(path=path))
    film.warn()
    by_name = None if modality is None else modality.value
    cuts = []
    tracked = count(1)
    for _, clip in groupby(range(len(looked)), key=lambda row: looked[row].clip):
        rows = [*clip]
        times = [looked[row].seconds for row in rows]
        for sights in tracks([found[row] for row in rows], times, PATIENCE + settings.every):
            track = next(tracked)
            for place, box in picks(sights, sizes[rows[0]], settings.crops):
                moment = looked[rows[place]]
                source = f"{path}::{stream_name(settings)}track {track} @ {moment.seconds:.2f}s"
                where = (str(path), moment.number, *pixels_of(box, sizes[rows[place]]))
                name = f"{video_name(path, settings)}:{track}"
                cuts.append(Cut(source, *where, camera, by_name, time, name))
    cuts.sort(key=lambda cut: cut.frame)
    yield from _cut(film, cuts, settings.tags, ranges)


class Sizes(NamedTuple):
    """(height, width) of upright frames: with square pixels, and as they are stored."""

    square: tuple[int, int]
    stored: tuple[int, int]


def frame_sizes(path: Path, settings: ReadOptions) -> Sizes:
    """The sizes of a video's frames.

    Raises:
        InputError: the video is damaged, or has no frame or no such stream.
    """
    av = pyav()
    try:
        first = next(iter(Film(path, settings.stream)), None)
    except (av.FFmpegError, OSError) as error:
        raise InputError(_DAMAGED.format(path=path, error=error)) from error
    if first is None:
        raise InputError(_NO_FRAME.format(path=path))
    (height, width), (tall, wide) = (values(first, way).shape[:2] for way in (True, False))
    return Sizes((height, width), (tall, wide))


def origin(path: Path, settings: ReadOptions) -> tuple[str, Modality | None, float | None]:
    """Camera, modality (None: by colour) and time of the first frame of a video."""
    by_folder, folder = placed(path.parent.parts[-2:])
    modality = by_folder or settings.modality
    camera = (folder if by_folder else None) or settings.camera or video_name(path, settings)
    start = timestamp(path.stem) if settings.start is None else settings.start
    return camera, modality, start


def video_name(path: Path, settings: ReadOptions) -> str:
    """The name of a video's file without ending; of a second stream with its number."""
    return f"{path.stem}-stream{settings.stream}" if settings.stream else path.stem


def stream_name(settings: ReadOptions) -> str:
    """What a source says of the stream before all else: nothing of the first."""
    return f"stream {settings.stream} " if settings.stream else ""
