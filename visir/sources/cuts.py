"""Cut boxes out of frames, wherever the boxes come from: a detector, or a file made elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from math import ceil, floor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from visir.core.types import ByteArray, InputError, Modality
from visir.data.images import read_image
from visir.data.locate import modality_by_colour
from visir.data.ranges import NONE, Ranges, name_of
from visir.sources.crop import Broken, Crop, exif_time
from visir.sources.tracks import Box

ROUNDING = 1e-3
"""Pixels; an edge that was written with few decimals does not touch the next pixel."""


class Cut(NamedTuple):
    """A crop that is still in its frame, as JSON values.

    source: of the crop; file: image file of the frame, or video; frame: number of the frame in a
    video, from 0; left, top, right, bottom: edges in whole pixels, right and bottom excluded;
    modality: None if the frame's colours say it; time: of the frame, seconds since 1970, None if
    unknown; for a video of its first frame; track: as `Crop`; fault: why there is nothing to cut.
    """

    source: str
    file: str
    frame: int
    left: int
    top: int
    right: int
    bottom: int
    camera: str
    modality: str | None = None
    time: float | None = None
    track: str | None = None
    fault: str = ""


def pixels_of(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that a box touches; size: (height, width)."""
    height, width = size
    left, top = floor(box.left + ROUNDING), floor(box.top + ROUNDING)
    right, bottom = ceil(box.right - ROUNDING), ceil(box.bottom - ROUNDING)
    return max(0, left), max(0, top), min(width, right), min(height, bottom)


def modality_of(cut: Cut) -> Modality:
    """The modality by which a frame is read: infrared if only its colours say it.

    It matters for frames of more than 8 bits and of several pages, and the deep ones are grey.
    """
    return Modality.INFRARED if cut.modality is None else Modality(cut.modality)


def range_name(cut: Cut) -> str:
    """What its camera is called in `visir.data.ranges`."""
    return name_of(modality_of(cut), cut.camera)


def from_images(
    cuts: Iterable[Cut], tags: tuple[str, ...], ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Cut out of image files; each is read once if its cuts follow each other.

    Args:
        cuts: what to cut out.
        tags: of every crop.
        ranges: of cameras with more than 8 bits a pixel.
    """
    for file, of_file in groupby(cuts, key=lambda cut: cut.file):
        group = [*of_file]
        yield from (Broken(cut.source, cut.fault) for cut in group if cut.fault)
        whole = [cut for cut in group if not cut.fault]
        if not whole:
            continue
        try:
            said = None if whole[0].modality is None else Modality(whole[0].modality)
            picture = read_image(Path(file), said, ranges.get(range_name(whole[0])))
        except InputError as error:
            yield from (Broken(cut.source, str(error)) for cut in whole)
            continue
        taken = exif_time(picture)
        yield from cut_out(
            np.asarray(picture),
            [cut._replace(time=taken) if cut.time is None else cut for cut in whole],
            tags,
        )


def cut_out(pixels: ByteArray, cuts: Iterable[Cut], tags: tuple[str, ...]) -> Iterator[Crop]:
    """Cut out of the pixels of one frame."""
    by_colour: Modality | None = None
    for cut in cuts:
        if cut.modality is None and by_colour is None:
            by_colour = modality_by_colour(Image.fromarray(pixels[::4, ::4]))
        modality = by_colour if cut.modality is None else Modality(cut.modality)
        assert modality is not None
        yield Crop(
            cut.source,
            pixels[cut.top : cut.bottom, cut.left : cut.right].copy(),
            camera=cut.camera,
            modality=modality,
            time=cut.time,
            tags=tags,
            track=cut.track,
        )
