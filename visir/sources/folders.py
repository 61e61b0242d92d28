"""Read crops from folders arranged like a gallery folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from visir.core.types import Modality
from visir.data.locate import gallery_items
from visir.sources.crop import Crop, ReadOptions, timestamp


class Listed(NamedTuple):
    """An image of a folder, as JSON values."""

    path: str
    modality: str
    camera: str
    time: float | None = None
    tags: Sequence[str] = ()


def listed(root: Path, settings: ReadOptions) -> list[Listed]:
    """List the images below a folder, sorted by path.

    Raises:
        InputError: as `visir.data.locate.gallery_items`.
    """
    found = []
    for record, camera, _, time, tags in gallery_items(root, settings.modality):
        modality = record.modality.value
        if camera == modality:  # no folder names the camera
            camera = settings.camera or camera
        found.append(Listed(str(record.path), modality, camera, time, tags))
    return found


def crops(items: Iterable[Listed], settings: ReadOptions) -> Iterator[Crop]:
    """Turn listed images into crops whose files are not read yet."""
    for path, modality, camera, time, tags in items:
        image = Path(path)
        yield Crop(
            path,
            image,
            camera=camera,
            modality=Modality(modality),
            time=timestamp(image.stem) if time is None else time,
            tags=tuple(dict.fromkeys((*settings.tags, *tags))),
        )
