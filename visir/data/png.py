"""Whether a PNG file is whole: Pillow shows what there is of one, without a word."""

from __future__ import annotations

import zlib
from typing import BinaryIO

from PIL import Image

_MAGIC = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PALETTE = 3
# The seven images of an interlaced one: first column and row, and steps.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip
_PART = 1 << 18  # bytes that are unpacked at a time


def require_whole(file: BinaryIO, picture: Image.Image) -> None:
    """Check the checksums of the parts of a PNG that make up its pixels, and their number.

    The pixels are counted only if one side of the image is black, as all is that is missing, or if
    it would not be: in palettes, images of 16 bits, and interlaced ones. Other formats, and parts
    that visir does not use, are not looked at.

    Args:
        file: of the image, open.
        picture: what was read from it.

    Raises:
        ValueError: what is wrong.
    """
    file.seek(0)
    if file.read(len(_MAGIC)) == _MAGIC:
        _check(file, _has_black_side(picture))


def _has_black_side(picture: Image.Image) -> bool:
    width, height = picture.size
    sides = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height),
             (width - 1, 0, width, height)]  # fmt: skip
    return any(picture.crop(side).getbbox() is None for side in sides)


def _check(file: BinaryIO, counting: bool) -> None:
    unpacker, expected, count = zlib.decompressobj(), 0, 0
    while len(head := file.read(8)) == 8:
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind not in (b"IHDR", b"PLTE", b"IDAT"):
            if kind == b"IEND":
                break
            file.seek(length + 4, 1)
            continue
        data, stored = file.read(length), file.read(4)
        if int.from_bytes(stored, "big") != zlib.crc32(data, zlib.crc32(kind)) or len(stored) < 4:
            raise ValueError(f"the checksum of its {kind.decode()} is wrong")
        if kind == b"IHDR":
            counting = counting or data[8] == 16 or data[9] == _PALETTE or data[12] > 0
            expected = _size(data) if counting else 0
        if kind == b"IDAT" and counting:
            count += _unpacked(unpacker, data, expected - count)
    if count < expected:
        raise ValueError(f"it holds {count:,} of the {expected:,} bytes of its pixels")


def _unpacked(unpacker: zlib._Decompress, data: bytes, most: int) -> int:
    """How many bytes some data is unpacked to, up to a number."""
    count = 0
    try:
        while data and count < most and not unpacker.eof:
            count += len(unpacker.decompress(data, _PART))
            data = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return count


def _size(header: bytes) -> int:
    """The number of bytes that the rows of an image have, with one before each."""
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    bits = header[8] * _CHANNELS.get(header[9], 1)
    parts = [(width, height)]
    if header[12]:
        parts = [
            (-(-(width - left) // right), -(-(height - top) // down))
            for left, top, right, down in _ADAM7
        ]
    whole = ((columns, rows) for columns, rows in parts if columns > 0 and rows > 0)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in whole)
