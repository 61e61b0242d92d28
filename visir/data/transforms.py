"""Augmentation on the device of the training: of whole batches, on a CPU image by image.

Colour jitter, pad, crop, flip and normalise as usual in the field, then the three operations of CAJ
(Ye et al., ICCV 2021) that act on the normalised tensor: channel exchange, channel-adaptive gray,
random erasing. Copying a channel after normalisation is not the normalisation of a grey image; that
is how the published numbers were made, so it is kept. Boxes are erased last, with one value a
channel; published code erases before it copies channels, so that a box has one of these three
values, all between .45 and .49, in all channels.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, assert_never

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.device import to_device
from visir.core.types import BoolArray, IntArray
from visir.data import cpu_views
from visir.data.rng import key, uniforms

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
ERASED = (0.4914, 0.4822, 0.4465)  # CAJ's fill, written as it is into the normalised tensor
GRAY = (0.2989, 0.5870, 0.1140)
_NUMBERS = cpu_views.Channels(*(np.array(of, np.float32) for of in (MEAN, STD, GRAY, ERASED)))


class View(Enum):
    """The channel operation of a view."""

    PLAIN = "plain"
    EXCHANGE = "exchange"  # CE(2): always one channel copied to all three
    GRAY = "gray"  # CAG(p): 1/4 each channel, p/4 grey, (1 - p)/4 as it is


class Augmentation(NamedTuple):
    """How a training view is made, beside crop and mirroring.

    view: the channel operation; jitter: how far brightness, contrast, saturation and hue may move
    (see `jitter_colours`); erasing: chance of a random box; gray: p of CAG; bleach: chance that
    the whole image loses its colours, before anything else.
    """

    view: View
    jitter: float = 0.0
    erasing: float = 0.5
    gray: float = 0.5
    bleach: float = 0.0


def normalise(pixels: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float32, ImageNet statistics."""
    mean, std = (_channels(of, pixels.device) for of in (MEAN, STD))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def _channels(values: tuple[float, float, float], device: torch.device) -> Tensor:
    """(1, 3, 1, 1) one value a channel."""
    return to_device(torch.tensor(values).view(1, 3, 1, 1), device)


def augment(
    pixels: Tensor,
    rows: IntArray,
    how: Augmentation,
    stream: int,
    pad: int = 10,
    out: Tensor | None = None,
) -> Tensor:
    """One training view of every image.

    Args:
        pixels: (B, H, W, 3) uint8.
        rows: (B,) what each image draws from, together with `stream`.
        how: colours, channels and erasing.
        stream: a key naming seed, epoch, step and view.
        pad: black border before the random crop, in pixels (10 at 288 x 144).
        out: (B, 3, H, W) from `room`, which is filled; None to make it.

    Returns:
        (B, 3, H, W) float32, normalised.
    """
    if how.bleach:
        pixels = _bleach(pixels, uniforms(key(stream, 4), rows, 1)[:, 0] < how.bleach)
    if how.jitter:
        pixels = jitter_colours(pixels, rows, key(stream, 3), how.jitter)
    if out is None:
        out = room(len(pixels), (pixels.shape[1], pixels.shape[2]), pixels.device)
    if out is None:
        return _together(pixels, rows, how, stream, pad)
    _one_by_one(pixels, rows, how, stream, pad, out)
    return out


def room(count: int, size: tuple[int, int], device: torch.device) -> Tensor | None:
    """(B, 3, H, W) not filled, for images that `augment` makes one by one; None if it does not."""
    if not _is_compiled_for(device):
        return None
    return torch.from_numpy(cpu_views.empty(count, *size)).permute(0, 3, 1, 2)


def _is_compiled_for(device: torch.device) -> bool:
    """Whether `cpu_views` makes the views: on a CPU, in single precision."""
    return device.type == "cpu" and torch.get_default_dtype() == torch.float32


def _together(pixels: Tensor, rows: IntArray, how: Augmentation, stream: int, pad: int) -> Tensor:
    """What follows the colours in `augment`, for the whole batch on any device."""
    draws = to_device(torch.from_numpy(uniforms(stream, rows, 4)), pixels.device)
    images = normalise(_crop_and_flip(pixels, draws[:, 0], draws[:, 1], draws[:, 2] < 0.5, pad))
    images = exchange(images, draws[:, 3], how.view, how.gray)
    return erase(images, rows, stream, how.erasing)


def _one_by_one(
    pixels: Tensor, rows: IntArray, how: Augmentation, stream: int, pad: int, out: Tensor
) -> None:
    """What follows the colours in `augment`, image by image."""
    draws = torch.from_numpy(uniforms(stream, rows, 4))
    top, left = torch.floor(draws[:, :2].T * (2 * pad + 1)).long().numpy()
    places = cpu_views.Places(top, left, (draws[:, 2] < 0.5).numpy(), pad)
    height, width = pixels.shape[1:3]
    chosen = _choices(draws[:, 3], how.view, how.gray).numpy()
    boxes = erased_boxes(rows, stream, how.erasing, height, width)
    made = out.permute(0, 2, 3, 1).numpy()
    cpu_views.views(pixels.contiguous().numpy(), places, chosen, boxes, _NUMBERS, made)


def _bleach(pixels: Tensor, chosen: BoolArray) -> Tensor:
    """Copy of (B, H, W, 3) uint8 pixels, the chosen images' three channels all their luma."""
    rows = to_device(torch.from_numpy(np.flatnonzero(chosen)), pixels.device)
    luma = _gray(pixels[rows].permute(0, 3, 1, 2).float()).round().to(torch.uint8)
    return pixels.index_copy(0, rows, luma.permute(0, 2, 3, 1).expand(-1, -1, -1, 3))


def jitter_colours(pixels: Tensor, rows: IntArray, stream: int, strength: float) -> Tensor:
    """Brightness, contrast, saturation and hue of every image moved, in an order drawn per image.

    The operations and ranges of torchvision's ColorJitter(s, s, s, s), for a whole batch at once.

    Args:
        pixels: (B, H, W, 3) uint8.
        rows: (B,) what each image draws from, together with `stream`.
        stream: a key naming seed, epoch, step and view.
        strength: s; the first three are multiplied by U(1 - s, 1 + s), the hue turns by U(-s, s)
            circles; .5 at most.
    """
    draws = torch.from_numpy(uniforms(stream, rows, 8))
    amounts, order = (2 * draws[:, :4] - 1) * strength, draws[:, 4:].argsort(dim=1)
    if _is_compiled_for(pixels.device):
        arrays = (pixels.contiguous().numpy(), order.numpy(), amounts.float().numpy())
        return torch.from_numpy(cpu_views.jittered(*arrays, _NUMBERS.luma))
    return _jitter_together(pixels, order, to_device(amounts, pixels.device))


def _jitter_together(pixels: Tensor, order: Tensor, amounts: Tensor) -> Tensor:
    """`jitter_colours` for any device; `order` (B, 4) is in the memory of the CPU."""
    images = pixels.permute(0, 3, 1, 2).float() / 255
    for place in range(4):
        for number, change in enumerate((_brighten, _contrast, _saturate, turn_hue)):
            chosen = to_device((order[:, place] == number).nonzero()[:, 0], pixels.device)
            amount = amounts[chosen, number].float().view(-1, 1, 1, 1)
            images[chosen] = change(images[chosen], amount)
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def _brighten(images: Tensor, amount: Tensor) -> Tensor:
    return (images * (1 + amount)).clamp(0, 1)


def _contrast(images: Tensor, amount: Tensor) -> Tensor:
    # In float64 the mean does not depend on the order of the sum.
    mean = _gray(images).mean(dim=(2, 3), keepdim=True, dtype=torch.float64).float()
    return _away_from(mean, images, amount)


def _saturate(images: Tensor, amount: Tensor) -> Tensor:
    return _away_from(_gray(images), images, amount)


def _away_from(base: Tensor, images: Tensor, amount: Tensor) -> Tensor:
    return (images + amount * (images - base)).clamp(0, 1)


def _gray(images: Tensor) -> Tensor:
    """(B, 1, H, W) luma."""
    red, green, blue = (images * _channels(GRAY, images.device)).chunk(3, dim=1)
    return red + green + blue


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Hues moved along their circle, value and chroma kept.

    Args:
        images: (B, 3, H, W) from 0 to 1.
        turn: (B, 1, 1, 1) circles.
    """
    value, chroma = images.amax(dim=1), images.amax(dim=1) - images.amin(dim=1)
    red, green, blue = images.unbind(dim=1)
    scale = chroma.clamp(min=1e-12)
    hue = torch.where(
        value == red,
        (green - blue) / scale,
        torch.where(value == green, 2 + (blue - red) / scale, 4 + (red - green) / scale),
    )
    sector = (hue + 6 * turn[:, :, 0]) % 6
    k = (sector[:, None] + _channels((5.0, 3.0, 1.0), images.device)) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def exchange(images: Tensor, draw: Tensor, view: View, gray: float = 0.5) -> Tensor:
    """Channel operations of CAJ on (B, 3, H, W): `draw` (B,) in [0, 1) picks each image's.

    `gray` is p of CAG, of the quarter that keeps no single channel.
    """
    if view is View.PLAIN:
        return images
    choice = _choices(draw, view, gray)[:, None, None, None]
    copied = images.gather(1, choice.clamp(max=2).expand(-1, 1, *images.shape[2:]))
    mixed = torch.where(choice == cpu_views.LUMA, _gray(images), copied)
    return torch.where(choice == cpu_views.AS_IT_IS, images, mixed)


def _choices(draw: Tensor, view: View, gray: float) -> Tensor:
    """(B,) a channel to copy, 3 for the luma, or 4 for the image as it is."""
    match view:
        case View.PLAIN:
            return torch.full_like(draw, cpu_views.AS_IT_IS, dtype=torch.long)
        case View.EXCHANGE:
            return (draw * 3).long()
        case View.GRAY:
            return torch.where(draw < 0.75 + gray / 4, (draw * 4).long(), cpu_views.AS_IT_IS)
        case _:
            assert_never(view)


def erase(images: Tensor, rows: IntArray, stream: int, chance: float = 0.5) -> Tensor:
    """Random erasing: area U(.02, .4), aspect U(.3, 1/.3), up to 100 tries; a copy."""
    height, width = images.shape[2:]
    box = torch.from_numpy(erased_boxes(rows, stream, chance, height, width))
    top, left, tall, wide = to_device(box, images.device).T[:, :, None]
    y = torch.arange(height, device=images.device)
    x = torch.arange(width, device=images.device)
    inside = ((y >= top) & (y < top + tall))[:, :, None] & ((x >= left) & (x < left + wide))[
        :, None
    ]
    return torch.where(inside[:, None], _channels(ERASED, images.device), images)


def erased_boxes(rows: IntArray, stream: int, chance: float, height: int, width: int) -> IntArray:
    """(B, 4) top, left, height and width of the box that is erased; zeros where none is."""
    apply = uniforms(key(stream, 1), rows, 1)[:, 0] < chance
    box = np.zeros((len(rows), 4), np.int64)  # top, left, height, width
    open_rows = np.flatnonzero(apply)
    for attempt in range(100):
        if not len(open_rows):
            break
        draw = uniforms(key(stream, 2, attempt), np.asarray(rows)[open_rows], 4)
        area = (0.02 + 0.38 * draw[:, 0]) * height * width
        aspect = 0.3 + (1 / 0.3 - 0.3) * draw[:, 1]
        tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (tall < height) & (wide < width)
        top = np.floor(draw[:, 2] * (height - tall + 1))
        left = np.floor(draw[:, 3] * (width - wide + 1))
        box[open_rows[fits]] = np.stack([top, left, tall, wide], axis=1)[fits]
        open_rows = open_rows[~fits]
    return box


def _crop_and_flip(pixels: Tensor, top: Tensor, left: Tensor, flip: Tensor, pad: int) -> Tensor:
    """Crop each (H, W) window out of the padded image, mirrored where `flip`, by one gather."""
    height, width = pixels.shape[1:3]
    padded = F.pad(pixels, (0, 0, pad, pad, pad, pad))
    y = torch.floor(top * (2 * pad + 1)).long()[:, None] + torch.arange(height, device=top.device)
    x = torch.arange(width, device=top.device).expand(len(pixels), -1)
    x = (
        torch.where(flip[:, None], width - 1 - x, x)
        + torch.floor(left * (2 * pad + 1)).long()[:, None]
    )
    row = torch.arange(len(pixels), device=top.device)[:, None, None]
    return padded[row, y[:, :, None], x[:, None, :]]
