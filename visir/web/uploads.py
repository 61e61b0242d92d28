"""Images that are sent: read under strict rules, never written anywhere."""

from __future__ import annotations

import hashlib
import io
import re
from typing import NamedTuple

from PIL import Image

from visir.core.types import ByteArray, InputError, Modality, Span
from visir.data.images import decode, resized
from visir.data.locate import modality_by_colour
from visir.web.rendering import shrunk

MAX_IMAGES = 8
_ZIP_END, _PDF_HEAD = b"PK\x05\x06", b"%PDF-"
# A marker that ends a JPEG's coded data: neither a stuffed byte nor a restart nor filling.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END_OF_IMAGE = 0xD9
_ALONE = (0x01, 0xD8, _END_OF_IMAGE)  # markers no length follows


class Upload(NamedTuple):
    """An image that was sent.

    sha256: of the file; pixels: at the network's size; picture: a small version to show;
    modality: judged by its colours.
    """

    sha256: str
    pixels: ByteArray
    picture: Image.Image
    modality: Modality


def read_upload(data: bytes, size: tuple[int, int], name: str, span: Span | None = None) -> Upload:
    """Read an image from the bytes of its file.

    Args:
        data: the whole file.
        size: (height, width) of what the network sees, in pixels.
        name: what messages call it.
        span: of an image with more than 8 bits a pixel; None stretches it by its own values.

    Raises:
        InputError: not an image of a known format, damaged, too large, or more than an image.
    """
    picture = _decoded(data, name, span)
    small = shrunk(picture)
    digest = hashlib.sha256(data).hexdigest()
    return Upload(digest, resized(picture, size), small, modality_by_colour(small))


def _decoded(data: bytes, name: str, span: Span | None) -> Image.Image:
    if not data:
        raise InputError(f"{name}: is empty (0 bytes); send another")
    picture = decode(io.BytesIO(data), name, span=span)
    _require_nothing_else(data, name)
    return picture


def _require_nothing_else(data: bytes, name: str) -> None:
    """Refuse a file that is an image and something else as well.

    Raises:
        InputError: what it is besides, or that it is cut short.
    """
    end = _end(data)
    if end is not None and end > len(data):
        raise InputError(f"{name}: the image is cut short or damaged; send another")
    rest = b"" if end is None else data[end:].strip(b"\0\n\r ")
    if rest or _ZIP_END in data[-65_600:] or _PDF_HEAD in data[:1024]:
        raise InputError(
            f"{name}: holds more than an image; open it in an image program and save it again"
        )


def _end(data: bytes) -> int | None:
    """Where the image in a file ends; None for formats whose parts may lie anywhere."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_end(data)
    if data.startswith(b"\x89PNG"):
        return _png_end(data)
    if data.startswith(b"RIFF"):
        length = int.from_bytes(data[4:8], "little")
        return 8 + length + length % 2
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") or None
    return None


def _png_end(data: bytes) -> int:
    place = 8
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        kind = data[place + 4 : place + 8]
        place += 12 + length
        if kind == b"IEND":
            return place
    return len(data) + 1


def _jpeg_end(data: bytes) -> int:
    place = 0
    while (found := _MARKER.search(data, place)) is not None:
        place = found.end()
        kind = data[place - 1]
        # Phones put a second JPEG behind the first one: a preview, or how bright it may get.
        if kind == _END_OF_IMAGE and not data.startswith(b"\xff\xd8", place):
            return place
        if kind not in _ALONE:
            place += int.from_bytes(data[place : place + 2], "big")
    return len(data) + 1
