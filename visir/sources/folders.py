"""Read crops from folders arranged like a gallery folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from visir.core.types import Modality
from visir.data.locate import gallery_items
from visir.data.ranges import RangeBook, Ranges, name_of
from visir.data.tree import is_excluded
from visir.sources.crop import Crop, ReadOptions, timestamp


class Listed(NamedTuple):
    """An image of a folder, as JSON values."""

    path: str
    modality: str
    camera: str
    time: float | None = None
    tags: Sequence[str] = ()


def listed(root: Path, settings: ReadOptions, book: RangeBook) -> list[Listed]:
    """List the images below a folder, sorted by path; `book` takes the ranges of their cameras.

    Raises:
        InputError: as `visir.data.locate.gallery_items`.
    """
    found = gallery_items(root, settings.modality, book, settings.camera)
    return [
        Listed(str(record.path), record.modality.value, camera, time, tags)
        for record, camera, _, time, tags in found
        if not is_excluded(record.path, root, settings.exclude)
    ]


def crops(items: Iterable[Listed], settings: ReadOptions, ranges: Ranges) -> Iterator[Crop]:
    """Turn listed images into crops whose files are not read yet; `ranges` are of their cameras."""
    for path, modality, camera, time, tags in items:
        image = Path(path)
        yield Crop(
            path,
            image,
            camera=camera,
            modality=Modality(modality),
            time=timestamp(image.stem) if time is None else time,
            tags=tuple(dict.fromkeys((*settings.tags, *tags))),
            span=ranges.get(name_of(Modality(modality), camera)),
        )
