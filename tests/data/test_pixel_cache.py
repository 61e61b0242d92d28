"""The decoded training images: found by content, and made anew if the file is damaged."""

import os
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from visir.core.run import DamageWarning
from visir.core.types import InputError, Modality, Record, Span
from visir.data.contents import contents
from visir.data.dataset import open_training_set
from visir.data.images import read_resized

SIZE = (6, 4)


def image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


@pytest.fixture
def records(tmp_path):
    paths = [tmp_path / "set" / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        image(path, number)
    return [Record(path, None, 1, Modality.VISIBLE) for path in paths]


def decoded(records, cache, monkeypatch):
    """The pixels, and how many images were decoded for them."""
    count = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "visir.data.dataset.read_resized",
            lambda path, *how: count.append(path) or read_resized(path, *how),
        )
        pixels = np.array(open_training_set(records, SIZE, cache).pixels)
    return pixels, len(count)


def test_pixels_are_followed_by_the_crc_of_every_image(records, tmp_path):
    expected = np.stack([np.asarray(Image.open(record.path)) for record in records])
    found = open_training_set(records, SIZE, tmp_path / "cache").pixels
    assert np.array_equal(found, expected)
    (path,) = (tmp_path / "cache").iterdir()
    sums = b"".join(zlib.crc32(one.tobytes()).to_bytes(4, "little") for one in expected)
    assert path.read_bytes() == expected.tobytes() + sums


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: data + b"\0",
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: data[:200] + bytes([data[200] ^ 128]) + data[201:],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    ],
    ids=["cut", "half", "empty", "zeroed", "longer", "first bit", "a bit within", "checksum"],
)
def test_a_damaged_cache_is_made_anew(damage, records, tmp_path, monkeypatch):
    whole, count = decoded(records, tmp_path / "cache", monkeypatch)
    assert count == 5
    (path,) = (tmp_path / "cache").iterdir()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    with pytest.warns(DamageWarning, match=r"pixels-\w+\.raw: is damaged"):
        again, count = decoded(records, tmp_path / "cache", monkeypatch)
    assert count == 5
    assert np.array_equal(again, whole)
    assert path.read_bytes() == good


def test_a_sound_cache_is_used_wherever_the_images_are(records, tmp_path, monkeypatch):
    whole, _ = decoded(records, tmp_path / "cache", monkeypatch)
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = [r._replace(path=tmp_path / "moved" / r.path.name) for r in records]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again, count = decoded(moved, tmp_path / "cache", monkeypatch)
    assert count == 0
    assert np.array_equal(again, whole)


def test_an_image_replaced_with_equal_size_and_time_is_seen(records, tmp_path, monkeypatch):
    path, before = records[2].path, records[2].path.stat()
    decoded(records, tmp_path / "cache", monkeypatch)
    data = bytearray(path.read_bytes())
    new = image(path, 77)
    assert path.stat().st_size == len(data)  # noise compresses to the same length
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    pixels, count = decoded(records, tmp_path / "cache", monkeypatch)
    assert count == 5
    assert np.array_equal(pixels[2], new)


def test_another_range_is_another_cache(tmp_path):
    path = tmp_path / "raw.png"
    Image.fromarray(np.array([[0, 100], [200, 300]], np.uint16)).save(path)
    record = Record(path, None, 1, Modality.INFRARED, Span(0, 300))
    found = []
    for span in (Span(0, 300), Span(0, 600)):
        one = open_training_set([record._replace(span=span)], (2, 2), tmp_path / "cache")
        found.append(one.pixels[0, :, :, 0].ravel().tolist())
    assert found == [[0, 85, 170, 255], [0, 43, 85, 128]]


def test_contents_cover_size_and_both_ends(tmp_path):
    def content(data):
        path = tmp_path / "file"
        path.write_bytes(data)
        return contents([Record(path, None, 1, Modality.VISIBLE)])[0]

    size = 200_000
    zeros = content(bytes(size))
    assert content(bytes(size)) == zeros
    for place, seen in ((0, True), (32_767, True), (100_000, False), (size - 32_768, True),
                        (size - 1, True)):  # fmt: skip
        data = bytearray(size)
        data[place] = 1
        assert (content(bytes(data)) != zeros) is seen, place
    assert content(bytes(size + 1)) != zeros
    for place in range(0, 65_536, 4_095):  # all bytes of a small file
        data = bytearray(65_536)
        data[place] = 1
        assert content(bytes(data)) != content(bytes(65_536))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    gone = Record(tmp_path / "gone.png", None, 1, Modality.VISIBLE)
    with pytest.raises(InputError, match=r"gone\.png: cannot be read \(No such file"):
        contents([gone])
