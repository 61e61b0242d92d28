"""Training views on a CPU: the operations of `visir.data.transforms`, one image after the other.

An image is read once and its view written once; operations over a whole batch would pass through
all of its memory many times. The results are those of the same operations on another
device, bit by bit.
"""

from __future__ import annotations

import weakref
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


# Divisions by zero give infinity, so that loops with them are made of vector instructions.
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


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


_free: list[FloatArray] = []  # of batches that are gone, all of one size


def empty(count: int, height: int, width: int) -> FloatArray:
    """(B, H, W, 3) float32 for images, not filled.

    The memory of a batch that is gone is used again, because new pages take longer than the views.
    The start is aligned as PyTorch's is: products of unaligned numbers can be rounded otherwise.
    """
    size = count * height * width * 3
    try:
        whole = _free.pop()
    except IndexError:
        whole = np.empty(0, np.float32)
    if len(whole) != size + _ALIGNED:
        _free.clear()
        whole = np.empty(size + _ALIGNED, np.float32)
    first = -whole.ctypes.data // whole.itemsize % _ALIGNED
    images = whole[first : first + size].reshape(count, height, width, 3)
    weakref.finalize(images, _free.append, whole)
    return images


def views(
    pixels: ByteArray,
    places: Places,
    choice: IntArray,
    boxes: IntArray,
    channels: Channels,
    out: FloatArray,
) -> None:
    """Crop, mirror, normalise, exchange channels and erase.

    Args:
        pixels: (B, H, W, 3).
        places: of the crops.
        choice: (B,) channel operation.
        boxes: (B, 4) top, left, height and width of the erased box; of height 0 if there is none.
        channels: numbers of the channels.
        out: (B, H, W, 3) float32, which is filled.
    """
    count, height, width = pixels.shape[:3]
    # Each channel operation normalises the numbers of a row with its own means and deviations.
    taken = np.array([[0] * 3, [1] * 3, [2] * 3, [0, 1, 2], [0, 1, 2]])
    means, stds = (np.tile(of[taken], (1, width)) for of in (channels.mean, channels.std))
    lines, made = pixels.reshape(count, height, -1), out.reshape(count, height, -1)

    def part(some: slice) -> None:
        _views(
            lines[some],
            places.top[some],
            places.left[some],
            places.flip[some],
            choice[some],
            boxes[some],
            places.pad,
            means,
            stds,
            channels.luma,
            channels.fill,
            made[some],
        )

    _in_threads(part, count)


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


@_compiled
def _views(
    lines: ByteArray, top: IntArray, left: IntArray, flip: BoolArray, choice: IntArray,
    boxes: IntArray, pad: int, means: FloatArray, stds: FloatArray, luma: FloatArray,
    fill: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """`views`, with (B, H, 3 W) instead of (B, H, W, 3); loops over long rows are fast."""
    height, size = lines.shape[1:]
    line, planes = np.empty(size, np.uint8), np.empty((3, size // 3), np.uint8)
    for i in range(len(lines)):
        way = choice[i]
        for y in range(height):
            row = y + top[i] - pad
            line[:] = 0
            if 0 <= row < height:
                _crop(lines[i, row], left[i] - pad, flip[i], way, planes, line)
            for k in range(size):
                level = np.float32(line[k]) / np.float32(255)
                out[i, y, k] = (level - means[way, k]) / stds[way, k]
        if way == LUMA:
            _grey(out[i], luma)
        above, start, tall, wide = boxes[i]
        for channel in range(3):
            columns = slice(3 * start + channel, 3 * (start + wide), 3)
            out[i, above : above + tall, columns] = fill[channel]


@_compiled
def _crop(
    source: ByteArray, shift: int, flip: bool, way: int, planes: ByteArray, line: ByteArray
) -> None:
    """Columns of a row of an image, moved and mirrored, into a row of a view."""
    size = max(0, len(line) // 3 - abs(shift))
    place = max(0, shift if flip else -shift)
    if flip or way < LUMA:
        _split(source, max(0, shift), size, planes)
        _put(planes, way, flip, size, place, line)
    else:
        for k in range(3 * size):
            line[3 * place + k] = source[3 * max(0, shift) + k]


@_compiled
def _split(line: ByteArray, first: int, size: int, planes: ByteArray) -> None:
    """The channels of some pixels of a row, one after the other: (3, W)."""
    for x in range(size):
        planes[0, x] = line[3 * (first + x)]
        planes[1, x] = line[3 * (first + x) + 1]
        planes[2, x] = line[3 * (first + x) + 2]


@_compiled
def _put(planes: ByteArray, way: int, flip: bool, size: int, first: int, line: ByteArray) -> None:
    """Channels into a row from a pixel on, mirrored or not; one of them thrice, or each once."""
    red = planes[way if way < LUMA else 0]
    green = planes[way if way < LUMA else 1]
    blue = planes[way if way < LUMA else 2]
    if flip:
        for x in range(size):
            line[3 * (first + x)] = red[size - 1 - x]
            line[3 * (first + x) + 1] = green[size - 1 - x]
            line[3 * (first + x) + 2] = blue[size - 1 - x]
    else:
        for x in range(size):
            line[3 * (first + x)] = red[x]
            line[3 * (first + x) + 1] = green[x]
            line[3 * (first + x) + 2] = blue[x]


@_compiled
def _grey(view: FloatArray, luma: FloatArray) -> None:
    """The luma in all channels of (H, 3 W)."""
    for y in range(view.shape[0]):
        for x in range(0, view.shape[1], 3):
            red, green, blue = view[y, x], view[y, x + 1], view[y, x + 2]
            grey = red * luma[0] + green * luma[1] + blue * luma[2]
            view[y, x], view[y, x + 1], view[y, x + 2] = grey, grey, grey


@_compiled
def _jitter(
    pixels: ByteArray, order: IntArray, amounts: FloatArray, luma: FloatArray, out: ByteArray
) -> None:
    size = pixels.shape[1] * pixels.shape[2]
    planes, image = np.empty((3, size), np.uint8), np.empty((3, size), np.float32)
    for i in range(len(pixels)):
        _split(pixels[i].reshape(3 * size), 0, size, planes)
        for channel in range(3):
            for p in range(size):
                image[channel, p] = np.float32(planes[channel, p]) / np.float32(255)
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
        for channel in range(3):
            for p in range(size):
                # Adding and subtracting 1.5 * 2^23 rounds to a whole number, halves to even ones.
                level = image[channel, p] * np.float32(255) + np.float32(12582912)
                planes[channel, p] = np.uint8(np.int32(level - np.float32(12582912)))
        _put(planes, AS_IT_IS, False, size, 0, out[i].reshape(3 * size))


@_compiled
def _bounded(value: np.float32) -> np.float32:
    return min(max(value, np.float32(0)), np.float32(1))


@_compiled
def _brighten(image: FloatArray, amount: np.float32) -> None:
    factor = np.float32(1) + amount
    for channel in range(3):
        for p in range(image.shape[1]):
            image[channel, p] = _bounded(image[channel, p] * factor)


@_compiled
def _contrast(image: FloatArray, amount: np.float32, luma: FloatArray) -> None:
    greys = np.empty(image.shape[1], np.float32)
    for p in range(image.shape[1]):
        greys[p] = image[0, p] * luma[0] + image[1, p] * luma[1] + image[2, p] * luma[2]
    base = np.float32(_sum(greys) / image.shape[1])
    for channel in range(3):
        for p in range(image.shape[1]):
            value = image[channel, p]
            image[channel, p] = _bounded(value + amount * (value - base))


@numba.njit(nogil=True, cache=True, fastmath={"reassoc"})
def _sum(values: FloatArray) -> float:
    """In float64, where the order of the sum does not show after rounding to float32."""
    total = 0.0
    for value in values:
        total += np.float64(value)
    return total


@_compiled
def _saturate(image: FloatArray, amount: np.float32, luma: FloatArray) -> None:
    for p in range(image.shape[1]):
        red, green, blue = image[0, p], image[1, p], image[2, p]
        base = red * luma[0] + green * luma[1] + blue * luma[2]
        image[0, p] = _bounded(red + amount * (red - base))
        image[1, p] = _bounded(green + amount * (green - base))
        image[2, p] = _bounded(blue + amount * (blue - base))


@_compiled
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


@_compiled
def _channel(value: np.float32, chroma: np.float32, k: np.float32) -> np.float32:
    k = k - np.float32(6) if k >= np.float32(6) else k
    return value - chroma * _bounded(min(k, np.float32(4) - k))
