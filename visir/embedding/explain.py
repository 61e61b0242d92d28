"""Explain a similarity: the loss of cosine when a region of one image is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from visir.core.types import FloatArray, InputError, Modality
from visir.data.images import resized

if TYPE_CHECKING:
    from visir.embedding.base import ImageEmbedder

_HEAT = (255, 176, 0)
_MAX_OPACITY = 130  # of 255
_MIN_SCALE = 0.05  # cosine; a map whose largest drop is smaller stays pale


def occlusion_map(
    embedder: ImageEmbedder,
    image: Image.Image,
    modality: Modality,
    against_D: FloatArray,
    grid: tuple[int, int] = (8, 4),
) -> FloatArray:
    """Measure the contribution of each region to the cosine (Zeiler and Fergus, ECCV 2014).

    Each region in turn is filled with the mean colour of the image, together with half of each
    neighbouring region, so that the edges of the grid do not show.

    Args:
        embedder: any embedder.
        image: RGB, of any size.
        modality: the type of camera that took it.
        against_D: (D,) unit embedding it is compared with.
        grid: number of regions, (rows, columns).

    Returns:
        (rows, columns) decrease of the cosine; negative if hiding the region increases it.

    Raises:
        InputError: the grid has no regions, or more than the image has pixels.
    """
    rows, columns = grid
    height, width = embedder.size
    if not (0 < rows <= height and 0 < columns <= width):
        raise InputError(
            f"grid: {rows} x {columns} regions, but the image has {height} x {width} pixels; "
            "give 1 or more, and at most one per pixel"
        )
    pixels = resized(image, embedder.size)
    hidden = np.repeat(pixels[None], rows * columns, axis=0)
    mean = pixels.reshape(-1, 3).mean(axis=0).astype(np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, bottom = _span(row, rows, height)
            left, right = _span(column, columns, width)
            hidden[row * columns + column, top:bottom, left:right] = mean
    found = embedder.embed([pixels, *hidden], modality)
    scores = found @ np.asarray(against_D, np.float32)
    return np.asarray((scores[0] - scores[1:]).reshape(grid), np.float32)


def overlay(drops: FloatArray, size: tuple[int, int]) -> Image.Image:
    """Draw a map as a layer over a picture: the more opaque, the larger the contribution.

    Args:
        drops: (rows, columns) of `occlusion_map`.
        size: (height, width) of the layer, in pixels.

    Returns:
        RGBA.
    """
    share = np.clip(drops / max(float(drops.max()), _MIN_SCALE), 0, 1)
    alpha = Image.fromarray((share * _MAX_OPACITY).astype(np.uint8))
    alpha = alpha.resize(size[::-1], Image.Resampling.BICUBIC)
    layer = Image.new("RGBA", alpha.size, (*_HEAT, 0))
    layer.putalpha(alpha)
    return layer


def _span(region: int, regions: int, length: int) -> tuple[int, int]:
    """First and last pixel of a region with half of each neighbour."""
    step = length / regions
    return max(0, round((region - 0.5) * step)), min(length, round((region + 1.5) * step))
