"""Where two images are alike: what is lost when a part of one is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from visir.core.types import FloatArray, InputError, Modality
from visir.data.images import resized

if TYPE_CHECKING:
    from visir.embedding.base import Embeds

_HEAT = (255, 176, 0)
_DENSEST = 130  # opacity, of 255
_FAINTEST = 0.05  # a drop of the cosine below which a map stays pale


def occlusion_map(
    embedder: Embeds,
    image: Image.Image,
    modality: Modality,
    against_D: FloatArray,
    grid: tuple[int, int] = (8, 4),
) -> FloatArray:
    """How much of a likeness each part of an image carries (Zeiler and Fergus, ECCV 2014).

    Each part in turn is painted over with the image's mean colour, and its neighbours' halves with
    it, so that no edge of the grid shows.

    Args:
        embedder: any embedder.
        image: RGB, of any size.
        modality: the kind of camera that took it.
        against_D: (D,) unit descriptor it is compared with.
        grid: (rows, columns) of parts.

    Returns:
        (rows, columns) what the cosine loses; below zero where hiding makes them more alike.

    Raises:
        InputError: a grid without parts, or finer than the image.
    """
    rows, columns = grid
    height, width = embedder.size
    if not (0 < rows <= height and 0 < columns <= width):
        raise InputError(f"grid: {rows} x {columns} parts of {height} x {width} pixels; give fewer")
    pixels = resized(image, embedder.size)
    hidden = np.repeat(pixels[None], rows * columns, axis=0)
    mean = pixels.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, bottom = _stretch(row, rows, height)
            left, right = _stretch(column, columns, width)
            hidden[row * columns + column, top:bottom, left:right] = mean
    found = embedder.embed([pixels, *hidden], modality)
    scores = found @ np.asarray(against_D, np.float32)
    return np.asarray((scores[0] - scores[1:]).reshape(grid), np.float32)


def overlay(drops: FloatArray, size: tuple[int, int]) -> Image.Image:
    """A layer to lie on a picture: the more opaque, the more that part makes the two alike.

    Args:
        drops: (rows, columns) of `occlusion_map`.
        size: (height, width) of the layer, in pixels.

    Returns:
        RGBA.
    """
    share = np.clip(drops / max(float(drops.max()), _FAINTEST), 0, 1)
    alpha = Image.fromarray((share * _DENSEST).astype(np.uint8))
    alpha = alpha.resize(size[::-1], Image.Resampling.BICUBIC)
    layer = Image.new("RGBA", alpha.size, (*_HEAT, 0))
    layer.putalpha(alpha)
    return layer


def _stretch(part: int, parts: int, length: int) -> tuple[int, int]:
    """Where a part and half of each neighbour begin and end."""
    step = length / parts
    return max(0, round((part - 0.5) * step)), min(length, round((part + 1.5) * step))
