"""Backgrounds: one procedural panorama per room; every image uses a piece of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

from visir.core.types import FloatArray, IntArray
from visir.synth.people import SCENE

FLOOR = 0.55  # row of the panorama where the wall meets the floor, divided by its height
_BRIGHTEST = np.array([0.95, 0.95, 0.95, 0.95, 0.45], np.float32)  # of each channel of a dye


@lru_cache(maxsize=32)
def panorama(seed: int, room: int, outdoor: bool, height: int) -> FloatArray:
    """Paint a wide view of a room or street, without people.

    Returns:
        (DYE, H, W) float32: red, green, blue albedo, near-infrared reflectance, warmth;
        H = 2.2·`height`, W = 3·H.
    """
    rng = np.random.default_rng([seed, SCENE, room])
    rows = int(2.2 * height)
    columns = 3 * rows
    y = (np.arange(rows, dtype=np.float32) / np.float32(rows))[:, None]
    x = (np.arange(columns, dtype=np.float32) / np.float32(rows))[None, :]
    wall = int((y < FLOOR).sum())
    paint = _paint(rng, outdoor)
    coarse = _cloud(rng, rows, columns, 4)[:wall] + 0.5 * (0.5 - y[:wall])
    scene = np.empty((len(paint), rows, columns), np.float32)
    np.multiply(paint[:, None, None], 1 + 0.25 * coarse, out=scene[:, :wall])
    scene[:, :wall] *= _wall(rng, x, y[:wall])
    for _ in range(int(rng.integers(14, 22))):
        _furnish(rng, scene, x, y, outdoor)
    paint = _paint(rng, outdoor)
    np.multiply(paint[:, None, None], _ground(rng, x, y[wall:]), out=scene[:, wall:])
    for _ in range(int(rng.integers(4, 9))):
        _furnish(rng, scene, x, y, outdoor, standing=True)
    scene *= 1 + 0.16 * _cloud(rng, rows, columns, 24)
    return np.clip(scene, 0, _BRIGHTEST[:, None, None], out=scene)


def background(
    wide: FloatArray,
    gain: FloatArray,
    now: Mapping[str, npt.NDArray[np.float64]],
    feet: npt.NDArray[np.float64],
    size: tuple[int, int],
) -> FloatArray:
    """(B, C, H, W) pieces of a room, darker below the feet where a channel's gain asks for it.

    Args:
        wide: (C, rows, columns) channels of a panorama.
        gain: (C, 2) factor of each channel, and the share of it that is lost below the feet.
        now: `cameras.moment` of each image, in columns (B,).
        feet: (B, 2) column and row of the ground below the person, in pixels.
        size: (height, width) of an image in pixels.
    """
    height, width = size
    _, rows, columns = wide.shape
    zoom = now["scene_zoom"]
    left = now["scene_x"] * (columns - width * zoom - 2)
    top = np.clip(FLOOR * rows - now["horizon"] * height * zoom, 0, rows - height * zoom - 2)
    steps = np.arange(width) + 0.5
    steps = np.where(now["scene_flip"][:, None] > 0, width - steps, steps)
    column = (left[:, None] + zoom[:, None] * steps).astype(np.int64)
    row = (top[:, None] + zoom[:, None] * (np.arange(height) + 0.5)).astype(np.int64)
    across = np.exp(-(((np.arange(width) - feet[:, :1]) / (0.15 * height)) ** 2))
    down = np.exp(-(((np.arange(height) - feet[:, 1:]) / (0.035 * height)) ** 2))
    scene = np.empty((len(zoom), len(gain), height, width), np.float32)
    shadow = (down.astype(np.float32), across.astype(np.float32))
    _cut(wide, row, column, gain, shadow, scene)
    return scene


@numba.njit(nogil=True, cache=True)
def _cut(
    wide: FloatArray, row_BH: IntArray, column_BW: IntArray, gain: FloatArray,
    shadow: tuple[FloatArray, FloatArray], out: FloatArray,
) -> None:  # fmt: skip
    down_BH, across_BW = shadow
    images, channels, height, width = out.shape
    for image, channel, y in np.ndindex((images, channels, height)):
        factor, lost = gain[channel]
        line = wide[channel, row_BH[image, y]]
        depth = lost * down_BH[image, y]
        for x in range(width):
            shade = 1 - depth * across_BW[image, x]
            out[image, channel, y, x] = line[column_BW[image, x]] * factor * shade


def _paint(rng: np.random.Generator, outdoor: bool) -> FloatArray:
    grey = rng.uniform(0.16, 0.34)
    rgb = grey * np.exp(rng.normal(0, 0.08, 3))
    near = 0.5 * grey + 0.5 * rng.uniform(0.12, 0.34)
    return np.array([*rgb, near, rng.uniform(0.04, 0.2) + 0.04 * outdoor], np.float32)


def _cloud(rng: np.random.Generator, rows: int, columns: int, cells: int) -> FloatArray:
    """Smooth noise with a standard deviation near 1 and `cells` bumps over the height."""
    coarse = rng.normal(0, 1, (cells + 2, 3 * cells + 2)).astype(np.float32)
    r = np.linspace(0, cells, rows, dtype=np.float32)
    c = np.linspace(0, 3 * cells, columns, dtype=np.float32)
    i, j = r.astype(int), c.astype(int)
    u, v = (r - i)[:, None], (c - j)
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    lines = coarse[:, j] * (1 - v) + coarse[:, j + 1] * v
    result: FloatArray = lines[i]
    result *= 1 - u
    result += lines[i + 1] * u
    return result


def _grid(x: FloatArray, y: FloatArray, wide: float, high: float, line: float) -> FloatArray:
    """Joints between bricks or tiles: 0.7 there, else 1; every second row is shifted."""
    row, column = y / high, x / wide
    whole = np.floor(row)
    shifted = column + 0.5 * (whole % 2)
    joint = shifted - np.floor(shifted) < line / wide
    joint |= row - whole < line / high
    return np.where(joint, np.float32(0.7), np.float32(1))


def _wall(rng: np.random.Generator, x: FloatArray, y: FloatArray) -> FloatArray:
    surface = rng.integers(4)  # bricks, vertical panels, horizontal boards, painted base
    if surface == 0:
        return _grid(x, y, rng.uniform(0.05, 0.09), rng.uniform(0.02, 0.04), 0.005)
    if surface == 1:
        return _grid(x, y, rng.uniform(0.15, 0.4), 9.0, 0.008)
    if surface == 2:
        return _grid(x, y, 9.0, rng.uniform(0.04, 0.1), 0.006)
    band: FloatArray = np.where(y > rng.uniform(0.3, 0.45), rng.uniform(0.5, 0.8), 1.0)
    return band.astype(np.float32)


def _ground(rng: np.random.Generator, x: FloatArray, y: FloatArray) -> FloatArray:
    """Tiles or planks in perspective, brighter towards the front."""
    depth = 1 / np.maximum(y - FLOOR + 0.08, 0.03)
    size = rng.uniform(0.6, 2.0)
    lateral = (x - 1.5) * depth
    tile = _grid(lateral, depth, size, size * rng.uniform(0.6, 3), 0.05 * size)
    shine: FloatArray = tile * (0.8 + 0.5 * (y - FLOOR))
    return shine.astype(np.float32)


def _furnish(
    rng: np.random.Generator,
    scene: FloatArray,
    x: FloatArray,
    y: FloatArray,
    outdoor: bool,
    standing: bool = False,
) -> None:
    """Paint one object into the scene: a door, window, poster, post, shrub, or box on the floor."""
    rows, columns = scene.shape[1:]
    paint = _paint(rng, outdoor)
    vivid = np.clip(paint[:3] * np.exp(rng.normal(0, 0.15, 3)), 0.01, 0.85)
    paint[:3] = vivid
    left = rng.uniform(0, 3)
    if standing:
        bottom = FLOOR + rng.uniform(0.0, 0.2)
        top, wide = bottom - rng.uniform(0.06, 0.3), rng.uniform(0.02, 0.3)
    else:
        top, wide = rng.uniform(-0.1, 0.4), rng.uniform(0.03, 0.4)
        bottom = min(top + rng.uniform(0.16, 0.34), FLOOR)
    window = (
        slice(max(0, int(top * rows)), max(0, int(bottom * rows))),
        slice(int(left * rows), min(columns, int((left + wide) * rows))),
    )
    piece = scene[:, window[0], window[1]]
    if not piece.size:
        return
    if outdoor and rng.random() < 0.45:
        _shrub(rng, piece)
        return
    inner_y, inner_x = y[window[0]], x[:, window[1]]
    shade = 1 + 0.3 * (inner_x - left) / wide - 0.2 * (inner_y - top) / max(bottom - top, 1e-3)
    edge = np.minimum(
        np.minimum(inner_x - left, left + wide - inner_x),
        np.minimum(inner_y - top, bottom - inner_y),
    )
    rim, tone = rng.uniform(0, 0.02), rng.uniform(0.4, 1.5)
    shade *= np.where(edge < rim, np.float32(tone), np.float32(1))
    np.multiply(paint[:, None, None], shade, out=piece)


def _shrub(rng: np.random.Generator, piece: FloatArray) -> None:
    """Paint leaves: dark green in visible light, bright in the near infrared."""
    _, rows, columns = piece.shape
    leaf = np.array([0.06, 0.12, 0.03, 0.35, 0.12], np.float32) * np.float32(rng.uniform(0.7, 1.5))
    fine = _cloud(rng, rows, columns, max(2, columns // 12)) + _cloud(rng, rows, columns, 4)
    cover = fine > rng.uniform(-1.2, -0.2)
    fine = np.exp(0.3 * fine)
    np.multiply(leaf[:, None, None], fine, out=piece, where=cover)
