from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError, Span
from visir.data.images import parse_size, read_image, read_resized
from visir.data.tree import image_files, image_tree, masks


def test_exif_rotation_is_applied(tmp_path):
    upright = np.zeros((40, 20, 3), np.uint8)
    upright[:20] = (255, 0, 0)  # red above black
    exif = Image.Exif()
    exif[0x0112] = 6  # the picture is to be turned 90 degrees clockwise
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.rot90(upright)).save(path, exif=exif, quality=95)
    image = np.asarray(read_image(path))
    assert image.shape == (40, 20, 3)
    assert image[5, 10, 0] > 200
    assert image[35, 10, 0] < 50


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bit_is_scaled_not_clipped(tmp_path, suffix):
    values = np.array([[0, 257, 25700, 65535]] * 2, np.uint16)
    path = tmp_path / f"deep{suffix}"
    Image.fromarray(values).save(path)
    image = np.asarray(read_image(path))
    assert image.shape == (2, 4, 3)
    assert image[0, :, 1].tolist() == [0, 1, 100, 255]


def test_palette_with_transparency(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((1, 0), 1)
    path = tmp_path / "palette.png"
    image.save(path, transparency=0)
    assert np.asarray(read_image(path)).tolist() == [[[0, 0, 0], [200, 100, 50]]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("LA", (77, 0), (0, 0, 0)),
        ("RGBA", (9, 8, 7, 255), (9, 8, 7)),
        ("1", 1, (255, 255, 255)),
        ("P", 3, None),
    ],
)
def test_other_modes_become_rgb(tmp_path, mode, colour, expected):
    image = Image.new(mode, (3, 2), colour)
    path = tmp_path / "image.png"
    image.save(path)
    read = read_image(path)
    assert (read.mode, read.size) == ("RGB", (3, 2))
    if expected:
        assert read.getpixel((1, 1)) == expected


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif", ".ppm"])
def test_every_format_is_read(tmp_path, make_image, suffix):
    assert read_image(make_image(tmp_path / f"image{suffix}")).size == (24, 48)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tif"])
def test_truncated_image_is_refused(tmp_path, make_image, suffix):
    path = make_image(tmp_path / f"cut{suffix}", size=(64, 128))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(InputError, match=f"cut{suffix}.*replace or remove it"):
        read_image(path)


def test_empty_foreign_and_absent_files_are_refused(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(InputError, match=r"a\.jpg.*0 bytes.*replace or remove it"):
        read_image(path)
    path.write_text("this is no picture, whatever its name says")
    with pytest.raises(InputError, match=r"a\.jpg: not an image.*replace or remove it"):
        read_image(path)
    with pytest.raises(InputError, match=r"b\.jpg: there is no such file"):
        read_image(tmp_path / "b.jpg")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_image(tmp_path)


def test_huge_image_is_refused_before_decoding(tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (8000, 5001)).save(path)
    with pytest.raises(InputError, match="40 million pixels"):
        read_image(path)
    Image.new("1", (8000, 5000)).save(path)
    assert read_image(path).size == (8000, 5000)


def test_formats_beyond_the_known_are_refused(tmp_path, make_image):
    path = make_image(tmp_path / "image.gif")
    with pytest.raises(InputError, match="not an image that can be read"):
        read_image(path)


def test_read_resized(tmp_path, make_image):
    path = make_image(tmp_path / "a.png")
    resized = read_resized(path, (32, 16))
    expected = read_image(path).resize((16, 32), Image.Resampling.LANCZOS)
    assert resized.dtype == np.uint8
    assert np.array_equal(resized, np.asarray(expected))
    assert not np.array_equal(resized, np.asarray(read_image(path).resize((16, 32), 2)))
    resized[:] = 0  # writable


def test_parse_size():
    assert parse_size("288x144") == (288, 144)
    assert parse_size(" 64X32 ") == (64, 32)
    for text in ("288", "288x", "0x144", "-1x2", "288x144x3", "axb", ""):
        with pytest.raises(InputError, match="288x144"):
            parse_size(text)


def test_listings_are_sorted_and_know_images(tmp_path, make_image):
    for name in ("b.PNG", "a.jpg", "c.jpeg", ".hidden.jpg", "sub/d.png", ".cache/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.jpg").mkdir()
    names = [path.name for path in image_files(tmp_path)]
    assert names == ["a.jpg", "b.PNG", "c.jpeg"]
    tree = [path.relative_to(tmp_path) for path in image_tree(tmp_path)]
    assert tree == [Path("a.jpg"), Path("b.PNG"), Path("c.jpeg"), Path("sub/d.png")]


def test_masks_of_other_images_are_passed_over(tmp_path):
    people = ["a.jpg", "b.front.png", "2026.01.31_cam1.jpg", "mask.png", "c.seg.png", "d.MASK.jpg"]
    marked = ["a.seg.png", "a.Mask.png", "b.depth.png", "b.front.parsing.png",
              "2026.01.31_cam1.segmentation.2.png"]  # fmt: skip
    for name in (*people, *marked):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == sorted(people)
    assert [path.name for path in image_tree(tmp_path)] == sorted(people)
    assert masks([*people, *marked]) == set(marked)
    assert masks(["x/a.jpg", "y/a.seg.png"]) == frozenset()  # of no image in its own folder


@pytest.mark.parametrize("maximum", [1, 200, 255, 1023, 40000, 65535])
def test_any_maximum_of_a_pgm(tmp_path, maximum):
    """By the format: one byte a pixel up to 255, else two; the maximum is white."""
    kind = np.uint8 if maximum < 256 else np.dtype(">u2")
    values = np.array([[0, maximum]], kind)
    path = tmp_path / "a.pgm"
    path.write_bytes(f"P5 2 1 {maximum}\n".encode() + values.tobytes())
    grey = np.asarray(read_image(path, None, Span(0, 65535)))[0, :, 0]
    assert grey.tolist() == [0, 255]


def test_four_inks_become_colours(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=100)  # magenta and yellow
    red, green, blue = read_image(path).getpixel((8, 8))
    assert red > 240
    assert max(green, blue) < 15
