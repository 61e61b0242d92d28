"""Sensor models: turn surfaces into pixels of visible, near-infrared and thermal cameras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visir.core.types import ByteArray
from visir.synth.cameras import Camera, World
from visir.synth.scenes import FLOOR, panorama

_NEAR, _WARM = 3, 4  # channels of a dye


class Surface(NamedTuple):
    """The N foreground points that rays hit, in images of `shape` (B, H, W).

    pixel (N,): flat pixel numbers; dye (N, DYE); lit (N,): cosine to the light; sky (N,): share of
    the sky that is visible; facing (N,): cosine to the camera; feet (B, 2): x, y of the ground
    below the person.
    """

    shape: tuple[int, int, int]
    pixel: Tensor
    dye: Tensor
    lit: Tensor
    sky: Tensor
    facing: Tensor
    feet: Tensor


def expose(
    surface: Surface,
    view: Camera,
    now: Mapping[str, np.ndarray],
    world: World,
    size: tuple[int, int],
) -> ByteArray:
    """(B, H, W, 3) uint8 images of the surface and its background by the camera's sensor."""
    scene = _background(surface, view, now, world, size)
    develop = {"visible": _visible, "near": _near, "thermal": _thermal}[view.sensor]
    image = develop(surface, scene, view, now)
    image = _blur(image, now["blur"] * size[0] / 288)
    image = _finish(image, view, now)
    pixels: ByteArray = (image * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """(B, 1, 1, 1) on the device of `like`."""
    return torch.from_numpy(values).float().to(like.device).view(-1, 1, 1, 1)


def _background(
    surface: Surface,
    view: Camera,
    now: Mapping[str, np.ndarray],
    world: World,
    size: tuple[int, int],
) -> Tensor:
    """(B, DYE, H, W) piece of the room for each image, with a shadow below the feet."""
    height, width = size
    device = surface.dye.device
    wide = torch.from_numpy(panorama(world.seed, view.room, view.outdoor, height)).to(device)
    if view.sensor == "visible":
        wide = wide[:3]
    else:
        wide = wide[_NEAR : _NEAR + 1] if view.sensor == "near" else wide[_WARM:]
    _, rows, columns = wide.shape
    zoom = now["scene_zoom"]
    left = now["scene_x"] * (columns - width * zoom - 2)
    top = np.clip(FLOOR * rows - now["horizon"] * height * zoom, 0, rows - height * zoom - 2)
    steps = np.arange(width) + 0.5
    x = left[:, None] + zoom[:, None] * np.where(
        now["scene_flip"][:, None] > 0, width - steps, steps
    )
    y = top[:, None] + zoom[:, None] * (np.arange(height) + 0.5)
    column, row = (torch.from_numpy(v.astype(np.int64)).to(device) for v in (x, y))
    piece = wide[:, row[:, :, None], column[:, None, :]].transpose(0, 1)
    if view.sensor == "thermal":
        return piece
    down = (
        torch.arange(height, device=device).float()[None, :, None] - surface.feet[:, 1, None, None]
    )
    across = torch.arange(width, device=device).float() - surface.feet[:, 0, None]
    round_ = (down / (0.035 * height)) ** 2 + (across[:, None] / (0.15 * height)) ** 2
    return piece * (1 - 0.5 * torch.exp(-round_))[:, None]


def _paste(background: Tensor, surface: Surface, values: Tensor) -> Tensor:
    """(B, C, H, W) with `values` (N, C) at the surface's points and the background elsewhere."""
    count, channels, height, width = background.shape
    image = background.transpose(0, 1).reshape(channels, -1)
    image[:, surface.pixel] = values.T
    return image.view(channels, count, height, width).transpose(0, 1)


def _hide(image: Tensor, now: Mapping[str, np.ndarray], colours: tuple[str, ...]) -> Tensor:
    """Paint the object in front of the person in images that have one."""
    _, _, height, width = image.shape
    y = (torch.arange(height, device=image.device).float() / height)[:, None]
    x = (torch.arange(width, device=image.device).float() / width)[None, :]
    for row in np.flatnonzero(now["hidden"]):
        bar, at, size = (float(now[name][row]) for name in ("bar_kind", "bar_at", "bar_size"))
        if bar == 0:
            mask = (y > 1 - 0.7 * size) & (x == x)
        elif bar == 1:
            mask = ((x - at).abs() < size / 3) & (y == y)
        else:
            mask = ((x < size) if at < 0.5 else (x > 1 - size)) & (y > at * 0.6)
        colour = torch.tensor([float(now[name][row]) for name in colours], device=image.device)
        image[row] = torch.where(mask, colour[:, None, None] * (1 - 0.3 * y), image[row])
    return image


def _auto(image: Tensor, now: Mapping[str, np.ndarray], target: float) -> Tensor:
    """Automatic exposure: move the mean most of the way to a target that varies by image."""
    mean = image.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)
    return image * (target / mean) ** 0.85 * _column(now["exposure"], image)


def _visible(
    surface: Surface, scene: Tensor, view: Camera, now: Mapping[str, np.ndarray]
) -> Tensor:
    lamp, ambient = (torch.from_numpy(v).to(scene.device) for v in (view.lamp, view.ambient))
    light = lamp * surface.lit[:, None] + ambient * (0.35 + 0.65 * surface.sky[:, None])
    scene = scene * (0.55 * lamp + 0.65 * ambient)[:, None, None]
    image = _hide(_paste(scene, surface, surface.dye[:, :3] * light), now, _VISIBLE_BAR)
    image = _auto(image, now, 0.16)
    balance = np.stack([now["warm"], now["tint"], -now["warm"]], 1)
    balance = view.cast * np.exp(balance)
    return _tone(image * _column(balance.ravel(), image).view(-1, 3, 1, 1))


_VISIBLE_BAR = ("bar_red", "bar_green", "bar_blue")


def _tone(image: Tensor) -> Tensor:
    """Apply the display curve: a square root with a soft shoulder."""
    root = image.clamp_min(0).sqrt()
    return torch.where(root > 0.8, 1 - 0.2 * torch.exp(-(root - 0.8) / 0.2), root)


def _near(surface: Surface, scene: Tensor, view: Camera, now: Mapping[str, np.ndarray]) -> Tensor:
    """Light from the camera itself: bright in its beam, darker behind the person."""
    _, height, width = surface.shape
    values = surface.dye[:, _NEAR] * (0.25 + 0.75 * surface.facing)
    behind = scene * (0.35 if view.outdoor else 0.6)
    image = _hide(_paste(behind, surface, values[:, None]), now, ("bar_near",))
    y = torch.arange(height, device=scene.device).float()[:, None] / height
    x = torch.arange(width, device=scene.device).float()[None, :] / width
    spot_x, spot_y = (_column(now[name], scene)[:, 0] for name in ("spot_x", "spot_y"))
    beam = torch.exp(-(((x - spot_x) / 0.8) ** 2 + ((y - spot_y) / 0.75) ** 2))
    image = _auto(image * beam[:, None], now, 0.17)
    glow = torch.nn.functional.avg_pool2d((image - 0.6).clamp_min(0), 9, 1, 4)
    return _tone(image + 0.25 * glow)


def _thermal(
    surface: Surface, scene: Tensor, view: Camera, now: Mapping[str, np.ndarray]
) -> Tensor:
    """Surface temperature, hot is bright; gain and offset follow the range of each image."""
    values = surface.dye[:, _WARM] * (0.88 + 0.12 * surface.facing) + 0.03 * (surface.sky - 0.5)
    image = _hide(_paste(scene, surface, values[:, None]), now, ("bar_warm",))
    image = image + 0.03 * _column(now["warm"] * 10, image)
    coarse = torch.nn.functional.avg_pool2d(image, 4)
    low, high = (op(coarse, dim=(1, 2, 3), keepdim=True) for op in (torch.amin, torch.amax))
    level = (image - low) / (high - low).clamp_min(0.2)
    return (0.06 + 0.8 * level * _column(now["gain"], image)).clamp(0, 1)


def _blur(image: Tensor, sigma: np.ndarray) -> Tensor:
    """Gaussian blur with five taps in each direction, `sigma` (B,) pixels."""
    weights = np.exp(-0.5 * (np.arange(3)[:, None] / np.maximum(sigma, 1e-3)) ** 2)
    weights /= weights[0] + 2 * weights[1:].sum(0)
    centre, near, far = (_column(w, image) for w in weights)
    for dim in (2, 3):
        pad = (0, 0, 2, 2) if dim == 2 else (2, 2, 0, 0)
        wide = torch.nn.functional.pad(image, pad, mode="replicate")
        length = image.shape[dim]
        tap = [wide.narrow(dim, k, length) for k in range(5)]
        image = centre * tap[2] + near * (tap[1] + tap[3]) + far * (tap[0] + tap[4])
    return image


def _finish(image: Tensor, view: Camera, now: Mapping[str, np.ndarray]) -> Tensor:
    """Add the noise of each image: one field, shifted between colour channels."""
    _, channels, height, width = image.shape
    fields = [
        np.random.default_rng(int(seed)).standard_normal((height + 4, width + 4), np.float32)
        for seed in now["noise_seed"]
    ]
    noise = torch.from_numpy(np.stack(fields)).to(image.device)
    moved = [noise[:, 2 * c : 2 * c + height, 2 * c : 2 * c + width] for c in range(channels)]
    noise_level = view.noise * (height / 288) ** 0.5  # scaling a crop down averages noise
    noisy: Tensor = image + noise_level * torch.stack(moved, 1)
    return noisy
