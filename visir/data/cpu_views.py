"""Training views on a CPU: the operations of `visir.data.transforms`, one image after the other.

An image is read once and its view written once; operations over a whole batch would pass through
all of its memory many times. The results are those of the same operations on another
device, bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numba
import numpy as np
import torch

from visir.core.types import BoolArray, ByteArray, FloatArray, IntArray

AS_IT_IS, LUMA = 4, 3
"""Channel operations; 0 to 2 copy that channel to all three."""
_ALIGNED = 16  # numbers between two places where an array may start
_PARTS = 4  # of each thread, so that none waits long for another


class Channels(NamedTuple):
    """Numbers of the channels, (3,) float32: mean and deviation, luma, and fill of boxes."""

    mean: FloatArray
    std: FloatArray
    luma: FloatArray
    fill: FloatArray


class Places(NamedTuple):
    """Where a view comes from: (B,) rows and columns of the crop in the padded image, mirrored?"""

    top: IntArray
    left: IntArray
    flip: BoolArray
    pad: int


def empty(count: int, height: int, width: int) -> FloatArray:
    """(B, H, W, 3) float32 for images.

    NumPy asks for large pages, which are there much sooner than PyTorch's; the start is aligned as
    PyTorch's is, because products of unaligned numbers can be rounded otherwise.
    """
    size = count * height * width * 3
    whole = np.empty(size + _ALIGNED, np.float32)
    first = -whole.ctypes.data // whole.itemsize % _ALIGNED
    return whole[first : first + size].reshape(count, height, width, 3)


def views(
    pixels: ByteArray, places: Places, choice: IntArray, boxes: IntArray, channels: Channels
) -> FloatArray:
    """Crop, mirror, normalise, exchange channels and erase: (B, H, W, 3) float32.

    Args:
        pixels: (B, H, W, 3).
        places: of the crops.
        choice: (B,) channel operation.
        boxes: (B, 4) top, left, height and width of the erased box; of height 0 if there is none.
        channels: numbers of the channels.
    """
    height, width = pixels.shape[1:3]
    out = empty(len(pixels), height, width)
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    table = (levels - channels.mean[:, None]) / channels.std[:, None]

    def part(some: slice) -> None:
        _views(
            pixels[some],
            places.top[some],
            places.left[some],
            places.flip[some],
            places.pad,
            choice[some],
            boxes[some],
            table,
            channels.luma,
            channels.fill,
            out[some],
        )

    _in_threads(part, len(pixels))
    return out


def jittered(
    pixels: ByteArray, order: IntArray, amounts: FloatArray, luma: FloatArray
) -> ByteArray:
    """Brightness, contrast, saturation and hue moved: (B, H, W, 3) uint8.

    Args:
        pixels: (B, H, W, 3).
        order: (B, 4) number of the operation at each place, from 0 in the order above.
        amounts: (B, 4) float32 by operation.
        luma: (3,) float32.
    """
    out = np.empty_like(pixels)

    def part(some: slice) -> None:
        _jitter(pixels[some], order[some], amounts[some], luma, out[some])

    _in_threads(part, len(pixels))
    return out


def _in_threads(part: Callable[[slice], None], count: int) -> None:
    """Call `part` with slices of `count`, in as many threads as PyTorch uses."""
    threads = torch.get_num_threads()
    bounds = np.linspace(0, count, min(threads * _PARTS, count) + 1).astype(int)
    slices = [slice(int(a), int(b)) for a, b in pairwise(bounds)]
    if threads == 1:
        for some in slices:
            part(some)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, slices))


@numba.njit(nogil=True, cache=True)
def _views(
    pixels: ByteArray, top: IntArray, left: IntArray, flip: BoolArray, pad: int, choice: IntArray,
    boxes: IntArray, table: FloatArray, luma: FloatArray, fill: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    for i in range(len(pixels)):
        for y in range(pixels.shape[1]):
            shift = left[i] - pad
            row = y + top[i] - pad
            _line(pixels[i], row, shift, flip[i], choice[i], table, luma, out[i, y])
        first, start, tall, wide = boxes[i]
        for channel in range(3):
            out[i, first : first + tall, start : start + wide, channel] = fill[channel]


@numba.njit(nogil=True, cache=True)
def _line(
    image: ByteArray, row: int, shift: int, flip: bool, choice: int, table: FloatArray,
    luma: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """One row of a view, (W, 3), from a row of the image that may lie outside of it."""
    height, width, _ = image.shape
    for x in range(width):
        column = (width - 1 - x if flip else x) + shift
        a, b, c = 0, 0, 0
        if 0 <= row < height and 0 <= column < width:
            a, b, c = image[row, column]
        red, green, blue = table[0, a], table[1, b], table[2, c]
        if choice == LUMA:
            red = red * luma[0] + green * luma[1] + blue * luma[2]
            green, blue = red, red
        elif choice == 0:
            green, blue = red, red
        elif choice == 1:
            red, blue = green, green
        elif choice == 2:
            red, green = blue, blue
        out[x, 0], out[x, 1], out[x, 2] = red, green, blue


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _jitter(
    pixels: ByteArray, order: IntArray, amounts: FloatArray, luma: FloatArray, out: ByteArray
) -> None:
    count, height, width, _ = pixels.shape
    size = height * width
    image = np.empty((3, size), np.float32)
    for i in range(count):
        flat, done = pixels[i].reshape(size, 3), out[i].reshape(size, 3)
        for p in range(size):
            for channel in range(3):
                image[channel, p] = np.float32(flat[p, channel]) / np.float32(255)
        for number in order[i]:
            amount = amounts[i, number]
            if number == 0:
                _brighten(image, amount)
            elif number == 1:
                _contrast(image, amount, luma)
            elif number == 2:
                _saturate(image, amount, luma)
            else:
                _turn_hue(image[0], image[1], image[2], amount)
        for p in range(size):
            for channel in range(3):
                # Adding and subtracting 1.5 * 2^23 rounds to a whole number, halves to even ones.
                level = image[channel, p] * np.float32(255) + np.float32(12582912)
                done[p, channel] = np.uint8(level - np.float32(12582912))


@numba.njit(nogil=True, cache=True)
def _bounded(value: np.float32) -> np.float32:
    return min(max(value, np.float32(0)), np.float32(1))


@numba.njit(nogil=True, cache=True)
def _brighten(image: FloatArray, amount: np.float32) -> None:
    factor = np.float32(1) + amount
    for channel in range(3):
        for p in range(image.shape[1]):
            image[channel, p] = _bounded(image[channel, p] * factor)


@numba.njit(nogil=True, cache=True)
def _contrast(image: FloatArray, amount: np.float32, luma: FloatArray) -> None:
    total = 0.0
    for p in range(image.shape[1]):
        total += image[0, p] * luma[0] + image[1, p] * luma[1] + image[2, p] * luma[2]
    base = np.float32(total / image.shape[1])
    for channel in range(3):
        for p in range(image.shape[1]):
            value = image[channel, p]
            image[channel, p] = _bounded(value + amount * (value - base))


@numba.njit(nogil=True, cache=True)
def _saturate(image: FloatArray, amount: np.float32, luma: FloatArray) -> None:
    for p in range(image.shape[1]):
        red, green, blue = image[0, p], image[1, p], image[2, p]
        base = red * luma[0] + green * luma[1] + blue * luma[2]
        image[0, p] = _bounded(red + amount * (red - base))
        image[1, p] = _bounded(green + amount * (green - base))
        image[2, p] = _bounded(blue + amount * (blue - base))


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _turn_hue(reds: FloatArray, greens: FloatArray, blues: FloatArray, turn: np.float32) -> None:
    two, four, six = np.float32(2), np.float32(4), np.float32(6)
    moved = six * turn
    for p in range(len(reds)):
        red, green, blue = reds[p], greens[p], blues[p]
        value = max(max(red, green), blue)
        chroma = value - min(min(red, green), blue)
        scale = max(chroma, np.float32(1e-12))
        by_red, by_green = (green - blue) / scale, two + (blue - red) / scale
        by_blue = four + (red - green) / scale
        hue = by_red if value == red else (by_green if value == green else by_blue)
        sector = hue + moved  # from -4 to 8
        sector = sector + six if sector < 0 else sector
        sector = sector - six if sector >= six else sector
        reds[p] = _channel(value, chroma, sector + np.float32(5))
        greens[p] = _channel(value, chroma, sector + np.float32(3))
        blues[p] = _channel(value, chroma, sector + np.float32(1))


@numba.njit(nogil=True, cache=True)
def _channel(value: np.float32, chroma: np.float32, k: np.float32) -> np.float32:
    k = k - np.float32(6) if k >= np.float32(6) else k
    return value - chroma * _bounded(min(k, np.float32(4) - k))
