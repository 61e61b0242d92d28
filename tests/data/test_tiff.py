import struct

import numpy as np
import pytest
from PIL import Image

from tests.tiff_files import write_tiff
from visir.core.types import InputError, Modality, Span
from visir.data.images import read_image, read_values

CELSIUS = np.array([[-12.5, 0.0, 21.25], [36.5, 37.0, 100.0]])


def levels(path, modality=None, span=None):
    return np.asarray(read_image(path, modality, span))[:, :, 0].tolist()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_degrees_celsius_are_read(tmp_path, kind, order):
    path = write_tiff(tmp_path / "a.tiff", CELSIUS.astype(kind), order=order)
    assert np.array_equal(read_values(path), CELSIUS)
    # 0 degrees black, 50 white: 21.25 is .425 of 255, 36.5 is .73, 37 is .74
    assert levels(path, None, Span(0, 50)) == [[0, 0, 108], [186, 189, 255]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_sixteen_bits_below_zero_are_read(tmp_path, order):
    values = np.array([[-3000, -1, 0, 2500]], np.int16)  # hundredths of a degree
    path = write_tiff(tmp_path / "a.tif", values, order=order)
    assert read_values(path).tolist() == [[-3000, -1, 0, 2500]]
    assert levels(path, None, Span(-3000, 2500)) == [[0, 139, 139, 255]]


# findings/white-is-zero.sh
def test_white_is_zero_is_turned_round(tmp_path):
    deep = write_tiff(tmp_path / "a.tif", np.array([[0, 7000, 65535]], np.uint16), t262=0)
    assert read_values(deep).tolist() == [[65535, 58535, 0]]
    assert levels(deep, None, Span(0, 65535)) == [[255, 228, 0]]
    flat = write_tiff(tmp_path / "b.tif", np.array([[0, 7, 255]], np.uint8), t262=0)
    assert read_values(flat) is None
    assert levels(flat) == [[255, 248, 0]]  # Pillow turns 8 bits
    below = write_tiff(tmp_path / "c.tif", np.array([[-32768, 0, 32767]], np.int16), t262=0)
    assert read_values(below).tolist() == [[32767, -1, -32768]]


def test_grey_and_alpha_of_sixteen_bits(tmp_path):
    values = np.array([[[29300, 65535], [29400, 65535], [29500, 0]]], np.uint16)
    path = write_tiff(tmp_path / "a.tif", values)
    assert read_values(path)[0, :2].tolist() == [29300, 29400]
    assert np.isnan(read_values(path)[0, 2])  # transparent
    assert levels(path, None, Span(29300, 29400)) == [[0, 255, 0]]


def test_twelve_bits_in_a_row_of_whole_bytes(tmp_path):
    """Three samples of 12 bits are 36 bits, padded to five bytes: 0xABC, 0x001, 0xFFF."""
    packed = np.array([[0xAB, 0xC0, 0x01, 0xFF, 0xF0]], np.uint8)
    path = write_tiff(tmp_path / "a.tif", packed, t256=3, t258=12)
    assert read_values(path).tolist() == [[0xABC, 0x001, 0xFFF]]
    turned = write_tiff(tmp_path / "b.tif", packed, t256=3, t258=12, t262=0)
    assert read_values(turned).tolist() == [[0x543, 0xFFE, 0x000]]


@pytest.mark.parametrize("kind", ["u2", "i2", "f4"])
@pytest.mark.parametrize("how", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
def test_compressions_change_nothing(tmp_path, kind, how):
    values = (np.arange(70 * 33).reshape(70, 33) * 13 % 9000).astype(kind)
    picture = Image.fromarray(values.astype("i4") if kind == "i2" else values)
    path = tmp_path / "a.tif"
    picture.save(path, compression=how)
    assert np.array_equal(read_values(path), values)


@pytest.mark.parametrize(("kind", "predictor"), [("u2", 2), ("f4", 2), ("f4", 3)])
def test_predictors_are_undone(tmp_path, kind, predictor):
    values = (np.random.default_rng(0).normal(size=(40, 30)) * 500 + 20000).astype(kind)
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path, compression="tiff_lzw", tiffinfo={317: predictor})
    assert np.array_equal(read_values(path), values)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[29300, 29345], [29301, 29400]], np.uint16),
        np.array([[-12.5, 37.0]], np.float32),
    ],
)
def test_files_beyond_four_gigabytes_in_form(tmp_path, values):
    """BigTIFF, by its table: version 43, offsets of 8 bytes, entries of 20."""
    path = tmp_path / "a.tif"
    height, width = values.shape
    data = values.tobytes()
    start = 16 + len(data)
    kind = 3 if values.dtype.kind == "f" else 1
    entries = [(256, width), (257, height), (258, 8 * values.itemsize), (259, 1), (262, 1),
               (273, 16), (277, 1), (278, height), (279, len(data)), (339, kind)]  # fmt: skip
    table = struct.pack("<Q", len(entries))
    table += b"".join(struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in entries)
    path.write_bytes(struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) + data + table + bytes(8))
    assert np.array_equal(read_values(path), values)


def test_channels_one_after_another(tmp_path):
    """PlanarConfiguration 2, by TIFF 6.0: all red bytes, then all green, then all blue."""
    path = tmp_path / "a.tif"
    planes = np.array([[[255, 0], [10, 20]], [[0, 255], [30, 40]], [[7, 8], [50, 60]]], np.uint8)
    planar = np.concatenate(list(planes.reshape(3, 4)))
    entries = [(256, 4, 1, 2), (257, 4, 1, 2), (258, 3, 3, 20), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 3, 26), (277, 3, 1, 3), (278, 4, 1, 2), (279, 4, 3, 38),
               (284, 3, 1, 2)]  # fmt: skip
    body = planar.tobytes() + struct.pack("<3H3I3I", 8, 8, 8, 8, 12, 16, 4, 4, 4)
    table = struct.pack("<H", len(entries))
    table += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8 + len(body)) + body + table + bytes(4))
    assert np.array_equal(np.asarray(read_image(path)), np.moveaxis(planes, 0, 2))


def test_orientation(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.array([[100, 200, 300]], np.uint16), t274=6)
    # 6: the left column of the file is the top row of the picture
    assert levels(path, None, Span(100, 300)) == [[0], [128], [255]]


def test_the_page_of_the_camera_is_taken(tmp_path):
    colour = np.full((48, 64, 3), (200, 10, 10), np.uint8)
    thermal = np.full((20, 30), 29500, np.uint16)
    path = write_tiff(tmp_path / "a.tif", colour, thermal)
    assert read_image(path, Modality.INFRARED, Span(29400, 29500)).size == (30, 20)
    assert read_image(path, Modality.VISIBLE).size == (64, 48)
    assert read_image(path).size == (64, 48)  # the largest
    turned = write_tiff(tmp_path / "b.tif", thermal, colour)
    assert read_image(turned, Modality.VISIBLE).getpixel((5, 5)) == (200, 10, 10)


def test_a_thumbnail_is_not_taken(tmp_path):
    small, large = np.zeros((8, 6), np.uint8), np.full((80, 60), 9, np.uint8)
    path = write_tiff(tmp_path / "a.tif", small, large)
    assert read_image(path, Modality.INFRARED).size == (60, 80)
    assert levels(path)[0][0] == 9
    celsius = write_tiff(tmp_path / "b.tif", small, CELSIUS)  # of equal kind, smaller
    assert read_image(celsius, Modality.INFRARED).size == (6, 8)


def test_damaged_pages_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", CELSIUS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"a\.tif: the image is cut short or damaged"):
        read_image(path)
    place = struct.unpack_from("<I", whole, 4)[0]
    path.write_bytes(whole[:-4] + struct.pack("<I", place))  # the next page is the first again
    assert np.array_equal(read_values(path), CELSIUS)
    huge = write_tiff(tmp_path / "b.tif", CELSIUS, t256=60000, t257=60000)
    with pytest.raises(InputError, match="40 million pixels"):
        read_image(huge)
