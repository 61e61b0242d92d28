"""The pages of a TIFF file, and the values of grey pages with more than 8 bits.

Pillow decodes pages of 8 bits. Of deeper grey pages it knows some kinds only (no float16, float64,
int16 with alpha, no WhiteIsZero with 16 bits), so their strips or tiles are decoded by Pillow as
plain bytes, whatever the compression, and given their meaning here. Tags: TIFF 6.0 (Adobe, 1992).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import TiffImagePlugin

from visir.core.types import ByteArray, Modality

_CLASSIC = (b"II\x2a\0", b"MM\0\x2a")
_BIG = (b"II\x2b\0", b"MM\0\x2b")
_WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES, _FORMAT = 322, 323, 324, 325, 339
_SUBFILE, _ORIENTATION = 254, 274
_LOSSLESS = (
    1,
    5,
    8,
    32946,
    32773,
    34925,
    50000,
)  # none, LZW, deflate (2), PackBits, LZMA, Zstandard
_WHITE_IS_ZERO, _BLACK_IS_ZERO = 0, 1
_KINDS = {1: "u", 2: "i", 3: "f"}


# Field types that hold whole numbers (TIFF 6.0, section 2; 16 is BigTIFF's), as struct names them.
_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MAX_VALUES = 2**24  # of one tag; more strips than any page of 40 million pixels has


class Page(NamedTuple):
    """A page: where its directory lies in the file, its whole-number tags, the byte order."""

    offset: int
    tags: dict[int, tuple[int, ...]]
    order: str

    def number(self, tag: int, default: int) -> int:
        """The (first) value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.number(_WIDTH, 0), self.number(_LENGTH, 0)

    @property
    def bits(self) -> int:
        """Of a sample."""
        return self.number(_BITS, 1)

    @property
    def grey(self) -> bool:
        """Whether it has one channel, perhaps with transparency beside it."""
        return self.number(_PHOTOMETRIC, -1) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO)

    @property
    def orientation(self) -> int:
        """As in EXIF; 1 is upright."""
        return self.number(_ORIENTATION, 1)

    @property
    def deep(self) -> bool:
        """Whether `values` reads it."""
        known = self.number(_COMPRESSION, 1) in _LOSSLESS and self.number(_FORMAT, 1) in _KINDS
        return self.grey and self.bits > 8 and known


def pages(file: BinaryIO) -> list[Page]:
    """The pages of a file in their order; empty if it is no TIFF. Its position is kept.

    Raises:
        ValueError: a directory is cut short.
    """
    start = file.tell()
    head = file.read(16)
    found: list[Page] = []
    if head[:4] in (*_CLASSIC, *_BIG):
        order, big = "<" if head[:1] == b"I" else ">", head[:4] in _BIG
        (offset,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        seen = set[int]()
        while offset and offset not in seen:
            seen.add(offset)
            page, offset = _directory(file, start, offset, order, big)
            found.append(page)
    file.seek(start)
    return found


def _directory(file: BinaryIO, start: int, offset: int, order: str, big: bool) -> tuple[Page, int]:
    """One directory, and where the next one lies (0: nowhere)."""
    word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    file.seek(start + offset)
    (number,) = _unpack(file, order + count)
    body = _exactly(file, entry * number)
    (following,) = _unpack(file, order + word)
    tags: dict[int, tuple[int, ...]] = {}
    for place in range(0, len(body), entry):
        tag, kind, length = struct.unpack_from(order + "HH" + word, body, place)
        if kind not in _WHOLE or not 0 < length <= _MAX_VALUES:
            continue
        form = f"{order}{length}{_WHOLE[kind]}"
        room = struct.calcsize(word)
        inside = place + entry - room
        if struct.calcsize(form) <= room:
            tags[tag] = struct.unpack_from(form, body, inside)
        else:
            (elsewhere,) = struct.unpack_from(order + word, body, inside)
            file.seek(start + elsewhere)
            tags[tag] = _unpack(file, form)
    return Page(offset, tags, order), following


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(form, _exactly(file, struct.calcsize(form)))


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ValueError("a page ends early")
    return data


def chosen(found: Sequence[Page], modality: Modality | None) -> int:
    """Which page is the image: its number.

    Pages marked as reduced versions or masks are left out if there are others. Of the rest, an
    infrared image is a grey page and a visible one a colour page if there is one; then the largest,
    the one with the most bits, the first.
    """

    def rank(number: int) -> tuple[bool, bool, int, int, int]:
        page = found[number]
        whole = not page.number(_SUBFILE, 0) & 0b101  # reduced resolution, mask
        fits = modality is None or page.grey is (modality is Modality.INFRARED)
        width, height = page.size
        return whole, fits, width * height, page.bits, -number

    return max(range(len(found)), key=rank)


def starting_with(file: BinaryIO, page: Page) -> BinaryIO:
    """The same file in memory, with this page as its first one."""
    data = bytearray(file.read())
    if bytes(data[:4]) in _BIG:
        struct.pack_into(page.order + "Q", data, 8, page.offset)
    else:
        struct.pack_into(page.order + "I", data, 4, page.offset)
    return io.BytesIO(data)


def values(file: BinaryIO, page: Page) -> npt.NDArray[Any]:
    """The values of a deep grey page.

    WhiteIsZero is turned round, so that a larger value is always brighter. Where the page says that
    a pixel is transparent, its value is NaN.

    Returns:
        (height, width), integers or floating point.
    """
    samples = page.number(_SAMPLES, 1)
    apart = page.number(_PLANAR, 1) == 2  # one channel after the other
    found = _samples(file, page, 1 if apart else samples)
    grey, alpha = found[:, :, 0], None if found.shape[2] < 2 else found[:, :, 1]
    if page.number(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        grey = _turned(grey, page.bits)
    if alpha is not None and (alpha == 0).any():
        return np.where(alpha == 0, np.nan, grey)
    return grey


def _turned(grey: npt.NDArray[Any], bits: int) -> npt.NDArray[Any]:
    if grey.dtype.kind == "u":
        return np.asarray(2**bits - 1 - grey.astype(np.uint64), grey.dtype)
    return np.asarray(~grey if grey.dtype.kind == "i" else -grey)


def _samples(file: BinaryIO, page: Page, samples: int) -> npt.NDArray[Any]:
    """(height, width, samples) values as they are stored."""
    width, height = page.size
    tiled = _TILES in page.tags
    step = page.number(_TILE_WIDTH, width) if tiled else width
    across = -(-width // step)
    row = -(-step * samples * page.bits // 8)  # bytes of a tile's or a strip's row
    rows = _bytes(file, page, row, across, samples)
    blocks = rows.reshape(len(rows), across, row)
    whole = page.bits in (16, 32, 64)
    kind = _KINDS[page.number(_FORMAT, 1)]
    if not whole:
        found = _unpacked(blocks, page.bits, step * samples)
    elif page.number(_PREDICTOR, 1) == 3:
        found = _floats(blocks, page.bits // 8, samples)
    else:
        found = blocks.view(f"{page.order}{kind}{page.bits // 8}")
        found = found.astype(found.dtype.newbyteorder("="))
        if page.number(_PREDICTOR, 1) == 2:
            found = _summed(found, samples)
    return found.reshape(len(rows), across * step, samples)[:height, :width]


def _summed(blocks: npt.NDArray[Any], samples: int) -> npt.NDArray[Any]:
    """Undo horizontal differencing (predictor 2), on integers of the sample's width."""
    whole = blocks.view(f"u{blocks.dtype.itemsize}")
    rows = whole.reshape(*whole.shape[:2], -1, samples)
    summed = np.cumsum(rows, axis=2, dtype=whole.dtype).reshape(whole.shape)
    return np.asarray(summed.view(blocks.dtype))


def _floats(blocks: ByteArray, width: int, samples: int) -> npt.NDArray[Any]:
    """Undo predictor 3 (Adobe Photoshop TIFF Technical Note 3): planes of bytes, differenced."""
    height, across, row = blocks.shape
    rows = blocks.reshape(height, across, -1, samples)
    summed = np.cumsum(rows, axis=2, dtype=np.uint8).reshape(height, across, width, row // width)
    joined = np.ascontiguousarray(np.moveaxis(summed, 2, 3))  # the highest byte comes first
    return joined.reshape(height, across, row).view(f">f{width}").astype(f"f{width}")


def _unpacked(blocks: ByteArray, bits: int, count: int) -> npt.NDArray[np.uint32]:
    """Samples of an odd number of bits, packed without gaps within a row."""
    single = np.unpackbits(blocks, axis=2)[:, :, : count * bits]
    weights = 1 << np.arange(bits - 1, -1, -1, dtype=np.uint32)
    parts = single.reshape(*single.shape[:2], count, bits)
    return np.asarray((parts * weights).sum(axis=3), np.uint32)


def _bytes(file: BinaryIO, page: Page, row: int, across: int, samples: int) -> ByteArray:
    """(rows, across * row) decompressed bytes, read by Pillow as a page of 8-bit grey."""
    tiled = _TILES in page.tags
    offsets, counts = (
        page.tags[tag] for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES))
    )
    if page.number(_SAMPLES, 1) > samples:  # channels apart: the first one
        offsets, counts = (
            each[: len(each) // page.number(_SAMPLES, 1)] for each in (offsets, counts)
        )
    height = page.size[1]
    start = file.tell()
    body, places = io.BytesIO(), []
    body.write(b"II\x2a\0\0\0\0\0")
    for offset, count in zip(offsets, counts, strict=True):
        file.seek(start + offset)
        places.append(body.tell())
        body.write(_exactly(file, count))
    file.seek(start)
    entries: dict[int, Sequence[int]] = {
        _WIDTH: [row * across], _LENGTH: [height], _BITS: [8], _SAMPLES: [1],
        _COMPRESSION: [page.number(_COMPRESSION, 1)], _PHOTOMETRIC: [_BLACK_IS_ZERO],
        _FILL_ORDER: [page.number(_FILL_ORDER, 1)],
    }  # fmt: skip
    if tiled:
        entries |= {_TILE_WIDTH: [row], _TILE_LENGTH: [page.number(_TILE_LENGTH, height)]}
        entries |= {_TILES: places, _TILE_BYTES: counts}
    else:
        entries |= {_ROWS: [min(page.number(_ROWS, height), height)]}
        entries |= {_STRIPS: places, _STRIP_BYTES: counts}
    _write_directory(body, entries)
    body.seek(0)
    with TiffImagePlugin.TiffImageFile(body) as image:
        return np.array(image)


def _write_directory(body: io.BytesIO, entries: dict[int, Sequence[int]]) -> None:
    """Append a directory of 32-bit numbers and point the header at it (TIFF 6.0, section 2)."""
    fields = []
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            place = body.tell()
            body.write(packed)
            packed = struct.pack("<I", place)
        fields.append(struct.pack("<HHI", tag, 4, len(numbers)) + packed)
    body.write(bytes(body.tell() % 2))
    place = body.tell()
    body.write(struct.pack("<H", len(fields)) + b"".join(fields) + bytes(4))
    body.seek(4)
    body.write(struct.pack("<I", place))
