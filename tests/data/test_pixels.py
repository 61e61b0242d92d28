import io
import sys
import types
import zlib

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError, Modality, Span
from visir.data import pixels
from visir.data.images import read_image, read_values
from visir.data.tree import image_files


def test_the_range_leaves_out_the_extremes():
    values = np.arange(1001.0)  # .5 % of 0..1000 is 5, 99.5 % is 995
    assert pixels.span_of(values) == Span(5, 995)
    assert pixels.span_of(np.array([np.nan, np.inf])) == Span(0, 1)


def test_values_become_levels():
    values = np.array([[-np.inf, 6999, 7000, 8000, 9000, 9001, np.nan]])
    assert pixels.grey8(values, Span(7000, 9000)).tolist() == [[0, 0, 0, 128, 255, 255, 0]]
    assert pixels.grey8(np.array([5, 5, 6]), Span(5, 5)).tolist() == [0, 0, 255]


# findings/thermal-png.sh
@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_raw_counts_keep_their_contrast(tmp_path, suffix):
    counts = np.tile(np.arange(7000, 9000, 10, dtype=np.uint16), (4, 1))
    path = tmp_path / f"raw{suffix}"
    Image.fromarray(counts).save(path)
    image = np.asarray(read_image(path, Modality.INFRARED, Span(7000, 8990)))
    assert len(np.unique(image)) == 200
    assert image[0, 0].tolist() == [0, 0, 0]
    assert image[0, -1].tolist() == [255, 255, 255]


def test_alone_it_is_stretched_with_a_warning(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[100, 200, 300]] * 400, np.uint16)).save(path)
    with pytest.warns(pixels.RangeWarning, match=r"a\.png: no range of its camera is known"):
        image = np.asarray(read_image(path))
    assert image[0, :, 0].tolist() == [0, 128, 255]


def test_eight_bits_are_untouched(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[100, 110, 120]], np.uint8)).save(path)
    assert read_values(path) is None
    assert np.asarray(read_image(path, None, Span(100, 120)))[0, :, 0].tolist() == [100, 110, 120]


def test_a_png_of_sixteen_bit_grey_and_alpha(tmp_path):
    """Made by the PNG specification: colour type 4, a filter byte (2: up) before the second row."""
    rows = np.array([[[29300, 65535], [29345, 65535]], [[29301, 65535], [29400, 0]]], ">u2")
    first, second = (row.tobytes() for row in rows)
    up = bytes((b - a) % 256 for a, b in zip(first, second, strict=True))
    data = b"\x89PNG\r\n\x1a\n"
    head = b"\0\0\0\2\0\0\0\2\x10\4\0\0\0"
    packed = zlib.compress(b"\0" + first + b"\2" + up)
    for kind, body in ((b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")):
        data += len(body).to_bytes(4, "big") + kind + body
        data += zlib.crc32(kind + body).to_bytes(4, "big")
    path = tmp_path / "a.png"
    path.write_bytes(data)
    values = read_values(path)
    assert values[0].tolist() == [29300, 29345]
    assert values[1, 0] == 29301
    assert np.isnan(values[1, 1])
    grey = np.asarray(read_image(path, None, Span(29300, 29400)))[:, :, 0]
    assert grey.tolist() == [[0, 115], [3, 0]]


def radiometric(path, size=(32, 24)):
    """A JPEG with a FLIR segment; what is in it only flyr reads."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "orange").save(buffer, "JPEG")
    segment = b"FLIR\0\1\0\0rest"
    marker = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    data = buffer.getvalue()
    path.write_bytes(data[:2] + marker + data[2:])
    return path


def test_the_raster_of_a_radiometric_jpeg(tmp_path, monkeypatch):
    celsius = np.array([[20.0, 25.0], [30.0, 40.0]])
    path = radiometric(tmp_path / "a.jpg")
    plain = tmp_path / "b.jpg"
    Image.new("RGB", (8, 8)).save(plain)
    monkeypatch.setattr(pixels, "can_read_radiometric", lambda: False)
    assert read_values(path, Modality.INFRARED) is None
    assert read_image(path, Modality.INFRARED).size == (32, 24)
    monkeypatch.setattr(pixels, "can_read_radiometric", lambda: True)
    unpack = {"unpack": lambda file: types.SimpleNamespace(celsius=celsius)}
    monkeypatch.setitem(sys.modules, "flyr", types.SimpleNamespace(**unpack))
    assert read_values(path, Modality.INFRARED).tolist() == celsius.tolist()
    assert read_values(path, Modality.VISIBLE) is None
    assert read_values(plain, Modality.INFRARED) is None
    grey = np.asarray(read_image(path, Modality.INFRARED, Span(20, 40)))[:, :, 0]
    assert grey.tolist() == [[0, 64], [128, 255]]
    monkeypatch.setitem(sys.modules, "flyr", types.SimpleNamespace(unpack=lambda file: 1 / 0))
    with pytest.raises(InputError, match=r"a\.jpg: the raster of temperatures.*save it as TIFF"):
        read_image(path, Modality.INFRARED)


def test_all_endings_of_jpeg_are_known(tmp_path):
    for name in ("a.jfif", "b.jpe", "c.JPG", "d.jpeg"):
        Image.new("RGB", (4, 4), "red").save(tmp_path / name, "JPEG")
    assert [path.name for path in image_files(tmp_path)] == ["a.jfif", "b.jpe", "c.JPG", "d.jpeg"]
    assert read_image(tmp_path / "a.jfif").size == (4, 4)
