"""The images of a folder: modality and camera of each, from the layout or the folder names."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops

from visir.core.types import InputError, Modality, Record
from visir.data import market
from visir.data.folder import FOLDER_NAMES, modality_folders
from visir.data.ranges import RangeBook, with_spans
from visir.data.registry import detect, open_layout
from visir.data.table import NO_TABLE, read_table
from visir.data.tree import image_tree

MODALITY_OF_FOLDER = {name: kind for kind, names in FOLDER_NAMES.items() for name in names}
# JPEG stores colour coarsely, so a grey picture comes back with channels a few levels apart.
GREY_TOLERANCE = 6.0


class Item(NamedTuple):
    """A gallery image. Identities of different ``subset``s differ, even with equal numbers.

    time (seconds since 1970) and tags: from the folder's `labels.csv`, if it says them.
    """

    record: Record
    camera: str
    subset: str
    time: float | None = None
    tags: tuple[str, ...] = ()


def gallery_items(
    root: Path,
    modality: Modality | None = None,
    book: RangeBook | None = None,
    camera: str | None = None,
) -> list[Item]:
    """All images of a gallery folder, sorted by path, with modality and camera.

    Time and tags are those of `labels.csv` in the folder (`visir.data.table`).

    Args:
        root: a data set in a known layout, or a folder of images in any nesting.
        modality: of images whose folder names do not say it (visible, rgb, infrared, ...).
        book: takes the ranges of cameras with more than 8 bits a pixel; a new one if None.
        camera: of images whose folders do not name it; their modality if None.

    Raises:
        InputError: there is no image, or the modality of one is not known.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"{root}: is not a folder; give the folder that holds the gallery")
    layout = _layout(root)
    items = _crops(root, modality) if layout is None else _data_set(root, layout)
    if not items:
        raise InputError(f"{root}: holds no image; give a folder with images in it")
    named = [item._replace(camera=_camera(item, camera)) for item in items]
    return _with_spans(root, named, book or RangeBook())


def _camera(item: Item, unnamed: str | None) -> str:
    return unnamed or item.camera if item.camera == item.record.modality.value else item.camera


def _with_spans(root: Path, items: Sequence[Item], book: RangeBook) -> list[Item]:
    """Items with the ranges of their cameras; `ranges.json` in the folder comes first."""
    book.says(root)
    numbers = {name: row for row, name in enumerate(sorted({item.camera for item in items}))}
    records = [item.record._replace(cam=numbers[item.camera]) for item in items]
    found = with_spans(records, {row: name for name, row in numbers.items()}, book)
    return [
        item._replace(record=item.record._replace(span=record.span))
        for item, record in zip(items, found, strict=True)
    ]


def _layout(root: Path) -> str | None:
    """The layout of a data set; None for a folder of crops, possibly of one modality."""
    try:
        layout = detect(root)
        if layout == "folder":
            modality_folders(root)
    except InputError:
        return None
    return layout


def _data_set(root: Path, layout: str) -> list[Item]:
    benchmark = open_layout(root, layout)
    images = [record.path for record in (*benchmark.train, *benchmark.test)]
    table = read_table(benchmark.root, images) if layout == "folder" else NO_TABLE
    found: dict[Path, Item] = {}
    for subset, records in (("train", benchmark.train), ("test", benchmark.test)):
        for record in records:
            camera = benchmark.cameras.get(record.cam, f"camera {record.cam}")
            people = "all" if layout == "folder" else subset
            known = table.of(record.path)
            item = Item(record, camera, people, known.time, known.tags)
            found.setdefault(record.path, item)
    return [found[path] for path in sorted(found)]


def _crops(root: Path, fallback: Modality | None) -> list[Item]:
    """Images of any nesting; the camera is the folder below the modality's, else the first."""
    paths = image_tree(root)
    table = read_table(root, paths)
    found = []
    for path in paths:
        said, camera = placed(path.relative_to(root).parent.parts)
        name = market.named(path)
        if name is not None and name.pid is None:
            continue
        pid = table.of(path).pid if name is None else name.pid
        camera = camera if name is None else f"c{name.cam}"
        modality = said or fallback
        if modality is None:
            raise InputError(
                f"{path}: no folder name says its modality; sort the images into "
                f"{root.name}/visible and {root.name}/infrared, or name the modality with "
                "--modality (in a search with --gallery-modality)"
            )
        found.append((path, pid, modality, table.of(path).camera or camera or modality.value))
    names = sorted({camera for *_, camera in found})
    numbers = {name: row for row, name in enumerate(names)}
    return [
        Item(
            Record(path, pid, numbers[camera], modality),
            camera,
            "gallery",
            table.of(path).time,
            table.of(path).tags,
        )
        for path, pid, modality, camera in found
    ]


def placed(folders: Sequence[str]) -> tuple[Modality | None, str | None]:
    """Modality and camera from the names of an image's folders.

    The modality is from the first folder named after one; the camera is the folder below it, or the
    first folder if none is named after a modality.
    """
    kinds = [MODALITY_OF_FOLDER.get(name.lower()) for name in folders]
    at = next((place for place, kind in enumerate(kinds) if kind is not None), None)
    below = folders if at is None else folders[at + 1 :]
    return None if at is None else kinds[at], below[0] if below else None


def modality_by_colour(picture: Image.Image) -> Modality:
    """Infrared if the three channels are nearly equal almost everywhere, visible otherwise."""
    red, green, blue = picture.split()
    high = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    low = ImageChops.darker(ImageChops.darker(red, green), blue)
    # The 95th percentile of the spread, as of numpy, from the counts of its 256 values.
    reached = list(accumulate(ImageChops.subtract(high, low).histogram()))
    place = 0.95 * (reached[-1] - 1)
    below, above = (bisect_right(reached, count) for count in (int(place), math.ceil(place)))
    spread = below + (place - int(place)) * (above - below)
    return Modality.INFRARED if spread <= GREY_TOLERANCE else Modality.VISIBLE


def modality_named(name: str | None, field: str) -> Modality | None:
    """The modality of a user's word.

    Raises:
        InputError: there is no such modality.
    """
    if name is None:
        return None
    try:
        return Modality(name)
    except ValueError:
        raise InputError(f"{field}: {name!r} is unknown; use visible or infrared") from None
