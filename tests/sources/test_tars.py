"""Tar shards: members that are read or refused, and that nothing is written to disk."""

import io
import json
import tarfile
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError, Modality
from visir.sources import tars
from visir.sources.crop import DEFAULT_OPTIONS, Broken, ReadOptions
from visir.sources.plan import crops as crops_of
from visir.sources.plan import work_units

COLOURS = {"a": "red", "b": "lime", "c": "blue"}


def jpeg(colour="red", **options):
    file = io.BytesIO()
    Image.new("RGB", (24, 48), colour).save(file, format="JPEG", **options)
    return file.getvalue()


def entry(name, data=b"", kind=tarfile.REGTYPE, link=""):
    header = tarfile.TarInfo(name)
    header.size, header.type, header.linkname = len(data), kind, link
    return header, data


def write(path, entries, mode="w"):
    with tarfile.open(path, mode) as tar:
        for header, data in entries:
            tar.addfile(header, io.BytesIO(data))
    return path


def plain(path, mode="w"):
    pictures = [entry(f"visible/door/{name}.jpg", jpeg(c)) for name, c in COLOURS.items()]
    return write(path, [entry("readme.txt", b"x" * 700), *pictures], mode)


def read(path, settings=DEFAULT_OPTIONS, skip=False):
    return list(tars.crops(path, tars.listed(path, skip), settings))


@pytest.mark.parametrize(
    ("name", "mode"), [("s.tar", "w"), ("s.tar.gz", "w:gz"), ("s.TGZ", "w:gz")]
)
def test_members_are_crops_in_their_order(tmp_path, name, mode):
    path = plain(tmp_path / name, mode)
    crops = read(path)
    assert [crop.source for crop in crops] == [f"{path}::visible/door/{n}.jpg" for n in "abc"]
    assert [crop.camera for crop in crops] == ["door"] * 3
    assert {crop.modality for crop in crops} == {Modality.VISIBLE}
    for crop, colour in zip(crops, COLOURS.values(), strict=True):
        np.testing.assert_array_equal(crop.image, Image.open(io.BytesIO(jpeg(colour))))
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names_are_read(tmp_path, form):
    names = [f"./ir/{'yard' * 20}/{'x' * 40}.jpg", "ir/höf/ö.jpg", "ir/a.b.c.jpg"]
    path = tmp_path / "s.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name in names:
            header, data = entry(name, jpeg())
            tar.addfile(header, io.BytesIO(data))
    crops = read(path)
    assert [crop.source.partition("::")[2] for crop in crops] == [names[0][2:], *names[1:]]
    assert [crop.camera for crop in crops] == ["yard" * 20, "höf", Modality.INFRARED.value]


def test_json_beside_an_image_goes_before_folders_and_settings(tmp_path):
    about = {"camera": 7, "modality": "infrared", "time": "2026-01-31T23:59:59", "tags": ["night"]}
    entries = [
        entry("visible/door/a.json", json.dumps(about).encode()),
        entry("visible/door/a.jpg", jpeg()),
        entry("visible/door/b.jpg", jpeg()),
        entry("c.front.jpg", jpeg()),
        entry("c.json", b'{"time": 12.5, "pid": 3, "camera": null}'),
        entry("20260131_235959.jpg", jpeg()),
    ]
    settings = ReadOptions(Modality.INFRARED, "hall", ("set",))
    a, b, c, d = read(write(tmp_path / "s.tar", entries), settings)
    moment = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    assert a[2:6] == ("7", Modality.INFRARED, moment, ("set", "night"))
    assert b[2:6] == ("door", Modality.VISIBLE, None, ("set",))
    assert c[2:6] == ("hall", Modality.INFRARED, 12.5, ("set",))
    assert d.time == moment


def about(**said):
    return json.dumps({"modality": "visible", **said}).encode()


# findings/dotted-keys.sh
def test_keys_with_several_dots_are_apart(tmp_path):
    entries = [
        entry("2026.01.31_cam1.jpg", jpeg()),
        entry("2026.01.31_cam1.json", about(camera="one")),
        entry("2026.02.01_cam2.jpg", jpeg()),
        entry("2026.02.01_cam2.json", about(camera="two")),
        entry("2026.02.01_cam2.back.jpg", jpeg()),
        entry("2026.02.02_cam3.jpg", jpeg()),
    ]
    path = write(tmp_path / "s.tar", entries)
    crops = read(path, ReadOptions(Modality.VISIBLE, "none"))
    assert [crop.camera for crop in crops] == ["one", "two", "two", "none"]


def test_the_longest_key_counts_and_json_may_be_in_capitals(tmp_path):
    entries = [
        entry("ir/a.JSON", about(modality="infrared", camera="all")),
        entry("ir/a.front.Json", about(modality="infrared", camera="front")),
        entry("ir/a.front.left.jpg", jpeg()),
        entry("ir/a.back.jpg", jpeg()),
        entry("ir/ab.jpg", jpeg()),
    ]
    crops = read(write(tmp_path / "s.tar", entries))
    assert [crop.camera for crop in crops] == ["front", "all", "infrared"]


def test_two_modalities_of_one_key(tmp_path):
    entries = [
        entry("0001.visible.jpg", jpeg()),
        entry("0001.infrared.png", jpeg()),
        entry("0001.json", about(camera="gate", time=12.5)),
        entry("0002.NIR.jpg", jpeg()),
        entry("infrared.jpg", jpeg()),
    ]
    path = write(tmp_path / "s.tar", entries)
    crops = read(path, ReadOptions(Modality.VISIBLE))
    assert [crop.modality.value for crop in crops] == [
        "visible", "infrared", "infrared", "visible",
    ]  # fmt: skip
    assert [(crop.camera, crop.time) for crop in crops[:2]] == [("gate", 12.5)] * 2


def test_masks_are_no_people(tmp_path):
    names = ["ir/a.jpg", "ir/a.seg.png", "ir/a.mask.png", "ir/b.seg.png"]
    path = write(tmp_path / "s.tar", [entry(name, jpeg()) for name in names])
    with pytest.warns(
        tars.ShardWarning,
        match=r"s\.tar: 2 masks of other images passed over \(ir/a\.mask\.png, ir/a\.seg\.png\)",
    ):
        crops = read(path)
    assert [crop.source.partition("::")[2] for crop in crops] == ["ir/a.jpg", "ir/b.seg.png"]


def test_a_list_leaves_members_out(tmp_path):
    path = plain(tmp_path / "s.tar")
    settings = ReadOptions(exclude=frozenset({"visible/door/b.jpg"}))
    (unit,) = work_units([path], settings, 9)
    assert [item[0] for item in unit.items] == ["visible/door/a.jpg", "visible/door/c.jpg"]


@pytest.mark.parametrize(
    "said",
    [
        b"{", b"[1]", b"\xff", b'{"modality": "blue"}', b'{"time": "noon"}', b'{"time": []}',
        b'{"tags": 3}', b'{"tags": "night"}', b'{"tags": {"a": 1}}', b'{"tags": true}',
        b'{"camera": ["gate"]}', b'{"camera": {"a": 1}}', b'{"camera": true}', b'{"time": true}',
        b'{"time": NaN}', b'{"time": 1' + b"0" * 400 + b"}",
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_json_that_cannot_be_used_is_reported_with_its_member(tmp_path, said):
    path = write(tmp_path / "s.tar", [entry("ir/a.jpg", jpeg()), entry("ir/a.json", said)])
    (broken,) = read(path)
    assert broken.source == f"{path}::ir/a.jpg"
    assert broken.reason.startswith(f"{path}::ir/a.jpg: its JSON cannot be used")


def test_an_unknown_modality_is_an_error_even_where_broken_images_are_passed_over(tmp_path):
    path = write(tmp_path / "s.tar", [entry("a.jpg", jpeg())])
    with pytest.raises(InputError, match=r"s\.tar::a\.jpg: neither .* modality.*--modality"):
        read(path, skip=True)
    assert read(path, ReadOptions(Modality.VISIBLE))[0].camera == "visible"


def cuts(path):
    """Positions at which a shard may be cut, and the first incomplete member for each."""
    with tarfile.open(path) as tar:
        b, c = tar.getmembers()[2:4]
        end = tar.offset
    return {
        "inside a member": (b.offset_data + 100, "b"),
        "behind a member": (c.offset, "after visible/door/b"),
        "inside a header": (c.offset + 200, "after visible/door/b"),
        "behind a header": (c.offset_data, "c"),
        "before the end-of-archive block": (end, "after visible/door/c"),
    }


@pytest.mark.parametrize(
    "where",
    ["inside a member", "behind a member", "inside a header", "behind a header",
     "before the end-of-archive block"],
)  # fmt: skip
def test_a_shard_cut_short_is_one_error_or_one_skipped(tmp_path, where):
    path = plain(tmp_path / "s.tar")
    size, first = cuts(path)[where]
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InputError, match=r"s\.tar::.*cut short") as raised:
        read(path)
    assert f"{first}.jpg" in str(raised.value)
    assert "--skip-broken" in str(raised.value)
    *whole, broken = read(path, skip=True)
    names = [crop.source[-5] for crop in whole]
    assert names == [*"abc"][: "abc".index(first[-1]) + (len(first) > 1)]
    assert isinstance(broken, Broken)
    assert f"{first}.jpg" in broken.source


def test_a_compressed_shard_cut_short_or_damaged_is_reported(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (4, 90, 60, 3), np.uint8)
    entries = []
    for number, pixels in enumerate(pictures):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        entries.append(entry(f"ir/{number}.png", file.getvalue()))
    path = write(tmp_path / "s.tar.gz", entries, "w:gz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"s\.tar\.gz::ir/[12]\.png: the shard is cut short"):
        read(path)
    *good, broken = read(path, skip=True)
    assert 1 <= len(good) <= 2
    assert isinstance(broken, Broken)
    for crop, pixels in zip(good, pictures, strict=False):
        np.testing.assert_array_equal(crop.image, pixels)


TRICKS = {
    "../x.jpg": entry("../x.jpg", jpeg()),
    "/x.jpg": entry("/x.jpg", jpeg()),
    "ir/../../x.jpg": entry("ir/../../x.jpg", jpeg()),
    "ir/soft.jpg": entry("ir/soft.jpg", kind=tarfile.SYMTYPE, link="../../../etc/passwd"),
    "ir/hard.jpg": entry("ir/hard.jpg", kind=tarfile.LNKTYPE, link="ir/good.jpg"),
    "ir/disk.jpg": entry("ir/disk.jpg", kind=tarfile.BLKTYPE),
    "ir/null.png": entry("ir/null.png", kind=tarfile.CHRTYPE),
    "ir/pipe.png": entry("ir/pipe.png", kind=tarfile.FIFOTYPE),
    "ir/empty.png": entry("ir/empty.png"),
    "ir/good.jpg": entry("ir/good.jpg", jpeg()),
}


@pytest.mark.parametrize("name", TRICKS)
def test_malicious_members_are_reported_by_name_and_touch_no_disk(tmp_path, monkeypatch, name):
    folder = tmp_path / "deep" / "here"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    path = write(folder / "s.tar", [entry("ir/good.jpg", jpeg()), TRICKS[name]])
    with pytest.raises(InputError) as raised:
        read(path)
    assert str(raised.value).startswith(f"{path}::{name}: ")
    good, broken = read(path, skip=True)
    assert good.source.endswith("ir/good.jpg")
    assert (type(broken), broken.source) == (Broken, f"{path}::{name}")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "deep", folder, path]


def test_a_member_said_to_be_huge_is_not_read(tmp_path):
    header, _ = entry("ir/huge.jpg")
    header.size = 2**40
    path = tmp_path / "s.tar"
    path.write_bytes(entry("ir/a.jpg")[0].tobuf() + header.tobuf(tarfile.GNU_FORMAT) + b"x" * 5000)
    with pytest.raises(InputError, match=r"ir/a\.jpg: the member is empty"):
        read(path)
    assert [broken.source[-8:] for broken in read(path, skip=True)] == ["ir/a.jpg", "huge.jpg"]
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) + b"x" * 5000)
    with pytest.raises(InputError, match=r"huge\.jpg: "):
        read(path)


def test_headers_that_lead_backwards_end(tmp_path):
    path = tmp_path / "s.tar"
    header, _ = entry("ir/b.jpg")
    header.size = -1024
    head = entry("ir/a.jpg", jpeg())[0].tobuf()
    path.write_bytes(
        head + jpeg().ljust(1024, b"\0") + header.tobuf(tarfile.GNU_FORMAT) + b"x" * 999
    )
    with pytest.raises(InputError):
        read(path)


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    entries = [
        entry("ir/._a.jpg", b"x"),
        entry(".trash/b.jpg", b"x"),
        entry("ir/c.jpg", kind=tarfile.DIRTYPE),
        entry("ir/d.jpg", jpeg()),
    ]
    assert [crop.source[-8:] for crop in read(write(tmp_path / "s.tar", entries))] == ["ir/d.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a tar file"),
        (b"no tar at all" * 100, "not a tar file"),
        (bytes(10240), "holds no image"),
    ],
)
def test_what_is_no_shard_is_refused(tmp_path, content, message):
    path = tmp_path / "s.tar"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"s\.tar: {message}"):
        read(path)
    (tmp_path / "s.tar.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"s\.tar\.gz: not a tar file"):
        read(tmp_path / "s.tar.gz")


def test_a_shard_that_went_away_is_an_error(tmp_path):
    path = plain(tmp_path / "s.tar")
    members = tars.listed(path)
    path.unlink()
    with pytest.raises(InputError, match=r"s\.tar: cannot be opened"):
        list(tars.crops(path, members, DEFAULT_OPTIONS))


def test_raw_thermal_members_have_the_range_of_their_camera(tmp_path):
    """Also where the JSON names the camera; the ranges are part of the unit of work."""
    entries = []
    for number, low in enumerate((7000, 7000, 29000, 29000)):
        file = io.BytesIO()
        values = np.linspace(low, low + 2000, 48 * 24).reshape(48, 24).astype(np.uint16)
        Image.fromarray(values).save(file, format="TIFF")
        camera = json.dumps({"camera": "yard" if low == 7000 else "roof"}).encode()
        entries += [entry(f"ir/{number}.tiff", file.getvalue()), entry(f"ir/{number}.json", camera)]
    path = write(tmp_path / "s.tar", entries)
    (unit,) = work_units([path], DEFAULT_OPTIONS, 10)
    assert unit.ranges["infrared/yard"] == pytest.approx([6812, 9188], abs=2)
    assert unit.ranges["infrared/roof"] == pytest.approx([28812, 31188], abs=2)
    found = list(crops_of(unit, DEFAULT_OPTIONS, lambda: pytest.fail("no detector is needed")))
    assert [crop.camera for crop in found] == ["yard", "yard", "roof", "roof"]
    assert np.abs(found[0].image.astype(int) - found[2].image).max() <= 1
    assert len(np.unique(found[0].image)) > 200


@pytest.mark.parametrize("headers", [
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
    {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "many"},
    {"GNU.sparse.map": "a,b,c"}, {"GNU.sparse.size": "z"},
])  # fmt: skip
def test_sparse_headers_that_cannot_be_read_are_one_sentence(tmp_path, headers):
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, said in (("visible/a.png", {}), ("visible/b.png", headers)):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 600, said
            tar.addfile(member, io.BytesIO(b"x" * 600))
    with pytest.raises(InputError, match=r"a.tar.*: .*a header cannot be read: .*copy it again"):
        tars.listed(shard)
    assert [bool(member.fault) for member in tars.listed(shard, skip_broken=True)] == [False, True]
