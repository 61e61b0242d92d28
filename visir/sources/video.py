"""Read crops of the people in a video: detect them per frame, track them, cut out the best."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

from visir.core.types import ByteArray, InputError, Modality
from visir.data.locate import modality_by_colour, placed
from visir.sources.crop import Broken, Crop, ReadOptions, timestamp
from visir.sources.tracks import Box, picks, tracks

if TYPE_CHECKING:
    from visir.sources.detector import Detector

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")
_PATIENCE = 1.0  # seconds a person may be hidden inside one track
_MIN_STEP = 0.02  # seconds; frames are named by hundredths of a second


class Frame(NamedTuple):
    """A frame of a video: seconds since the first frame, and (H, W, 3) uint8 RGB."""

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
    if settings.crops < 1:
        raise InputError(f"crops: must be 1 or more per person, got {settings.crops}")
    _pyav()


def crops(path: Path, settings: ReadOptions, detect: Detector) -> Iterator[Crop | Broken]:
    """Read a few crops of each person in a video.

    The video is read twice, first for the boxes and then for the pixels of the chosen ones, so
    that only one frame is in memory.
    """
    av = _pyav()
    try:
        yield from _crops(path, settings, detect)
    except (av.FFmpegError, OSError) as error:
        yield Broken(
            str(path), f"{path}: the video is cut short or damaged ({error}); replace or remove it"
        )
    except InputError as error:
        yield Broken(str(path), str(error))


def frames(path: Path, every: float) -> Iterator[Frame]:
    """Yield the first frame of a video, then the first of each `every` seconds, turned upright.

    Raises:
        InputError: the file has no video stream.
    """
    with _pyav().open(str(path)) as container:
        if not container.streams.video:
            raise InputError(f"{path}: holds only sound, no pictures; remove it")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 25)
        start, due = None, 0
        for number, frame in enumerate(container.decode(stream)):
            time = number / rate if frame.time is None else frame.time
            start = time if start is None else start
            step = floor((time - start) / every + 1e-6)
            if step >= due:
                due = step + 1
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                yield Frame(time - start, np.ascontiguousarray(pixels))


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError:
        raise InputError(
            'videos need the package PyAV; install it with pip install "visir[video]"'
        ) from None
    return av


def _crops(path: Path, settings: ReadOptions, detect: Detector) -> Iterator[Crop]:
    found: list[list[Box]] = []
    grey = 0
    size = (0, 0)
    for _, pixels in frames(path, settings.every):
        found.append(detect(pixels))
        grey += modality_by_colour(Image.fromarray(pixels[::4, ::4])) is Modality.INFRARED
        size = pixels.shape[:2]
    if not found:
        raise InputError(f"{path}: no frame can be read; replace or remove the video")
    by_folder, folder = placed(path.parent.parts[-2:])
    by_colour = Modality.INFRARED if 2 * grey > len(found) else Modality.VISIBLE
    modality = by_folder or settings.modality or by_colour
    camera = (folder if by_folder else None) or settings.camera or path.stem
    stamp = timestamp(path.stem)
    chosen: list[list[tuple[int, Box]]] = [[] for _ in found]
    gap = round(_PATIENCE / settings.every)
    for number, track in enumerate(tracks(found, gap), start=1):
        for frame, box in picks(track, size, settings.crops):
            chosen[frame].append((number, box))
    for wanted, (seconds, pixels) in zip(chosen, frames(path, settings.every), strict=True):
        for number, box in wanted:
            yield Crop(
                source=f"{path}::track {number} @ {seconds:.2f}s",
                image=_cut(pixels, box),
                camera=camera,
                modality=modality,
                time=None if stamp is None else stamp + seconds,
                tags=settings.tags,
            )


def _cut(pixels: ByteArray, box: Box) -> ByteArray:
    """The pixels a box touches."""
    height, width = pixels.shape[:2]
    left, top = max(0, floor(box.left)), max(0, floor(box.top))
    right, bottom = min(width, ceil(box.right)), min(height, ceil(box.bottom))
    return pixels[top:bottom, left:right].copy()
