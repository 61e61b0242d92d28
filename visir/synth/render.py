"""Render people: cast rays at quadric solids analytically in small tiles, then shade the points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visir.core.types import ByteArray
from visir.synth.body import Solids, build
from visir.synth.cameras import Camera, Shot, World, camera, moment
from visir.synth.patterns import Spots, dyes, folds, worn_over
from visir.synth.people import person
from visir.synth.sensors import Surface, expose

_EMPTY = torch.iinfo(torch.int32).max
_INDEX_MASK = 63  # the lowest bits of a depth hold the number of the solid


class _Views(NamedTuple):
    """B cameras: p = rotation·(b − centre) + (0, 0, distance); pixel = focal·p/p_z + origin."""

    rotation: Tensor  # (B, 3, 3)
    distance: Tensor  # (B,)
    focal: Tensor  # (B,) pixels
    origin: Tensor  # (B, 2) x, y pixels


class _Placed(NamedTuple):
    """`Solids` as tensors in the camera's frame: B people, P solids.

    axes (B, P, 3, 3): the rows are the solid's axes in the camera's frame; centre (B, P, 3): in the
    camera's frame; start (B, P, 3): the camera's position in the solid's frame; the rest as in
    `Solids`.
    """

    axes: Tensor
    centre: Tensor
    start: Tensor
    squares: Tensor
    slope: Tensor
    extent: Tensor
    clip: Tensor
    level: Tensor
    on: Tensor
    material: Tensor
    part: Tensor


def render_shots(
    shots: Sequence[Shot], world: World, size: tuple[int, int], device: str = "cpu"
) -> list[ByteArray]:
    """Render the shots in their order; each image is (H, W, 3) uint8 and depends on its shot only.

    Args:
        shots: the images to render; shots of one camera are rendered together.
        world: the constants of the data set.
        size: (height, width) in pixels.
        device: where torch computes.
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
    people = [person(world.seed, shot.pid, world.nir_follows) for shot in shots]
    shape = {key: np.array([p.shape[key] for p in people]) for key in people[0].shape}
    draws = [moment(world, shot) for shot in shots]
    now = {key: np.array([draw[key] for draw in draws]) for key in draws[0]}
    materials = torch.from_numpy(np.stack([p.materials for p in people])).to(device)
    views = _views(shape, now, size, device)
    placed = _place(build(shape, now), views)
    light = _light(view, views, now)
    surface = _cast(placed, views, shape=shape, light=light, materials=materials, size=size)
    return expose(surface, view, now, world, size)


def _views(
    shape: Mapping[str, np.ndarray],
    now: Mapping[str, np.ndarray],
    size: tuple[int, int],
    device: str,
) -> _Views:
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
    tensors = (roll @ tilt @ yaw, now["distance"], focal, origin)
    return _Views(*(torch.from_numpy(value).to(device) for value in tensors))


def _place(solids: Solids, views: _Views) -> _Placed:
    device = views.rotation.device

    def moved(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(device)

    axes = moved(solids.axes) @ views.rotation.transpose(1, 2)[:, None]
    middle = torch.tensor([0.0, 0.5, 0.0], dtype=torch.float64, device=device)
    centre = (views.rotation[:, None] @ (moved(solids.centre) - middle)[..., None])[..., 0]
    centre[..., 2] += views.distance[:, None]
    start = -(axes @ centre[..., None])[..., 0]
    squares, slope = moved(solids.squares), moved(solids.slope)
    extent, clip, level = moved(solids.extent), moved(solids.clip), moved(solids.height)
    return _Placed(
        axes,
        centre,
        start=start,
        squares=squares,
        slope=slope,
        extent=extent,
        clip=clip,
        level=level,
        on=moved(solids.on),
        material=moved(solids.material),
        part=moved(solids.part),
    )


def _cast(
    placed: _Placed,
    views: _Views,
    shape: Mapping[str, np.ndarray],
    light: Tensor,
    materials: Tensor,
    size: tuple[int, int],
) -> Surface:
    """Find the nearest solid behind every pixel and the material there."""
    height, width = size
    depth = _depths(placed, views, size).flatten()
    index = (depth != _EMPTY).nonzero()[:, 0]
    image, pixel = index // (height * width), index % (height * width)
    solid = depth[index] & _INDEX_MASK
    distance = (depth[index] & ~_INDEX_MASK).view(torch.float32)
    own = _gather(placed, views, light, image, solid)
    ray = (own.axes @ _rays(views, image, pixel, width)[:, :, None])[..., 0]
    point = distance[:, None] * ray + own.start
    normal = own.squares * point
    normal[:, 2] += own.slope
    normal = torch.nn.functional.normalize(normal, dim=1)
    facing = -(torch.nn.functional.normalize(ray, dim=1) * normal).sum(1)
    spots = Spots(
        image=image,
        material=placed.material[solid],
        part=placed.part[solid],
        point=point,
        side=torch.atan2(point[:, 0], point[:, 1]),
        level=point[:, 2] + own.level,
        radius=own.radius,
    )
    spots = spots._replace(material=worn_over(spots, shape))
    fold = folds(spots)
    return Surface(
        (len(views.focal), height, width),
        index,
        dye=dyes(materials, spots),
        lit=(normal * own.light).sum(1).clamp_min(0) * fold,
        sky=(0.5 + 0.5 * (normal * own.above).sum(1)) * fold,
        facing=facing.clamp(0, 1),
        feet=torch.stack([views.origin[:, 0], _feet(views)], -1).float(),
    )


class _Own(NamedTuple):
    """For each of N foreground points: its solid, and light and sky in that solid's axes."""

    axes: Tensor
    start: Tensor
    squares: Tensor
    slope: Tensor
    light: Tensor
    above: Tensor
    level: Tensor
    radius: Tensor


def _gather(placed: _Placed, views: _Views, light: Tensor, image: Tensor, solid: Tensor) -> _Own:
    columns = [
        placed.axes.flatten(2),
        placed.start,
        placed.squares,
        placed.slope[..., None],
        (placed.axes @ light[:, None, :, None])[..., 0],
        (placed.axes @ views.rotation[:, None, :, 1:2])[..., 0],
        placed.level[..., None],
        placed.extent[..., :1],
    ]
    table = torch.cat(columns, -1).float().flatten(0, 1)
    rows = table[image * placed.level.shape[1] + solid]
    widths = [column.shape[-1] for column in columns]
    axes, start, squares, slope, sun, above, level, radius = torch.split_with_sizes(
        rows, widths, dim=1
    )
    return _Own(
        axes.view(-1, 3, 3),
        start,
        squares=squares,
        slope=slope[:, 0],
        light=sun,
        above=above,
        level=level[:, 0],
        radius=radius[:, 0],
    )


def _light(view: Camera, views: _Views, now: Mapping[str, np.ndarray]) -> Tensor:
    """(B, 3) direction to the light in the camera's axes, turned a little for each image."""
    angle = now["turn"] - now["yaw"]
    c, s = np.cos(angle), np.sin(angle)
    x, y, z = (float(v) for v in view.light)
    upright = np.stack([c * x + s * z, np.full_like(c, y), c * z - s * x], -1)
    light = torch.from_numpy(upright).to(views.rotation.device)
    return (views.rotation @ light[..., None])[..., 0]


def _feet(views: _Views) -> Tensor:
    """(B,) image row of the ground under the person."""
    foot = views.rotation @ torch.tensor(
        [0.0, -0.5, 0.0], dtype=torch.float64, device=views.rotation.device
    )
    return views.origin[:, 1] + views.focal * foot[:, 1] / (foot[:, 2] + views.distance)


def _rays(views: _Views, image: Tensor, pixel: Tensor, width: int) -> Tensor:
    focal, origin = views.focal.float()[image], views.origin.float()[image]
    x = (pixel % width + 0.5 - origin[:, 0]) / focal
    y = (pixel // width + 0.5 - origin[:, 1]) / focal
    return torch.stack([x, y, torch.ones_like(x)], -1)


def _depths(placed: _Placed, views: _Views, size: tuple[int, int]) -> Tensor:
    """(B, H, W) int32: nearest depth with the solid's number in the lowest bits; else `_EMPTY`.

    Along the ray t·d a solid is A t² + 2 B t + C = 0; its nearer root is C / (√(B² − AC) − B).
    """
    height, width = size
    tile = 16 if height >= 160 else 8
    rows, columns = math.ceil(height / tile), math.ceil(width / tile)
    which, body, row, column = _overlaps(placed, views, tile, rows, columns)
    corner = torch.stack([column, row], -1) * tile + 0.5
    disc, slant, axial = _tile_polynomials(placed, views, (body, which), corner, tile)
    at = (body, which)
    constant = _constant(placed)[at].float()[:, None]
    depth = constant / (disc.clamp_min(0).sqrt() - slant)
    clip = placed.clip[at].float()
    along = depth * axial + placed.start[at][:, 2].float()[:, None]
    hit = (disc > 0) & (depth > 0) & (along > clip[:, :1]) & (along < clip[:, 1:])
    packed = (depth.view(torch.int32) & ~_INDEX_MASK) | which.int()[:, None]
    packed = torch.where(hit, packed, _EMPTY)
    canvas = packed.new_full((len(views.focal) * rows * columns, tile * tile), _EMPTY)
    place = (body * rows + row) * columns + column
    ends = torch.bincount(which, minlength=len(placed.material)).cumsum(0).tolist()
    for begin, end in pairwise([0, *ends]):
        spot = place[begin:end]  # distinct, because one solid covers a tile once
        canvas[spot] = torch.minimum(canvas[spot], packed[begin:end])
    whole = canvas.view(-1, rows, columns, tile, tile).transpose(2, 3)
    return whole.reshape(-1, rows * tile, columns * tile)[:, :height, :width].contiguous()


def _constant(placed: _Placed) -> Tensor:
    """(B, P) C of every solid: the value of its equation at the camera."""
    start = placed.start
    return (placed.squares * start * start).sum(-1) + 2 * placed.slope * start[..., 2] - 1


def _tile_polynomials(
    placed: _Placed, views: _Views, at: tuple[Tensor, Tensor], corner: Tensor, tile: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(N, tile²) each: B² − AC, B, and the z of the ray in the solid's frame, for N (solid, tile).

    All three are polynomials of the pixel's position. In the coordinates of a tile all pairs share
    one basis, so one matrix product evaluates them all. Set up in float64, evaluated in float32.
    """
    rise = placed.squares * placed.start
    rise[..., 2] += placed.slope
    across = placed.axes.transpose(2, 3)
    line = (across @ rise[..., None])[..., 0]  # B = line · d
    square = across @ (placed.squares[..., None] * placed.axes)  # A = dᵀ square d
    root = line[..., :, None] * line[..., None, :] - _constant(placed)[..., None, None] * square
    root = root[at]
    scale = 1 / views.focal[at[0]]
    first = (corner - views.origin[at[0]]) * scale[:, None]
    first = torch.cat([first, torch.ones_like(scale)[:, None]], -1)  # d at the tile's corner
    linear = torch.stack([line[at], placed.axes[at][:, 2]], 1)
    linear = torch.cat([linear @ first[..., None], linear[..., :2] * scale[:, None, None]], -1)
    slide = (root @ first[..., None])[..., 0]
    parabola = [
        (slide * first).sum(-1),
        2 * scale * slide[:, 0],
        2 * scale * slide[:, 1],
        scale**2 * root[:, 0, 0],
        2 * scale**2 * root[:, 0, 1],
        scale**2 * root[:, 1, 1],
    ]
    step = torch.arange(tile, device=scale.device).float()
    v, u = torch.meshgrid(step, step, indexing="ij")
    basis = torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v]).flatten(1)
    slant, axial = (linear.float() @ basis[:3]).unbind(1)
    return torch.stack(parabola, -1).float() @ basis, slant, axial


def _overlaps(
    placed: _Placed, views: _Views, tile: int, rows: int, columns: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(solid, person, tile row, tile column) of every solid in every tile it may touch."""
    device = views.focal.device
    ends = (-1.0, 1.0)
    signs = torch.tensor(list(product(ends, ends, ends)), dtype=torch.float64, device=device)
    corners = placed.centre[:, :, None] + (signs * placed.extent[:, :, None]) @ placed.axes
    focal, origin = views.focal[:, None, None, None], views.origin[:, None, None]
    flat = corners[..., :2] / corners[..., 2:].clamp_min(0.1) * focal + origin
    low, high = flat.amin(2) / tile, flat.amax(2) / tile  # (B, P, 2) x, y
    across, down = torch.arange(columns, device=device), torch.arange(rows, device=device)
    inside_x = (across + 1 > low[..., :1]) & (across < high[..., :1])
    inside_y = (down + 1 > low[..., 1:]) & (down < high[..., 1:])
    touched = placed.on[..., None, None] & inside_y[..., :, None] & inside_x[..., None, :]
    which, body, row, column = touched.transpose(0, 1).nonzero().unbind(1)
    return which, body, row, column
