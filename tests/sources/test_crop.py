"""What all sources share: times, folder names, decoding."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError, Modality
from visir.data.images import decode
from visir.data.locate import placed
from visir.sources.crop import Broken, Crop, opened, timestamp

MOMENT = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "name",
    [
        "20260131_235959", "cam3_20260131_235959_0007", "2026-01-31T23:59:59Z",
        "2026-01-31T23-59-59", "2026-01-31 23.59.59", "20260131235959", "20260131T235959",
        "2026_01_31_23_59_59", "2026-02-01T00:59:59+01:00", "20261331_235959_20260131_235959",
    ],
)  # fmt: skip
def test_a_timestamp_in_a_name_is_read(name):
    assert timestamp(name) == MOMENT


@pytest.mark.parametrize(
    "name",
    [
        "0001", "0001_c01_s185535_f7010_vis", "20260231_235959", "20260131_245959", "20260131",
        "120260131_235959", "20260131_2359591", "30260131_235959", "2026-0131_235959",
    ],
)  # fmt: skip
def test_other_names_say_no_time(name):
    assert timestamp(name) is None


def test_parts_of_a_second_count_and_a_number_behind_is_no_zone():
    assert timestamp("20260131_235959.25") == MOMENT + 0.25
    assert timestamp("20260131_235959-0100") == MOMENT


def save_with_exif(path, taken, zone=None, orientation=1):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x9003] = taken
    if zone:
        exif.get_ifd(0x8769)[0x9011] = zone
    Image.new("RGB", (20, 40), "red").save(path, exif=exif)


@pytest.mark.parametrize(
    ("taken", "zone", "orientation", "expected"),
    [
        ("2026:01:31 23:59:59", None, 1, MOMENT),
        ("2026:02:01 00:59:59", "+01:00", 6, MOMENT),
        ("0000:00:00 00:00:00", None, 1, None),
    ],
)
def test_exif_says_the_time_where_the_name_does_not(tmp_path, taken, zone, orientation, expected):
    path = tmp_path / "0001.jpg"
    save_with_exif(path, taken, zone, orientation)
    crop = Crop(str(path), path, "door", Modality.VISIBLE)
    read = opened(crop)
    assert read.time == expected
    assert read.image.shape == ((20, 40, 3) if orientation == 6 else (40, 20, 3))
    assert opened(crop._replace(time=5.0)).time == 5.0


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of the damage
def test_damaged_exif_says_nothing(tmp_path):
    path = tmp_path / "0001.jpg"
    save_with_exif(path, "2026:01:31 23:59:59")
    whole = path.read_bytes()
    place = whole.index(b"Exif")
    for at in range(place + 6, place + 60):
        path.write_bytes(whole[:at] + b"\xff" + whole[at + 1 :])
        read = opened(Crop("x", path, "door", Modality.VISIBLE))
        assert isinstance(read, Broken) or read.image.shape[2] == 3


def test_a_broken_file_is_returned_not_raised(tmp_path):
    path = tmp_path / "0001.jpg"
    path.write_bytes(b"")
    read = opened(Crop("here", path, "door", Modality.VISIBLE))
    assert isinstance(read, Broken)
    assert read.source == "here"
    assert "0001.jpg: the file is empty" in read.reason
    assert "--skip-broken" in str(read.error())
    pixels = np.zeros((4, 4, 3), np.uint8)
    assert opened(Crop("here", pixels, "door", Modality.VISIBLE)).image is pixels


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("Visible", "door", "7"), (Modality.VISIBLE, "door")),
        (("site", "nir"), (Modality.INFRARED, None)),
        (("rgb", "ir"), (Modality.VISIBLE, "ir")),
        (("door", "7"), (None, "door")),
        ((), (None, None)),
    ],
)
def test_folders_say_modality_and_camera(folders, expected):
    assert placed(folders) == expected


def encoded(picture, **options):
    file = io.BytesIO()
    picture.save(file, **options)
    return file.getvalue()


def test_bytes_are_limited_as_files_are():
    good = encoded(Image.new("RGB", (9, 9), "red"), format="JPEG")
    assert decode(io.BytesIO(good), "x").size == (9, 9)
    for data, fault in (
        (good[:-40], "cut short or damaged"),
        (b"no image", "not an image"),
        (encoded(Image.new("1", (8000, 6000)), format="PNG"), "more than 40 million pixels"),
    ):
        with pytest.raises(InputError, match=f"^a.tar::x: .*{fault}"):
            decode(io.BytesIO(data), "a.tar::x")
