"""Sensor models: turn light into pixels of visible, near-infrared and thermal cameras."""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np
import torch
from torch import Tensor

from visir.core.types import ByteArray, FloatArray
from visir.synth.cameras import Camera
from visir.synth.patterns import Response

_AT_ONCE = 2**18  # values of a scene; more of them do not fit a processor's cache


def response(view: Camera) -> Response:
    """What the camera's sensor sees of a dye, of people and of the room."""
    if view.sensor == "visible":
        lamp, ambient = view.lamp, view.ambient
        weights = np.stack([0.35 * ambient, lamp, 0.65 * ambient, np.zeros_like(lamp)])
        room = np.stack([0.55 * lamp + 0.65 * ambient, np.full_like(lamp, 0.5)], 1)
        return Response(slice(0, 3), weights, 0.0, room)
    if view.sensor == "near":  # light from the camera itself: darker behind the person
        weights = np.array([[0.25], [0], [0], [0.75]], np.float32)
        room = np.array([[0.35 if view.outdoor else 0.6, 0.5]], np.float32)
        return Response(slice(3, 4), weights, 0.0, room)
    weights = np.array([[0.88], [0], [0], [0.12]], np.float32)
    return Response(slice(4, 5), weights, 0.03, np.array([[1, 0]], np.float32))


def expose(scene: Tensor, view: Camera, now: Mapping[str, np.ndarray]) -> ByteArray:
    """(B, H, W, 3) uint8 images of a camera's sensor.

    Args:
        scene: (B, C, H, W) the light that reaches the sensor; changed in place.
        view: the camera.
        now: `cameras.moment` of each image, in columns (B,).
    """
    count, _, height, width = scene.shape
    develop = {"visible": _visible, "near": _near, "thermal": _thermal}[view.sensor]
    step = count if scene.is_cuda else max(1, _AT_ONCE // scene[0].numel())
    level = np.float32(view.noise * (height / 288) ** 0.5)  # scaling a crop down averages noise
    pictures = np.empty((count, height, width, 3), np.uint8)
    for i in range(0, count, step):
        here = {name: values[i : i + step] for name, values in now.items()}
        image = develop(scene[i : i + step], view, here)
        if view.gamma != 1:
            image = image.clamp_min(0) ** view.gamma
        image = _blur(image, here["blur"] * height / 288)
        noise = _noise(here["noise_seed"], height, width)
        _finish(image.cpu().numpy(), noise, level, pictures[i : i + step])
    return pictures


def _column(values: np.ndarray, like: Tensor) -> Tensor:
    """(B, 1, 1, 1) on the device of `like`."""
    return torch.from_numpy(values).float().to(like.device).view(-1, 1, 1, 1)


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
    """(B, 1, 1, 1) automatic exposure: it moves the mean most of the way to a target."""
    mean = image.mean(dim=(1, 2, 3), keepdim=True).clamp_min(1e-3)
    return (target / mean) ** 0.85 * _column(now["exposure"], image)


def _visible(image: Tensor, view: Camera, now: Mapping[str, np.ndarray]) -> Tensor:
    _hide(image, now, _VISIBLE_BAR)
    balance = view.cast * np.exp(np.stack([now["warm"], now["tint"], -now["warm"]], 1))
    gain = _auto(image, now, 0.16) * _column(balance.ravel(), image).view(-1, 3, 1, 1)
    return _tone(image.mul_(gain))


_VISIBLE_BAR = ("bar_red", "bar_green", "bar_blue")


def _tone(image: Tensor) -> Tensor:
    """Apply the display curve, in place: a square root with a soft shoulder."""
    root = image.clamp_min_(0).sqrt_()
    shoulder = (root - 0.8).clamp_min_(0).mul_(-1 / 0.2).expm1_()
    return root.clamp_max_(0.8).sub_(shoulder, alpha=0.2)


def _near(image: Tensor, view: Camera, now: Mapping[str, np.ndarray]) -> Tensor:
    """Light from the camera itself, brightest in its beam."""
    _hide(image, now, ("bar_near",))
    _, _, height, width = image.shape
    y = torch.arange(height, device=image.device).float()[:, None] / height
    x = torch.arange(width, device=image.device).float()[None, :] / width
    spot_x, spot_y = (_column(now[name], image) for name in ("spot_x", "spot_y"))
    image *= torch.exp(-(((x - spot_x) / 0.8) ** 2)) * torch.exp(-(((y - spot_y) / 0.75) ** 2))
    image *= _auto(image, now, 0.17)
    glow = (image - 0.6).clamp_min_(0)
    for dim in (2, 3):
        glow = _box(glow, dim)
    return _tone(image.add_(glow, alpha=0.25 / 81))


def _box(image: Tensor, dim: int) -> Tensor:
    """Sum of the nine values around each one along `dim`, with zeros outside of the image."""
    length = image.shape[dim]
    total = torch.nn.functional.pad(image, (0, 0, 4, 4) if dim == 2 else (4, 4))
    last = total.narrow(dim, 8, length)
    for reach in (1, 2, 4):
        size = total.shape[dim] - reach
        total = total.narrow(dim, 0, size) + total.narrow(dim, reach, size)
    return total.narrow(dim, 0, length).add_(last)


def _thermal(image: Tensor, view: Camera, now: Mapping[str, np.ndarray]) -> Tensor:
    """Surface temperature, hot is bright; gain and offset follow the range of each image."""
    _hide(image, now, ("bar_warm",))
    image += 0.3 * _column(now["warm"], image)
    coarse = torch.nn.functional.avg_pool2d(image, 4)
    low, high = (op(coarse, dim=(1, 2, 3), keepdim=True) for op in (torch.amin, torch.amax))
    gain = 0.8 * _column(now["gain"], image) / (high - low).clamp_min(0.2)
    return image.sub_(low).mul_(gain).add_(0.06).clamp_(0, 1)


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
        image = torch.mul(tap[2], centre, out=image)
        image.addcmul_(near, tap[1] + tap[3]).addcmul_(far, tap[0] + tap[4])
    return image


def _noise(seeds: np.ndarray, height: int, width: int) -> FloatArray:
    """(B, height + 4, width + 4) a field for each image, which its colour channels share."""
    fields = np.empty((len(seeds), height + 4, width + 4), np.float32)
    for field, seed in zip(fields, seeds, strict=True):
        np.random.default_rng(int(seed)).standard_normal(out=field, dtype=np.float32)
    return fields


@numba.njit(nogil=True, cache=True)
def _finish(image: FloatArray, noise: FloatArray, level: np.float32, out: ByteArray) -> None:
    """Add the noise, shifted between colour channels, and round to 0..255."""
    count, channels, height, width = image.shape
    lines, last = np.empty((channels, width), np.uint8), channels - 1
    for b, y in np.ndindex((count, height)):
        for c in range(channels):
            values, grain = image[b, c, y], noise[b, y + 2 * c, 2 * c :]
            for x in range(width):  # written so that it compiles to vector instructions
                value = (values[x] + level * grain[x]) * np.float32(255) + np.float32(0.5)
                value = value if value > np.float32(0) else np.float32(0)
                value = value if value < np.float32(255) else np.float32(255)
                lines[c, x] = np.uint8(np.int32(value))
        for x in range(width):
            out[b, y, x, 0] = lines[0, x]
            out[b, y, x, 1] = lines[min(1, last), x]
            out[b, y, x, 2] = lines[last, x]
