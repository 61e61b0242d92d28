"""A PNG is read whole or refused: Pillow itself fills what is missing without a word."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError
from visir.data.images import read_image

MAGIC = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
          (0, 1, 1, 2))  # fmt: skip


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def written(width, height, depth, colour, interlaced, rows=None):
    """A PNG of noise, written here; `rows`: only so many bytes of its pixels."""
    rng = np.random.default_rng(0)
    images = [(width, height)]
    if interlaced:
        images = [
            (len(range(left, width, right)), len(range(top, height, down)))
            for left, top, right, down in PASSES
        ]
    pixels = b"".join(
        b"\0" + rng.bytes((columns * depth * CHANNELS[colour] + 7) // 8)
        for columns, lines in images
        for _ in range(lines)
        if columns
    )
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    packed = zlib.compress(pixels if rows is None else pixels[:rows])
    parts = [(b"IHDR", head), (b"tEXt", b"a\0b"), (b"IDAT", packed[:9]), (b"IDAT", packed[9:])]
    if colour == 3:
        parts.insert(1, (b"PLTE", rng.bytes(3 * 2**depth)))
    return MAGIC + b"".join(chunk(*part) for part in [*parts, (b"IEND", b"")]), len(pixels)


KINDS = [(depth, colour) for colour, depths in
         {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}.items()
         for depth in depths]  # fmt: skip


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (24, 17)])
@pytest.mark.parametrize(("depth", "colour"), KINDS)
def test_the_number_of_bytes_of_every_kind_is_known(tmp_path, depth, colour, size, interlaced):
    path = tmp_path / "a.png"
    content, count = written(*size, depth, colour, interlaced)
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert read_image(path).size == size
    path.write_bytes(written(*size, depth, colour, interlaced, rows=count - 1)[0])
    with pytest.raises(InputError, match=r"a\.png: the image is cut short or damaged"):
        read_image(path)


def whole():
    file = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (48, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return pixels, file.getvalue()


@pytest.mark.parametrize("sides", [(24, 49), (24, 4800)])
def test_more_pixels_than_it_holds_are_refused(tmp_path, sides):
    head = b"IHDR" + struct.pack(">II", *sides) + whole()[1][24:29]
    content = whole()[1][:12] + head + struct.pack(">I", zlib.crc32(head)) + whole()[1][33:]
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"holds 3,504 of the [\d,]+ bytes of its pixels"):
        read_image(tmp_path / "a.png")


def test_pixels_without_their_checksum_are_refused(tmp_path):
    pixels, content = whole()
    path = tmp_path / "a.png"
    path.write_bytes(content)
    np.testing.assert_array_equal(np.asarray(read_image(path)), pixels)
    place = content.index(b"IEND") - 5  # the last byte of the checksum before it
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    Image.open(path).load()  # Pillow does not look at it
    with pytest.raises(InputError, match="the checksum of its IDAT is wrong"):
        read_image(path)
