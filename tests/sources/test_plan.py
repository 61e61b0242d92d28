"""Inputs of all kinds, divided into units of work."""

import io
import json
import re
import tarfile

import pytest
from PIL import Image

from visir.core.types import InputError, Modality
from visir.data.images import read_image
from visir.sources.crop import DEFAULT_OPTIONS, ReadOptions
from visir.sources.plan import WorkUnit, crops, work_units


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 48), "red").save(path)
    return path


def shard(path, names):
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name in names:
            file = io.BytesIO()
            Image.new("RGB", (24, 48), "red").save(file, format="PNG")
            header = tarfile.TarInfo(name)
            header.size = len(file.getvalue())
            tar.addfile(header, io.BytesIO(file.getvalue()))
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("visible/door/20260131_235959.png", "visible/b.png", "ir/yard/7/c.png"):
        picture(tmp_path / "crops" / name)
    return tmp_path / "crops"


def read(unit, settings=DEFAULT_OPTIONS):
    return list(crops(unit, settings, lambda: pytest.fail("no detector is needed")))


def test_a_folder_is_read_as_a_gallery(folder):
    found = [crop for unit in work_units([folder], DEFAULT_OPTIONS, 2) for crop in read(unit)]
    assert [crop.source for crop in found] == sorted(str(p) for p in folder.rglob("*.png"))
    by_name = {crop.image.stem: crop for crop in found}
    assert by_name["c"][2:6] == ("yard", Modality.INFRARED, None, ())
    assert by_name["b"].camera == "visible"
    assert by_name["20260131_235959"].time is not None
    named = ReadOptions(camera="hall", tags=("night",))
    found = [crop for unit in work_units([folder], named, 2) for crop in read(unit, named)]
    assert {crop.image.stem: crop.camera for crop in found}["b"] == "hall"
    assert {crop.camera for crop in found} == {"hall", "door", "yard"}
    assert {crop.tags for crop in found} == {("night",)}


def test_a_table_in_the_folder_says_camera_time_and_tags(folder):
    (folder / "labels.csv").write_text(
        "path,camera,time,tags\nvisible/b.png,hall,2026-01-31T17:00Z,night;rain\n"
    )
    named = ReadOptions(camera="gate", tags=("site", "rain"))
    units = [WorkUnit(*json.loads(json.dumps(u))) for u in work_units([folder], named, 2)]
    by_name = {crop.image.stem: crop for unit in units for crop in read(unit, named)}
    assert by_name["b"][2:6] == ("hall", Modality.VISIBLE, 1769878800, ("site", "rain", "night"))
    assert by_name["c"][2:6] == ("yard", Modality.INFRARED, None, ("site", "rain"))


def test_folders_and_shards_are_divided_compressed_ones_are_not(folder, tmp_path):
    names = [f"ir/{n}.png" for n in range(5)]
    inputs = [folder, shard(tmp_path / "a.tar", names), shard(tmp_path / "b.tar.gz", names)]
    found = list(work_units(inputs, DEFAULT_OPTIONS, 2))
    assert [(unit.input_type, len(unit.items)) for unit in found] == [
        ("folder", 2), ("folder", 1), ("tar", 2), ("tar", 2), ("tar", 1), ("tar", 5),
    ]  # fmt: skip
    sources = [crop.source for unit in found for crop in read(unit)]
    assert len(sources) == len(set(sources)) == 13
    # A unit is passed between processes as JSON.
    plain = WorkUnit("tar", found[3].path, [list(item) for item in found[3].items])
    assert [crop.source for crop in read(plain)] == sources[5:7]


def test_inputs_that_cannot_be_used_are_refused(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "v.mp4").write_text("x")
    bare = picture(tmp_path / "bare" / "a.png").parent
    for inputs, settings, message in (
        ([], DEFAULT_OPTIONS, "inputs: none given"),
        ([tmp_path / "none"], DEFAULT_OPTIONS, "none: no such file or folder"),
        (
            [tmp_path / "notes.txt"],
            DEFAULT_OPTIONS,
            r"notes.txt: not a folder and not a file ending in .tar",
        ),
        ([folder, folder / "ir"], DEFAULT_OPTIONS, r"ir: is inside .*crops, another input"),
        ([folder, folder.parent / "bare" / ".." / "crops"], DEFAULT_OPTIONS, "given twice"),
        ([bare], DEFAULT_OPTIONS, "no folder name says its modality"),
        (
            [tmp_path / "v.mp4"],
            DEFAULT_OPTIONS,
            r"v.mp4: .*--detector .*folder of crops, which needs none",
        ),
        (
            [tmp_path / "v.mp4"],
            ReadOptions(detector=bare, every=0),
            "every: must be 0.02 seconds or more, got 0",
        ),
        (
            [tmp_path / "v.mp4"],
            ReadOptions(detector=bare, every=float("nan")),
            "every: must be .* got nan",
        ),
        (
            [tmp_path / "v.mp4"],
            ReadOptions(detector=bare, crops=0),
            "crops: must be 1 or more per person, got 0",
        ),
    ):
        with pytest.raises(InputError, match=message):
            list(work_units(inputs, settings, 2))
    assert len(list(work_units([bare], ReadOptions(Modality.VISIBLE), 2))) == 1


@pytest.mark.parametrize("name", ["day.seq", "DAY.SEQ", "day.csq"])
def test_recordings_of_flir_are_refused_with_what_to_do(tmp_path, name):
    (tmp_path / name).write_bytes(b"FFF\0")
    said = re.escape(
        f"{name}: FLIR's recordings (.seq, .csq) are not read; export its frames as 16-bit TIFF "
        "or as a video, with the camera's program"
    )
    boxes = ReadOptions(boxes=tmp_path / "gt.txt")
    for settings in (ReadOptions(detector=tmp_path), boxes):
        with pytest.raises(InputError, match=said):
            list(work_units([tmp_path / name], settings, 2))
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / name)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "v.mp4").write_text("x")
    with pytest.raises(InputError, match=r'pip install "visir\[video\]"'):
        list(work_units([tmp_path / "v.mp4"], ReadOptions(detector=tmp_path), 2))
