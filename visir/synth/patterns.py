"""The surface at a point of the body: straps, open jackets, patterns, folds of cloth, light."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numba
import numpy as np

from visir.core.types import FloatArray
from visir.synth.body import BodyPart
from visir.synth.people import DYE, PATTERN, PERIOD, PHASE, SHARE, Material, Pattern
from visir.synth.rays import EMPTY, INDEX_MASK, Array, Depths, Placed, Views

_TORSO, _SLEEVE = BodyPart.TORSO, BodyPart.SLEEVE
_HAIR, _INNER, _BAG = int(Material.HAIR), int(Material.INNER), int(Material.BAG)
_HORIZONTAL, _VERTICAL = int(Pattern.HORIZONTAL), int(Pattern.VERTICAL)
_CHECKS, _HALVES = int(Pattern.CHECKS), int(Pattern.HALVES)
_CHEST_BAND, _LOGO = int(Pattern.CHEST_BAND), int(Pattern.LOGO)
_DOTS, _CAMOUFLAGE = int(Pattern.DOTS), int(Pattern.CAMOUFLAGE)
_SLEEVES, _SIDE_STRIPE = int(Pattern.SLEEVES), int(Pattern.SIDE_STRIPE)


class Response(NamedTuple):
    """What a sensor of C channels sees of a dye.

    A channel c of a point is dye·(weights[0, c] + weights[1, c]·lit + weights[2, c]·sky +
    weights[3, c]·facing) + glow·(sky − ½). lit: cosine to the light, and sky: share of the sky that
    is visible, both less in folds; facing: cosine to the camera.

    dye: the channels of a dye; weights (4, C); room (C, 2): as `gain` of `scenes.background`.
    """

    dye: slice
    weights: FloatArray
    glow: float
    room: FloatArray


class _Spot(NamedTuple):
    """A point of a body, in the frame of its solid; lengths are fractions of the person's height.

    part: `BodyPart`; x, y; side: angle around the solid, 0 at the front; level: height on the body;
    radius: of the solid.
    """

    part: int
    x: float
    y: float
    side: float
    level: float
    radius: float


def shade(
    scene: FloatArray,
    depth: Depths,
    placed: Placed,
    views: Views,
    light: Array,
    shape: Mapping[str, Array],
    materials: FloatArray,
    response: Response,
) -> None:
    """Paint the points that rays hit into the scene.

    Args:
        scene: (B, C, H, W) the light that reaches the sensor; changed in place.
        depth: (B, H, W), as `rays.nearest` returns it.
        placed: the solids of B people.
        views: their cameras.
        light: (B, 3) direction to the light in the camera's axes.
        shape: the columns of `Person.shape`, each (B,).
        materials: (B, len(Material), FIELDS), as `Person.materials`.
        response: of the sensor.
    """
    sun = (placed.axes @ light[:, None, :, None])[..., 0]
    above = (placed.axes @ views.rotation[:, None, :, 1:2])[..., 0]
    worn = np.stack([shape[name] for name in ("backpack", "sling", "side", "open")], 1)
    dyes = np.stack([materials[..., :DYE], materials[..., DYE : 2 * DYE]], 2)[..., response.dye]
    _shade(
        scene,
        depth,
        placed,
        views,
        (sun, above),
        worn,
        (materials, np.ascontiguousarray(dyes)),
        (response.weights, response.glow),
    )


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _shade(
    scene: FloatArray, depth: Depths, placed: Placed, views: Views, lights: tuple[Array, Array],
    worn: Array, cloths: tuple[FloatArray, FloatArray], response: tuple[FloatArray, float],
) -> None:  # fmt: skip
    materials, dyes = cloths
    weights, glow = response
    for image, row, column in np.ndindex(depth.shape):
        bits = depth[image, row, column]
        if bits == EMPTY:
            continue
        solid = int(bits & INDEX_MASK)
        far = np.int32(bits & ~INDEX_MASK).view(np.float32)
        u = (column + 0.5 - views.origin[image, 0]) / views.focal[image]
        v = (row + 0.5 - views.origin[image, 1]) / views.focal[image]
        spot, normal, facing = _meet(placed, image, solid, (u, v), far)
        cloth = _worn_over(spot, placed.material[solid], worn[image])
        fold = _fold(spot) if cloth > _HAIR else 1.0
        lit = max(_dot(normal, lights[0][image, solid]), 0.0) * fold
        sky = (0.5 + 0.5 * _dot(normal, lights[1][image, solid])) * fold
        dye = dyes[image, cloth, int(_second(spot, materials[image, cloth]))]
        for c in range(scene.shape[1]):
            light = weights[0, c] + weights[1, c] * lit + weights[2, c] * sky
            light += weights[3, c] * facing
            scene[image, c, row, column] = dye[c] * light + glow * (sky - 0.5)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _meet(
    placed: Placed, image: int, solid: int, ray: tuple[float, float], far: np.float32
) -> tuple[_Spot, tuple[float, float, float], float]:
    """The point at depth `far` of a ray, its normal in the solid's frame, and how it faces us."""
    axes, start = placed.axes[image, solid], placed.start[image, solid]
    dx = axes[0, 0] * ray[0] + axes[0, 1] * ray[1] + axes[0, 2]
    dy = axes[1, 0] * ray[0] + axes[1, 1] * ray[1] + axes[1, 2]
    dz = axes[2, 0] * ray[0] + axes[2, 1] * ray[1] + axes[2, 2]
    x, y, z = start[0] + far * dx, start[1] + far * dy, start[2] + far * dz
    squares = placed.squares[image, solid]
    nx, ny, nz = squares[0] * x, squares[1] * y, squares[2] * z + placed.slope[image, solid]
    scale = 1 / math.sqrt(nx * nx + ny * ny + nz * nz)
    nx, ny, nz = nx * scale, ny * scale, nz * scale
    facing = -(nx * dx + ny * dy + nz * dz) / math.sqrt(dx * dx + dy * dy + dz * dz)
    level, radius = z + placed.level[image, solid], placed.radius[image, solid]
    spot = _Spot(placed.part[solid], x, y, math.atan2(x, y), level, radius)
    return spot, (nx, ny, nz), min(max(facing, 0.0), 1.0)


@numba.njit(nogil=True, cache=True)
def _dot(first: tuple[float, float, float], second: Array) -> float:
    total: float = first[0] * second[0] + first[1] * second[1] + first[2] * second[2]
    return total


@numba.njit(nogil=True, cache=True)
def _worn_over(spot: _Spot, material: int, worn: Array) -> int:
    """The material, with straps of bags over the torso and the shirt under an open jacket."""
    backpack, sling, hand, opening = worn
    if spot.part != _TORSO:
        return material
    front = spot.y > 0
    if backpack > 0 and front and spot.level > 0.62 and abs(abs(spot.x) - 0.062) < 0.011:
        return _BAG
    across = spot.x * hand + (spot.level - 0.665) * 0.72
    if sling > 0 and spot.level > 0.5 and abs(across) < 0.011:
        return _BAG
    return _INNER if front and abs(spot.x) < opening else material


@numba.njit(nogil=True, cache=True)
def _sine(angle: float) -> float:
    sine: float = math.sin(np.float32(angle))  # twice as fast as in float64
    return sine


@numba.njit(nogil=True, cache=True)
def _fold(spot: _Spot) -> float:
    """Factor of the light for the creases of cloth."""
    along = _sine(40 * spot.level + 3 * spot.side + 5 * _sine(21 * spot.level))
    fold: float = 1 + 0.1 * along * _sine(3 * spot.side)
    return fold


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _second(spot: _Spot, own: FloatArray) -> bool:
    """Whether a point has the second dye of its material `own` (FIELDS,), by its pattern."""
    pattern, period, share, phase = int(own[PATTERN]), own[PERIOD], own[SHARE], own[PHASE]
    level, radius = spot.level, spot.radius
    u, v = spot.side * radius / period + phase, level / period + phase
    u_part, v_part = u - np.floor(u), v - np.floor(v)
    second = False
    if pattern == _HORIZONTAL:
        second = v_part < share
    elif pattern == _VERTICAL:
        second = u_part < share
    elif pattern == _CHECKS:
        second = (u_part < share) != (v_part < share)
    elif pattern == _HALVES:
        second = level > 0.60 + 0.18 * phase
    elif pattern == _CHEST_BAND:
        second = abs(level - 0.66 - 0.08 * phase) < 0.02 + 0.05 * share
    elif pattern == _LOGO:
        emblem = (spot.x / 0.055) ** 2 + ((level - 0.70) / 0.045) ** 2 < 0.6 + share
        second = emblem and spot.part == _TORSO and (phase < 0.35) != (spot.y > 0)
    elif pattern == _DOTS:
        second = (u_part - 0.5) ** 2 + (v_part - 0.5) ** 2 < 0.3 * share
    elif pattern == _CAMOUFLAGE:
        wave = _sine(6.3 * u + 2 * _sine(4.1 * v))
        second = wave + _sine(5.1 * v + 2 * _sine(3.7 * u)) > 0.2
    elif pattern == _SLEEVES:
        second = spot.part == _SLEEVE
    elif pattern == _SIDE_STRIPE:
        second = abs(spot.x) > 0.8 * radius and abs(spot.y) < 0.5 * radius
    return second
