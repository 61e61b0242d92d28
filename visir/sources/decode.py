"""Decode one video stream: the frames that there are, with times that never step back."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.types import InputError
from visir.sources.tracks import PATIENCE

_SHOWN = 5  # places of a fault are listed up to this number
_RATE = 25.0  # frames in a second, where the file does not say it
# Larger leaps are a new clock, by the rule of the program ffmpeg: -dts_delta_threshold for formats
# whose times may be discontinuous (MPEG streams), and -dts_error_threshold for all others.
_LEAP, _LEAP_ELSEWHERE = 10.0, 30 * 3600.0  # seconds
_MOST_FRAMES_MISSING = 10  # a recording of few frames a second leaps by more seconds
_SAME = 1e-3  # seconds; two times nearer to each other are equal
_RECENT = 25  # frames by which the time of one frame is known
_MAX_ASPECT = 4.0  # of a pixel; beyond, the file is wrong


class VideoWarning(UserWarning):
    """Some of a video was passed over, or its times are not those of the file."""


class Raw(NamedTuple):
    """A decoded frame.

    number: from 0, of the frames that can be decoded; seconds: since the first, rising; clip: from
    0, another wherever the clock of the file does not go on; picture: PyAV's frame; aspect: width
    of a pixel divided by its height.
    """

    number: int
    seconds: float
    clip: int
    picture: Any
    aspect: float


class Film:
    """The frames of one video stream, read from the beginning at each iteration.

    Damaged packets are passed over. `notes` says what the last iteration met.

    Args:
        path: the video.
        stream: which of its video streams, from 0; the first if None.

    Raises (when iterated):
        InputError: there is no such stream.
        av.FFmpegError, OSError: nothing can be read.
    """

    def __init__(self, path: Path, stream: int | None = None) -> None:
        self.path, self.stream = path, stream
        self.notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Raw]:
        av = pyav()
        # FFmpeg would turn a clock that steps back into one that leaps by 26.5 hours. With
        # `options`, PyAV before 18 crashes on files that do not list their streams (FLV).
        with av.open(str(self.path), container_options={"correct_ts_overflow": "0"}) as container:
            stream, others = chosen(self.path, container, self.stream)
            self.notes = others
            # With frame threads, PyAV gives none of the frames after damage near the end.
            stream.thread_type = "SLICE"
            reading = _Reading(container, stream)
            clock = _Clock(stream, container.format)
            aspect = _aspect(stream)
            number = -1
            try:
                for number, picture in enumerate(reading.pictures()):
                    reading.now = clock.seconds(picture.time)
                    yield Raw(number, reading.now, len(clock.joins), picture, aspect)
            finally:  # also if not all frames are wanted
                faults = [*reading.notes(number + 1), *clock.notes()]
                self.notes = (*others, *(f"{self.path}: {fault}" for fault in faults))
            if number < 0 and reading.stopped is not None:
                raise reading.stopped

    def warn(self) -> None:
        """Say what the last iteration met."""
        for note in self.notes:
            warnings.warn(note, VideoWarning, stacklevel=2)


class _Reading:
    """The pictures of a stream; now: seconds of the last one, set by the caller."""

    def __init__(self, container: Any, stream: Any) -> None:  # noqa: ANN401 - of a package that may be missing
        self._container, self._stream = container, stream
        self._damaged: list[float] = []
        self.now = 0.0
        self.stopped: Exception | None = None

    def pictures(self) -> Iterator[Any]:
        """PyAV's frames."""
        broken = (pyav().FFmpegError, OSError)
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except broken as error:
                self.stopped = error
                return
            try:
                pictures = packet.decode()
            except broken:
                self._damaged.append(self.now)
            else:
                yield from pictures

    def notes(self, count: int) -> Iterator[str]:
        """What was passed over, if `count` frames were read."""
        if self._damaged:
            yield (
                f"{len(self._damaged):,} damaged packets passed over ({_places(self._damaged)}), "
                f"{count:,} frames read"
            )
        if self.stopped is not None:
            yield f"cannot be read after {self.now:.2f} s ({self.stopped}); the rest is used"


class _Clock:
    """Seconds since the first frame, which go on where the times of the file do not."""

    def __init__(self, stream: Any, form: Any) -> None:  # noqa: ANN401
        self._rate = float(stream.average_rate or _RATE)
        discontinuous = pyav().format.Flags.ts_discont.value & int(form.flags)
        self._leap = _LEAP if discontinuous else _LEAP_ELSEWHERE
        self._steps: deque[float] = deque(maxlen=_RECENT)
        self._offset: float | None = None
        self._now = 0.0
        self._uneven = 0
        self.joins: list[float] = []

    def seconds(self, time: float | None) -> float:
        """The seconds of the next frame; time: in the file, None if it has none."""
        if self._offset is None:
            self._offset = -(time or 0.0)
            return 0.0
        step = median(self._steps) if self._steps else 1 / self._rate
        found = self._now + step if time is None else time + self._offset
        gap = found - self._now
        if gap < -PATIENCE or gap > max(self._leap, _MOST_FRAMES_MISSING * step):
            self.joins.append(self._now + step)
            self._offset += step - gap
            found = self._now + step
        elif gap < _SAME:  # the clock will catch up
            self._uneven += 1
            found = self._now + step
        else:
            self._steps.append(gap)
        self._now = found
        return found

    def notes(self) -> Iterator[str]:
        """Where the times of the file do not go on."""
        if self.joins:
            yield (
                f"its clock steps back or leaps {len(self.joins):,} times "
                f"({_places(self.joins)}); times go on from the frame before, and tracks end there"
            )
        if self._uneven:
            yield (
                f"{self._uneven:,} frames have no later time than the frame before; they are "
                "placed by the frame rate"
            )


def chosen(path: Path, container: Any, number: int | None) -> tuple[Any, tuple[str, ...]]:  # noqa: ANN401
    """A video stream of a container that PyAV opened, and a note if there are others.

    Raises:
        InputError: there is no such stream.
    """
    picture = pyav().stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & picture]
    if not streams:
        what = "only sound, no pictures" if len(container.streams) else "neither pictures nor sound"
        raise InputError(f"{path}: holds {what}; remove it")
    if not 0 <= (number or 0) < len(streams):
        raise InputError(
            f"stream: {path} has no video stream {number}; give one from 0 to {len(streams) - 1}"
        )
    if number is not None or len(streams) == 1:
        return streams[number or 0], ()
    listed = ", ".join(
        f"{row}: {each.codec_context.width} x {each.codec_context.height} {each.codec_context.name}"
        for row, each in enumerate(streams)
    )
    return streams[0], (
        f"{path}: holds {len(streams)} video streams ({listed}); stream 0 is read, --stream names "
        "another",
    )


def deep(form: str) -> bool:
    """Whether a pixel format, by FFmpeg's name, is grey with more than 8 bits."""
    return form in {f"gray{bits}{order}e" for bits in (9, 10, 12, 14, 16) for order in "lb"}


def values(raw: Raw, stretched: bool = True) -> npt.NDArray[Any]:
    """(H, W, 3) uint8 RGB, or (H, W) uint16 of grey of more than 8 bits; upright.

    Args:
        raw: the frame.
        stretched: with square pixels; the shorter side of a pixel becomes as long as the other.
    """
    picture = raw.picture
    form = "gray16le" if deep(picture.format.name) else "rgb24"
    width, height = picture.width, picture.height
    if stretched and raw.aspect != 1:
        width, height = round(width * max(1, raw.aspect)), round(height / min(1, raw.aspect))
        picture = picture.reformat(width=width, height=height, format=form)
    pixels = np.asarray(picture.to_ndarray(format=form))
    return np.ascontiguousarray(_turned(pixels, _matrix(raw.picture)))


def pyav() -> ModuleType:
    """The package PyAV.

    Raises:
        InputError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise InputError(
            'videos need the package PyAV; install it with pip install "visir[video]"'
        ) from None
    return av


def _matrix(picture: Any) -> tuple[int, int, int, int]:  # noqa: ANN401
    """a, b, c, d: (column, row) is displayed at (a column + c row, b column + d row)."""
    found = picture.side_data.get("DISPLAYMATRIX")
    if found is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = np.frombuffer(found, np.int32).tolist()
    return a, b, c, d


def _turned(pixels: npt.NDArray[Any], matrix: tuple[int, int, int, int]) -> npt.NDArray[Any]:
    """Turned by the nearest multiple of 90 degrees, and mirrored."""
    a, b, c, d = matrix
    across, down = a, d
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, across, down = pixels.swapaxes(0, 1), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


def _aspect(stream: Any) -> float:  # noqa: ANN401
    said = float(stream.sample_aspect_ratio or 1)
    return said if 1 / _MAX_ASPECT <= said <= _MAX_ASPECT else 1.0


def _places(seconds: Sequence[float]) -> str:
    listed = ", ".join(f"{each:.2f}" for each in seconds[:_SHOWN])
    more = len(seconds) - _SHOWN
    return f"at {listed} s" + (f" and {more:,} more" if more > 0 else "")
