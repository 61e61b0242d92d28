import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFilter

from tests.fake_run import draw_person
from tests.tiff_files import write_tiff
from visir.commands.check import check as check_command
from visir.data import pictures
from visir.data.check import check
from visir.data.pictures import near_copies
from visir.data.tree import file_tree, image_files, image_tree


@pytest.fixture
def site(tmp_path):
    """Eight drawn people without anything to remark."""
    root = tmp_path / "site"
    for number in range(4):
        draw_person(root / "visible/door" / f"{number}.png", number, False, 1)
        draw_person(root / "infrared/yard" / f"{number}.png", 10 + number, True, 1)
    return root


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def remarks(root):
    return dict(check(root, progress=False).remarks)


def test_ordinary_crops_need_no_remark(site):
    report = check(site, progress=False)
    assert dict(report.remarks) == {}
    assert report.text.endswith("No problems found.")


def test_pictures_of_little_use_are_named(site):
    noise = np.random.default_rng(0).random((96, 48))
    yard = site / "infrared/yard"
    save(yard / "dark.png", noise * 30)
    save(yard / "flat.png", 100 + noise * 20)
    save(yard / "levels.png", 100 + np.floor(noise * 9) * 10)  # nine levels
    save(yard / "wide.png", 255 * np.random.default_rng(1).random((48, 96)))
    save(yard / "thin.png", 255 * np.random.default_rng(2).random((120, 20)))
    iron = np.stack([255 * noise, 200 * noise**2, 255 * (1 - noise)], axis=2)
    save(yard / "iron.png", iron)
    save(site / "visible/door/colours.png", iron[::-1])
    sharp = Image.open(site / "visible/door/0.png").resize((64, 128))
    sharp.filter(ImageFilter.GaussianBlur(5)).save(site / "visible/door/blurred.png")
    found = remarks(site)
    assert found["dark"] == ["infrared/yard/dark.png"]
    assert found["flat"] == ["infrared/yard/flat.png"]
    assert found["levels"] == ["infrared/yard/levels.png"]
    assert found["shape"] == ["infrared/yard/thin.png", "infrared/yard/wide.png"]
    assert found["coloured"] == ["infrared/yard/iron.png"]
    assert found["blurred"] == ["visible/door/blurred.png"]
    report = check(site, progress=False)
    assert (report.problems, report.exit_code) == ([], 0)
    assert "1 too dark: infrared/yard/dark.png" in report.text
    assert report.text.endswith("Nothing is missing or broken; look at the files named above.")


def test_a_small_crop_is_judged_at_its_own_size(site):
    """Blown up to 128 x 64 a sharp crop of 32 x 16 pixels would be blurred."""
    save(site / "visible/door/small.png", np.random.default_rng(4).integers(0, 256, (32, 16)))
    wave = 127 + 127 * np.cos(np.pi * np.arange(32) / 32)  # no edge anywhere
    save(site / "visible/door/small-blurred.png", np.tile(wave[:, None], (1, 16)))
    assert remarks(site)["blurred"] == ["visible/door/small-blurred.png"]


def test_the_print_says_where_it_gets_brighter_across_and_down():
    level = np.random.default_rng(5).integers(0, 256, (9, 9), dtype=np.uint8)
    bits = [level[y, x + 1] > level[y, x] for y in range(8) for x in range(8)]
    bits += [level[y + 1, x] > level[y, x] for y in range(8) for x in range(8)]
    expected = sum(int(bit) << (127 - place) for place, bit in enumerate(bits))
    assert pictures._print(Image.fromarray(level)) == expected


def test_a_raw_thermal_camera_keeps_its_levels(site):
    """Raw counts have many levels by their camera's range; a file that lost them is named."""
    share = np.random.default_rng(3).random((96, 48))
    for number in range(3):
        counts = 7000 + 2000 * np.roll(share, 9 * number, axis=0)
        write_tiff(site / "infrared/raw" / f"{number}.tiff", counts.astype(np.uint16))
    save(site / "infrared/lost/0.png", (7000 + 2000 * share) / 257)
    report = check(site, progress=False)
    assert report.remarks["levels"] == ["infrared/lost/0.png"]
    told = report.text.partition("as for ranges.json: ")[2].splitlines()[0]
    assert json.loads(told)["infrared/raw"] == pytest.approx([6812, 9188], abs=10)


def test_near_copies_are_found_across_folders(site):
    blocks = np.random.default_rng(5).integers(0, 256, (16, 8, 3), dtype=np.uint8)
    original = Image.fromarray(blocks).resize((64, 128), Image.Resampling.BICUBIC)
    original.save(site / "visible/door/y.png")
    original.resize((80, 160)).save(site / "visible/door/z.jpg", quality=80)
    (site / "visible/gate").mkdir()
    original.save(site / "visible/gate/0.jpg", quality=60)
    shutil.copy(site / "visible/door/1.png", site / "visible/gate/1.png")
    report = check(site, progress=False)
    assert report.remarks["copies"] == ["visible/door/z.jpg", "visible/gate/0.jpg"]
    assert report.problems == ["visible/door/1.png and visible/gate/1.png: the same file"]


def test_prints_are_compared_as_by_pairs():
    """The bands find every pair of up to seven bits: compared with a loop over all pairs."""
    rng = np.random.default_rng(0)
    bases = [int.from_bytes(rng.bytes(16), "big") for _ in range(20)]
    prints = [*bases, None]
    for base in bases:
        for count in (1, 5, 7, 8, 9):
            bits = rng.choice(128, count, replace=False)
            prints.append(base ^ sum(1 << int(bit) for bit in bits))
    near = [
        (a, b)
        for a, one in enumerate(prints)
        for b, two in enumerate(prints[:a])
        if one is not None and two is not None and (one ^ two).bit_count() <= 7
    ]
    named = list(range(len(prints)))
    for _ in prints:  # the smallest name spreads over each group
        for a, b in near:
            named[a] = named[b] = min(named[a], named[b])
    groups = {name: [a for a, of in enumerate(named) if of == name] for name in named}
    expected = [group for group in groups.values() if len(group) > 1]
    assert len(expected) == 20
    assert sorted(near_copies(prints)) == sorted(expected)


def test_endings_are_counted(site):
    for name in ("a.gif", "b.GIF", "c.jp2", "d.avif", "e.mp4", "notes.csv"):
        (site / "visible/door" / name).write_bytes(b"x")
    for name in ("f.jfif", "g.jpe"):
        Image.open(site / "visible/door/2.png").transpose(0).save(site / "f.jpg")
        (site / "f.jpg").rename(site / "visible/door" / name)
    report = check(site, progress=False)
    assert "visible: 6 images" in report.text
    assert len(report.remarks["endings"]) == 5
    assert (
        "5 passed over because of the ending (1 .avif, 2 .gif, 1 .jp2, 1 .mp4): "
        "visible/door/a.gif, visible/door/b.GIF, visible/door/c.jp2, ..."
    ) in report.text


def test_masks_beside_crops_are_named(site):
    save(site / "visible/door/0.seg.png", np.random.default_rng(8).integers(0, 2, (96, 48)) * 255)
    report = check(site, progress=False)
    assert dict(report.remarks) == {"masks": ["visible/door/0.seg.png"]}
    assert "visible: 4 images" in report.text


def test_annotations_beside_whole_frames(site):
    (site / "annotations.json").write_text("{}")
    assert "annotations" not in remarks(site)  # beside crops they are not remarked
    for path in image_tree(site):
        Image.open(path).resize((160, 90)).save(path)
    (site / "visible/door/gt.txt").write_text("1,1,10,10,20,40,1,1,1")
    found = remarks(site)
    assert found["annotations"] == ["annotations.json", "visible/door/gt.txt"]
    assert len(found["shape"]) == 8


def test_radiometric_files_are_named_where_flyr_is_missing(site, monkeypatch):
    path = site / "infrared/yard/r.jpg"
    Image.open(site / "infrared/yard/0.png").rotate(180).save(path)
    data = path.read_bytes()
    segment = b"FLIR\0\1\0\0rest"
    path.write_bytes(data[:2] + b"\xff\xe1\0" + bytes([len(segment) + 2]) + segment + data[2:])
    monkeypatch.setattr(pictures, "can_read_radiometric", lambda: False)
    assert remarks(site) == {"radiometric": ["infrared/yard/r.jpg"]}


def test_lists_are_written_and_former_ones_removed(site, tmp_path):
    save(site / "infrared/yard/dark.png", np.random.default_rng(0).random((96, 48)) * 30)
    lists = tmp_path / "lists"
    assert check_command(site, list=lists).exit_code == 0
    assert [path.name for path in lists.iterdir()] == ["dark.txt"]
    assert (lists / "dark.txt").read_text() == "infrared/yard/dark.png\n"
    (site / "infrared/yard/dark.png").unlink()
    check_command(site, list=lists)
    assert list(lists.iterdir()) == []


def test_links_lead_to_each_file_once(tmp_path):
    root = tmp_path / "set"
    for name in ("yard/day/0.png", "yard/day/1.png", "roof/2.png"):
        save(root / name, [[1]])
    outside = tmp_path / "elsewhere"
    save(outside / "3.png", [[1]])
    day, yard = root / "yard/day", root / "yard"
    (yard / "latest").symlink_to("day")
    (yard / "up").symlink_to(".")
    (yard / "up2").symlink_to(".")
    (yard / "above").symlink_to("../..")  # the folder that holds the data set
    (root / "a").symlink_to(outside)
    (root / "b").symlink_to(outside)
    (day / "again.png").symlink_to("0.png")
    (day / "gone.png").symlink_to("nothing.png")
    (outside / "back").symlink_to(root)
    names = [path.relative_to(root).as_posix() for path in image_tree(root)]
    assert names == ["a/3.png", "roof/2.png", "yard/day/0.png", "yard/day/1.png"]
    assert [path.name for path in image_files(day)] == ["0.png", "1.png"]
    assert file_tree(root) == image_tree(root)
    os.link(day / "0.png", day / "hard.png")  # two files of equal right
    assert [path.name for path in image_files(day)] == ["0.png", "1.png", "hard.png"]
