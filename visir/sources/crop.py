"""A crop of one person, and what all sources share: how it is read, and when it was taken."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from visir.core.types import ByteArray, InputError, Modality
from visir.data.images import read_image

_EXIF_IFD, _TAKEN, _ZONE = 0x8769, 0x9003, 0x9011  # DateTimeOriginal, OffsetTimeOriginal
_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d\d)([-_.]?)(\d\d)\2(\d\d)[T_ -]?"
    r"(\d\d)([-:_.]?)(\d\d)\6(\d\d)(?!\d)([.,]\d{1,6}(?!\d))?(Z|[+-]\d\d:\d\d)?"
)


class Crop(NamedTuple):
    """One image of one person.

    source: a name nothing else has; image: (H, W, 3) uint8 RGB, or the file to read it from; time:
    seconds since 1970, UTC; None where nobody knows.
    """

    source: str
    image: ByteArray | Path
    camera: str
    modality: Modality
    time: float | None = None
    tags: tuple[str, ...] = ()


class Entry(NamedTuple):
    """An image to be kept: where it came from and what is known of it.

    source: a path or another name, unique in a gallery; time: seconds since 1970, UTC; None where
    nobody knows; thumbnail: a small JPEG.
    """

    source: str
    camera: str
    modality: Modality
    time: float | None = None
    tags: tuple[str, ...] = ()
    thumbnail: bytes | None = None


class Broken(NamedTuple):
    """What should have been a crop and cannot be read; the reason is a sentence and names it."""

    source: str
    reason: str

    def error(self) -> InputError:
        """The reason as an error, which also says how to go on without."""
        return InputError(f"{self.reason}, or pass over what is broken with --skip-broken")


@dataclass(frozen=True, slots=True)
class Settings:
    """How inputs are read.

    modality: of images nothing else says it of; camera: the same; tags: given to every crop;
    every: seconds between the frames of a video that are looked at; detector: a torchvision
    detector's COCO weights; crops: how many a person followed through a video gives at most.
    """

    modality: Modality | None = None
    camera: str | None = None
    tags: tuple[str, ...] = ()
    every: float = 0.2
    detector: Path | None = None
    crops: int = 3

    def as_json(self) -> dict[str, Any]:
        """The settings in values JSON has."""
        return {
            **asdict(self),
            "modality": self.modality and self.modality.value,
            "tags": [*self.tags],
            "detector": self.detector and str(self.detector),
        }


PLAIN = Settings()


def opened(crop: Crop) -> Crop | Broken:
    """The crop with its pixels read, and its time from EXIF where it had none."""
    if not isinstance(crop.image, Path):
        return crop
    try:
        picture = read_image(crop.image)
    except InputError as error:
        return Broken(crop.source, str(error))
    time = exif_time(picture) if crop.time is None else crop.time
    return crop._replace(image=np.asarray(picture), time=time)


def timestamp(name: str) -> float | None:
    """The moment a name says (20260131_235959, 2026-01-31T23:59:59Z), as seconds since 1970.

    Where no zone stands with it, it is taken as UTC. The first one that is a real date counts.
    """
    for match in _STAMP.finditer(name):
        year, _, month, day, hour, _, minute, second, part, zone = match.groups()
        text = f"{year}-{month}-{day}T{hour}:{minute}:{second}{zone or 'Z'}"
        try:
            moment = datetime.fromisoformat(text).timestamp()
        except ValueError:
            continue
        return moment + float(f"0.{part[1:]}" if part else 0)
    return None


def exif_time(picture: Image.Image) -> float | None:
    """DateTimeOriginal, as seconds since 1970; as UTC where no zone stands with it."""
    try:
        facts = picture.getexif().get_ifd(_EXIF_IFD)
        moment = datetime.strptime(str(facts[_TAKEN]), "%Y:%m:%d %H:%M:%S")
        zone = datetime.strptime(str(facts[_ZONE]), "%z").tzinfo if _ZONE in facts else UTC
    except Exception:  # damaged EXIF raises many kinds without a common base
        return None
    return moment.replace(tzinfo=zone).timestamp()
