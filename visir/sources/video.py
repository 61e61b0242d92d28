"""Crops of the people in a video: found frame by frame, followed, and cut out at their best."""

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
from visir.sources.crop import Broken, Crop, Settings, timestamp
from visir.sources.tracks import Box, picks, tracks

if TYPE_CHECKING:
    from visir.sources.detector import Detector

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")
_PATIENCE = 1.0  # seconds a person may be hidden and still be the same
_LEAST_STEP = 0.02  # seconds; frames are named by hundredths


class Frame(NamedTuple):
    """A picture of a video: seconds since its first, and (H, W, 3) uint8 RGB."""

    seconds: float
    pixels: ByteArray


def require(path: Path, settings: Settings) -> None:
    """Refuse a video that cannot be searched for people, before anything is done.

    Raises:
        InputError: no PyAV, no detector, or settings out of range.
    """
    if settings.detector is None:
        raise InputError(
            f"{path}: people in a video are found by a detector, which visir does not bring; give "
            "a file of torchvision's COCO weights with --detector (such as that of "
            "fasterrcnn_resnet50_fpn_v2), or cut the people out yourself and give the folder of "
            "crops, which needs none"
        )
    if not settings.every >= _LEAST_STEP:
        raise InputError(f"every: {settings.every} seconds; give {_LEAST_STEP} or more")
    if settings.crops < 1:
        raise InputError(f"crops: {settings.crops} of each person; give 1 or more")
    _pyav()


def crops(path: Path, settings: Settings, detect: Detector) -> Iterator[Crop | Broken]:
    """The people in a video, a few crops of each.

    The video is read twice, so that no more than a frame is held: for the boxes, then for the
    pixels of those chosen.
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
    """The first picture of a video, and the first of each `every` seconds after it, upright.

    Raises:
        InputError: there is no picture in it.
    """
    with _pyav().open(str(path)) as container:
        if not container.streams.video:
            raise InputError(f"{path}: holds no pictures, only sound; remove it")
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
            'videos: reading them needs PyAV; install it with pip install "visir[video]"'
        ) from None
    return av


def _crops(path: Path, settings: Settings, detect: Detector) -> Iterator[Crop]:
    found: list[list[Box]] = []
    grey = 0
    size = (0, 0)
    for _, pixels in frames(path, settings.every):
        found.append(detect(pixels))
        grey += modality_by_colour(Image.fromarray(pixels[::4, ::4])) is Modality.INFRARED
        size = pixels.shape[:2]
    if not found:
        raise InputError(f"{path}: no picture in it can be read; replace or remove it")
    said, folder = placed(path.parent.parts[-2:])
    judged = Modality.INFRARED if 2 * grey > len(found) else Modality.VISIBLE
    camera = (folder if said else None) or settings.camera or path.stem
    stamp = timestamp(path.stem)
    chosen: list[list[tuple[int, Box]]] = [[] for _ in found]
    gap = round(_PATIENCE / settings.every)
    for number, track in enumerate(tracks(found, gap), start=1):
        for frame, box in picks(track, size, settings.crops):
            chosen[frame].append((number, box))
    for wanted, (seconds, pixels) in zip(chosen, frames(path, settings.every), strict=True):
        for number, box in wanted:
            yield Crop(
                f"{path}::track {number} @ {seconds:.2f}s",
                _cut(pixels, box),
                camera,
                said or settings.modality or judged,
                None if stamp is None else stamp + seconds,
                settings.tags,
            )


def _cut(pixels: ByteArray, box: Box) -> ByteArray:
    """The pixels a box touches."""
    height, width = pixels.shape[:2]
    left, top = max(0, floor(box.left)), max(0, floor(box.top))
    right, bottom = min(width, ceil(box.right)), min(height, ceil(box.bottom))
    return pixels[top:bottom, left:right].copy()
