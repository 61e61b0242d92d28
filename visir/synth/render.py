"""Render people: place cameras, find what their rays hit, and expose the image of a sensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from visir.core.types import ByteArray
from visir.synth.body import build
from visir.synth.cameras import Camera, Shot, World, camera, moment
from visir.synth.patterns import shade
from visir.synth.people import person
from visir.synth.rays import Array, Views, nearest, place
from visir.synth.scenes import background, panorama
from visir.synth.sensors import expose, response


def render_shots(
    shots: Sequence[Shot], world: World, size: tuple[int, int], device: str = "cpu"
) -> list[ByteArray]:
    """Render the shots in their order; each image is (H, W, 3) uint8 and depends on its shot only.

    Args:
        shots: the images to render; shots of one camera are rendered together.
        world: the constants of the data set.
        size: (height, width) in pixels.
        device: where the sensor is computed; rays and patterns are computed on the CPU.
    """
    cameras = {(shot.cam, shot.modality): camera(world, shot.cam, shot.modality) for shot in shots}
    pictures: dict[int, ByteArray] = {}
    for key, view in cameras.items():
        rows = [i for i, shot in enumerate(shots) if (shot.cam, shot.modality) == key]
        batch = _render([shots[i] for i in rows], view, world, size, device)
        pictures.update(zip(rows, batch, strict=True))
    return [pictures[i] for i in range(len(shots))]


def _render(
    shots: Sequence[Shot], view: Camera, world: World, size: tuple[int, int], device: str
) -> ByteArray:
    people = [person(world.seed, shot.pid, world.nir_follows, world.warmth) for shot in shots]
    shape = {key: np.array([p.shape[key] for p in people]) for key in people[0].shape}
    draws = [moment(world, shot) for shot in shots]
    now = {key: np.array([draw[key] for draw in draws]) for key in draws[0]}
    materials = np.stack([p.materials for p in people])
    views = _views(shape, now, size)
    placed = place(build(shape, now), views, size)
    seen = response(view)
    wide = panorama(world.seed, view.room, view.outdoor, size[0])[seen.dye]
    scene = background(wide, seen.room, now, _feet(views), size)
    depth = nearest(placed, views, size)
    shade(scene, depth, placed, views, _light(view, views, now), shape, materials, seen)
    return expose(torch.from_numpy(scene).to(device), view, now)


def _views(shape: Mapping[str, Array], now: Mapping[str, Array], size: tuple[int, int]) -> Views:
    zero, one = np.zeros_like(now["yaw"]), np.ones_like(now["yaw"])
    c, s = np.cos(now["pitch"]), np.sin(now["pitch"])
    tilt = np.array([[one, zero, zero], [zero, -c, s], [zero, -s, -c]]).transpose(2, 0, 1)
    c, s = np.cos(now["yaw"]), np.sin(now["yaw"])
    yaw = np.array([[c, zero, s], [zero, one, zero], [-s, zero, c]]).transpose(2, 0, 1)
    c, s = np.cos(now["roll"]), np.sin(now["roll"])
    roll = np.array([[c, -s, zero], [s, c, zero], [zero, zero, one]]).transpose(2, 0, 1)
    height, width = size
    fill = now["fill"] * (shape["height"] / 1.72) ** 0.4
    focal = fill * height * now["distance"] / np.cos(now["pitch"])
    origin = np.stack([(0.5 + now["shift_x"]) * width, (0.5 + now["shift_y"]) * height], -1)
    return Views(roll @ tilt @ yaw, now["distance"], focal, origin)


def _light(view: Camera, views: Views, now: Mapping[str, Array]) -> Array:
    """(B, 3) direction to the light in the camera's axes, turned a little for each image."""
    angle = now["turn"] - now["yaw"]
    c, s = np.cos(angle), np.sin(angle)
    x, y, z = (float(v) for v in view.light)
    upright = np.stack([c * x + s * z, np.full_like(c, y), c * z - s * x], -1)
    light: Array = (views.rotation @ upright[..., None])[..., 0]
    return light


def _feet(views: Views) -> Array:
    """(B, 2) column and row of the ground under the person, in pixels."""
    foot = -0.5 * views.rotation[..., 1]
    row = views.origin[:, 1] + views.focal * foot[:, 1] / (foot[:, 2] + views.distance)
    return np.stack([views.origin[:, 0], row], -1)
