"""A crop of one person, and what all sources share: reading options and capture times."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from visir.core.names import is_utf8
from visir.core.times import parse_time
from visir.core.types import ByteArray, InputError, Modality, Span
from visir.data.boxes import Format
from visir.data.images import read_image
from visir.data.locate import modality_named
from visir.data.tree import excluded

_EXIF_IFD, _TAKEN, _ZONE = 0x8769, 0x9003, 0x9011  # DateTimeOriginal, OffsetTimeOriginal
_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)[T_ -]?"
    r"(\d\d)([-:_.]?)(\d\d)\6(\d\d)(?!\d)([.,]\d{1,6}(?!\d))?(Z|[+-]\d\d:\d\d)?"
)


class Crop(NamedTuple):
    """One image of one person.

    source: a unique name; image: (H, W, 3) uint8 RGB, or the file to read it from; time: seconds
    since 1970, UTC; None if unknown; track: the same for crops of one track, and for no others of
    its camera; None if unknown; span: of its camera, for a file of more than 8 bits a pixel.
    """

    source: str
    image: ByteArray | Path
    camera: str
    modality: Modality
    time: float | None = None
    tags: tuple[str, ...] = ()
    track: str | None = None
    span: Span | None = None


class Entry(NamedTuple):
    """The metadata of an image that is stored in a gallery.

    source: a path or another name, unique in a gallery; time: seconds since 1970, UTC; None if
    unknown; thumbnail: a small JPEG; mark: of its file's content, see
    `visir.sources.marks`.
    """

    source: str
    camera: str
    modality: Modality
    time: float | None = None
    tags: tuple[str, ...] = ()
    thumbnail: bytes | None = None
    mark: str | None = None


class Broken(NamedTuple):
    """A crop that cannot be read; `reason` is a sentence that names the source."""

    source: str
    reason: str

    def error(self) -> InputError:
        """The reason as an error that also names the option for skipping broken images."""
        return InputError(f"{self.reason}, or skip broken images with --skip-broken")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How inputs are read.

    modality: of images whose folder, shard or video does not say it; camera: the same; tags: added
    to every crop; every: seconds between the frames of a video that a detector looks at; stream:
    which stream of a video, from 0, the first if None; detector: hog, or the file of a
    network, .pth or .onnx; crops: maximum number of crops of each track, all if None; boxes: a file
    of boxes made elsewhere, of the only input; format, label: as `visir.data.boxes.read_boxes`;
    start: time of the first frame, seconds since 1970; fps: frames in a second, of folders of
    frames; exclude: names of images in folders of crops and shards that are left out.
    """

    modality: Modality | None = None
    camera: str | None = None
    tags: tuple[str, ...] = ()
    every: float = 0.2
    stream: int | None = None
    detector: Path | None = None
    crops: int | None = 3
    boxes: Path | None = None
    format: Format | Literal["auto"] = "auto"
    label: tuple[str, ...] = ()
    start: float | None = None
    fps: float | None = None
    exclude: frozenset[str] = frozenset()

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return {
            **asdict(self),
            "modality": None if self.modality is None else self.modality.value,
            "tags": [*self.tags],
            "label": [*self.label],
            "exclude": sorted(self.exclude),
            "detector": None if self.detector is None else str(self.detector),
            "boxes": None if self.boxes is None else str(self.boxes),
        }


DEFAULT_OPTIONS = ReadOptions()


def read_options(
    modality: str | None,
    camera: str | None,
    tag: tuple[str, ...],
    every: float,
    detector: Path | None,
    crops: int | None,
    boxes: Path | None,
    format: Format | Literal["auto"],
    label: tuple[str, ...],
    start: str | None,
    fps: float | None,
    stream: int | None,
    exclude_list: Path | None = None,
) -> ReadOptions:
    """The options as commands take them, with modality and start as words.

    Raises:
        InputError: there is no such modality, start is not a time, or the list cannot be read.
    """
    return ReadOptions(
        modality_named(modality, "modality"),
        camera,
        tag,
        every,
        stream,
        detector,
        crops,
        boxes,
        format,
        label,
        None if start is None else parse_time(start, "start"),
        fps,
        excluded(exclude_list),
    )


def require_count(settings: ReadOptions) -> None:
    """Check the number of crops of a track.

    Raises:
        InputError: it is below 1.
    """
    if settings.crops is not None and settings.crops < 1:
        raise InputError(f"crops: must be 1 or more per person, got {settings.crops}")


def opened(crop: Crop) -> Crop | Broken:
    """Read the pixels of a crop, and its time from EXIF if it has none."""
    if not is_utf8(crop.source + crop.camera):
        return Broken(crop.source, f"{crop.source}: the name is not UTF-8; rename it")
    if not isinstance(crop.image, Path):
        return crop
    try:
        picture = read_image(crop.image, crop.modality, crop.span)
    except InputError as error:
        return Broken(crop.source, str(error))
    time = exif_time(picture) if crop.time is None else crop.time
    return crop._replace(image=np.asarray(picture), time=time)


def timestamp(name: str) -> float | None:
    """Read the time in a name (20260131_235959, 2026-01-31T23:59:59Z) as seconds since 1970.

    The first valid date is used. A time without a zone is taken as UTC.
    """
    for match in _STAMP.finditer(name):
        year, _, month, day, hour, _, minute, second, fraction, zone = match.groups()
        text = f"{year}-{month}-{day}T{hour}:{minute}:{second}{zone or 'Z'}"
        try:
            moment = datetime.fromisoformat(text).timestamp()
        except ValueError:
            continue
        return moment + float(f"0.{fraction[1:]}" if fraction else 0)
    return None


def exif_time(picture: Image.Image) -> float | None:
    """Read DateTimeOriginal as seconds since 1970; a time without a zone is taken as UTC."""
    try:
        facts = picture.getexif().get_ifd(_EXIF_IFD)
        moment = datetime.strptime(str(facts[_TAKEN]), "%Y:%m:%d %H:%M:%S")
        zone = datetime.strptime(str(facts[_ZONE]), "%z").tzinfo if _ZONE in facts else UTC
    except Exception:  # damaged EXIF raises exceptions without a common base class
        return None
    return moment.replace(tzinfo=zone).timestamp()
