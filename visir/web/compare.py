"""Two images beside each other, and what makes them alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from visir.core.types import FloatArray, InputError, Modality
from visir.web.pictures import opened
from visir.web.schemas import Compared, Comparison, Item, Pair
from visir.web.service import Finder, Look, item_of
from visir.web.uploads import Upload

GRID = (8, 4)


class Shown(NamedTuple):
    """One of two images; map: (rows, columns) drops of the cosine, None where there is none."""

    look: Look
    item: Item | None
    picture: Image.Image | None
    map: FloatArray | None


def compared(
    finder: Finder, uploads: Sequence[Upload], pair: Pair
) -> tuple[Comparison, tuple[Shown, Shown]]:
    """Compare two images, those sent first.

    Raises:
        InputError: not two images, or one is not there.
    """
    if len(uploads) + len(pair.items) != 2:
        raise InputError("images, items: give two images to compare, sent or of the gallery")
    looks = [*finder.look_at(uploads, pair.modality), *finder.look_up(pair.items)]
    known = finder.store.get(list(pair.items))
    items = [None] * len(uploads) + [item_of(known[item]) for item in pair.items]
    pictures = [upload.picture for upload in uploads] + [
        None if jpeg is None else opened(jpeg) for jpeg in map(finder.store.thumbnail, pair.items)
    ]
    cosine = float(looks[0].vector.astype(np.float64) @ looks[1].vector)
    scored = finder.score(np.array([cosine], np.float32), pair.searched)
    maps = [None, None] if not pair.maps else _maps(finder, looks, pictures)
    first, second = (Shown(*side) for side in zip(looks, items, pictures, maps, strict=True))
    sides = (_side(first), _side(second))
    return Comparison(sides, float(scored[0]), cosine, finder.threshold), (first, second)


def _maps(
    finder: Finder, looks: Sequence[Look], pictures: Sequence[Image.Image | None]
) -> list[FloatArray | None]:
    """For each image, how its parts matter for being like the other."""
    from visir.embedding.explain import occlusion_map

    found = []
    for own, other, picture in zip(looks, reversed(looks), pictures, strict=True):
        kind = Modality(own.query.modality)
        found.append(
            None
            if picture is None
            else occlusion_map(finder.embedder, picture, kind, other.vector, grid=GRID)
        )
    return found


def _side(shown: Shown) -> Compared:
    rows = None if shown.map is None else tuple(tuple(map(float, row)) for row in shown.map)
    return Compared(shown.look.query.modality, shown.item, shown.look.query.sha256, rows)
