"""Rays of pixels against solids: the nearest solid behind every pixel of an image."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from visir.core.types import IntArray
from visir.synth.body import Solids

Array = npt.NDArray[np.float64]
Depths = npt.NDArray[np.int32]

EMPTY = np.iinfo(np.int32).max
INDEX_MASK = 63  # the lowest bits of a depth hold the number of the solid
_CORNERS = np.array(list(product((-1.0, 1.0), repeat=3)))  # (8, 3)


class Views(NamedTuple):
    """B cameras: p = rotation·(b − centre) + (0, 0, distance); pixel = focal·p/p_z + origin.

    rotation (B, 3, 3); distance (B,); focal (B,): pixels; origin (B, 2): x, y, pixels.
    """

    rotation: Array
    distance: Array
    focal: Array
    origin: Array


class Placed(NamedTuple):
    """`Solids` in the camera's frame: B people, P solids.

    axes (B, P, 3, 3): the rows are the solid's axes in the camera's frame; start (B, P, 3): the
    camera's position in the solid's frame; box (B, P, 4): the pixels it may touch, as first column,
    one after the last column, first row, one after the last row; the rest as in `Solids`.
    """

    axes: Array
    start: Array
    box: IntArray
    squares: Array
    slope: Array
    clip: Array
    level: Array
    radius: Array
    material: IntArray
    part: IntArray


class _Outlines(NamedTuple):
    """The equation of every solid in the coordinates (column, row, 1) of a pixel p.

    Along the ray t·d of a pixel a solid is A t² + 2 B t + C = 0. form (B, P, 3, 3):
    B² − AC = pᵀ form p; slant (B, P, 3): B = slant · p; axial (B, P, 3): the z of d in the solid's
    frame is axial · p; constant (B, P): C.
    """

    form: Array
    slant: Array
    axial: Array
    constant: Array


def place(solids: Solids, views: Views, size: tuple[int, int]) -> Placed:
    """Move solids into the frames of their cameras; `size` is (height, width) in pixels."""
    axes = solids.axes @ views.rotation.transpose(0, 2, 1)[:, None]
    centre = (views.rotation[:, None] @ (solids.centre - (0.0, 0.5, 0.0))[..., None])[..., 0]
    centre[..., 2] += views.distance[:, None]
    corners = centre[:, :, None] + (_CORNERS * solids.extent[:, :, None]) @ axes
    flat = corners[..., :2] / np.maximum(corners[..., 2:], 0.1) * views.focal[:, None, None, None]
    flat += views.origin[:, None, None]
    limit = np.array(size[::-1])
    low = np.clip(np.floor(flat.min(2)), 0, limit)
    high = np.clip(np.ceil(flat.max(2)), 0, limit) * solids.on[..., None]
    return Placed(
        axes,
        start=-(axes @ centre[..., None])[..., 0],
        box=np.stack([low, high], -1).reshape(*solids.on.shape, 4).astype(np.int64),
        squares=solids.squares,
        slope=solids.slope,
        clip=solids.clip,
        level=solids.height,
        radius=np.ascontiguousarray(solids.extent[..., 0]),
        material=solids.material,
        part=solids.part,
    )


def nearest(placed: Placed, views: Views, size: tuple[int, int]) -> Depths:
    """(B, H, W): nearest depth with the solid's number in the lowest bits; else `EMPTY`.

    A depth is t of the hit t·d, where d ends in 1, as the bits of a float32.
    """
    depth = np.full((len(views.focal), *size), EMPTY, np.int32)
    _nearest(_outlines(placed, views), placed, depth)
    return depth


def _outlines(placed: Placed, views: Views) -> _Outlines:
    squares, start = placed.squares, placed.start
    rise = squares * start
    constant = (rise * start).sum(-1) + 2 * placed.slope * start[..., 2] - 1
    rise[..., 2] += placed.slope
    pixel = np.zeros((len(views.focal), 1, 3, 3))  # a ray from (column, row, 1)
    pixel[:, 0, 0, 0] = pixel[:, 0, 1, 1] = 1 / views.focal
    pixel[:, 0, :2, 2] = (0.5 - views.origin) / views.focal[:, None]
    pixel[:, 0, 2, 2] = 1
    rays = placed.axes @ pixel
    slant = (rise[..., None, :] @ rays)[..., 0, :]
    square = rays.swapaxes(2, 3) @ (squares[..., None] * rays)
    form = slant[..., :, None] * slant[..., None, :] - constant[..., None, None] * square
    return _Outlines(form, slant, np.ascontiguousarray(rays[:, :, 2]), constant)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _nearest(outlines: _Outlines, placed: Placed, out: Depths) -> None:
    for image, solid in np.ndindex(placed.slope.shape):
        outline = _Outlines(
            outlines.form[image, solid],
            outlines.slant[image, solid],
            outlines.axial[image, solid],
            outlines.constant[image, solid],
        )
        at = (placed.start[image, solid, 2], placed.clip[image, solid])
        _cover(outline, at, placed.box[image, solid], solid, out[image])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _cover(
    outline: _Outlines, at: tuple[float, Array], box: IntArray, solid: int, out: Depths
) -> None:
    """Keep one solid where it is nearer than what `out` (H, W) has."""
    form, slant, axial, constant = outline
    start, (low, high) = at
    left, right, top, bottom = box
    for y in range(top, bottom):
        edge = (form[1, 1] * y + 2 * form[1, 2]) * y + form[2, 2]
        lean = 2 * (form[0, 1] * y + form[0, 2])
        for x in range(left, right):
            disc = (form[0, 0] * x + lean) * x + edge
            if disc <= 0:
                continue
            toward = slant[0] * x + slant[1] * y + slant[2]
            depth = constant / (math.sqrt(disc) - toward)  # the nearer root
            along = start + depth * (axial[0] * x + axial[1] * y + axial[2])
            if depth > 0 and low < along < high:
                bits = (np.float32(depth).view(np.int32) & ~INDEX_MASK) | solid
                out[y, x] = min(out[y, x], bits)
