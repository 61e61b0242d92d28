"""Crops in folders, arranged as a gallery is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from visir.core.types import Modality
from visir.data.locate import gallery_items
from visir.sources.crop import Crop, Settings, timestamp


class Listed(NamedTuple):
    """An image of a folder, in values JSON has."""

    path: str
    modality: str
    camera: str


def listed(root: Path, settings: Settings) -> list[Listed]:
    """The images below a folder, sorted by path.

    Raises:
        InputError: as `visir.gallery.gallery_items`.
    """
    found = []
    for record, camera, _ in gallery_items(root, settings.modality):
        kind = record.modality.value
        # A gallery calls a camera nobody named after the modality.
        named = settings.camera or camera if camera == kind else camera
        found.append(Listed(str(record.path), kind, named))
    return found


def crops(items: Iterable[Listed], settings: Settings) -> Iterator[Crop]:
    """These images as crops, not read yet."""
    for path, modality, camera in items:
        image = Path(path)
        stamp = timestamp(image.stem)
        yield Crop(path, image, camera, Modality(modality), stamp, settings.tags)
