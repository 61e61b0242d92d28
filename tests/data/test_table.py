"""What `labels.csv` may say, and how its paths are compared with the files."""

import unicodedata
from collections import Counter
from datetime import UTC, datetime

import pytest

from visir.core.times import iso_time, parse_time
from visir.core.types import InputError, Modality
from visir.data.locate import gallery_items
from visir.data.registry import open_benchmark
from visir.data.table import Known, read_table, same_name

MOMENT = datetime(2026, 1, 31, 17, 0, tzinfo=UTC).timestamp()


def label(root, text):
    (root / "labels.csv").write_text(text, encoding="utf-8")


def test_identities_may_be_names_and_other_columns_are_passed_over(crops):
    label(
        crops,
        "path,height,pid,note\n"
        "RGB/door/a1.png,180,Zoë,\nir/door/a3.png,179,Zoe\u0308,x\nir/b2.png,160,anna,\n",
    )
    bench = open_benchmark(crops)
    assert {r.path.name: r.pid for r in bench.test} == {"a1.png": 1, "a3.png": 1, "b2.png": 2}


def test_a_number_among_names_is_a_name(crops):
    label(crops, "path,pid\nRGB/door/a1.png,7\nir/door/a3.png,7\nir/b2.png,anna\n")
    pids = {r.path.name: r.pid for r in open_benchmark(crops).test}
    assert pids == {"a1.png": 1, "a3.png": 1, "b2.png": 2}


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_are_compared_composed_and_with_either_slash(crops, form):
    image = crops / "RGB" / "door" / "a1.png"
    image.rename(image.with_name(unicodedata.normalize(form, "zoë.png")))
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "zoë.png")
    label(crops, f"path,pid\nRGB\\door\\{other},7\n.\\ir\\b2.png,7\n")
    assert Counter(r.pid for r in open_benchmark(crops).train) == {7: 2, None: 3}


def test_one_form_of_a_name():
    assert same_name("./a\\b/Zoe\u0308.png") == "a/b/Zoë.png"


def test_camera_time_and_tags_are_read(crops):
    label(
        crops,
        "path,camera,time,tags\n"
        "RGB/door/a1.png,gate,2026-01-31T18:00+01:00,night; red coat\n"
        "ir/b2.png,,1769878800.5,\n",
    )
    bench = open_benchmark(crops)
    assert bench.cameras == {1: "door", 2: "gate", 3: "hall", 4: "infrared"}
    assert (bench.test, len(bench.train)) == ((), 5)
    items = {item.record.path.name: item for item in gallery_items(crops)}
    assert items["a1.png"][1:] == ("gate", "all", MOMENT, ("night", "red coat"))
    assert items["b2.png"][1:] == ("infrared", "all", MOMENT + 0.5, ())
    assert items["a3.png"][1:] == ("door", "all", None, ())


def test_the_folder_of_one_modality_has_a_table_too(crops):
    folder = crops / "RGB"
    label(folder, "path,pid,camera,time\ndoor/a1.png,5,gate,2026-01-31T17:00\n")
    items = {item.record.path.name: item for item in gallery_items(folder, Modality.VISIBLE)}
    assert items["a1.png"].record.pid == 5
    assert items["a1.png"][1:] == ("gate", "gallery", MOMENT, ())
    assert items["b1.png"][1:] == ("door", "gallery", None, ())


def test_crops_in_any_arrangement_have_the_cameras_of_the_table(crops):
    label(crops, "path,camera\nRGB/door/a1.png,gate\nir/b2.png,yard\n")
    bench = open_benchmark(crops, layout="crops")
    assert bench.cameras == {1: "crops", 2: "gate", 3: "yard"}
    assert Counter(r.cam for r in bench.train) == {1: 3, 2: 1, 3: 1}


def test_query_and_gallery_are_said_by_the_split(crops):
    label(
        crops,
        "path,pid,split\nRGB/door/a1.png,7,gallery\nRGB/door/b1.png,8,gallery\n"
        "RGB/hall/a2.png,7,test\nir/door/a3.png,7,query\nir/b2.png,8,\n",
    )
    bench = open_benchmark(crops)
    assert [r.path.name for r in bench.train] == ["b2.png"]
    assert bench.train[0].pid == 8
    assert list(bench.protocols) == ["infrared-to-visible"]
    protocol = bench.protocols["infrared-to-visible"]
    assert protocol.name == "crops infrared-to-visible, query and gallery of labels.csv"
    ((query, gallery),) = protocol.trials
    assert [bench.test[row].path.name for row in query] == ["a3.png"]
    assert [bench.test[row].path.name for row in gallery] == ["a1.png", "b1.png", "a2.png"]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("gallery", "gallery"), "column split has no query whose gallery is of the other modal"),
        (("query", "query"), "column split has no query whose gallery is of the other modality"),
    ],
)
def test_splits_that_leave_nothing_to_score_are_refused(crops, splits, message):
    label(
        crops,
        f"path,pid,split\nRGB/door/a1.png,7,{splits[0]}\nir/door/a3.png,7,{splits[1]}\n",
    )
    with pytest.raises(InputError, match=message):
        open_benchmark(crops)


def test_a_table_that_is_not_there_says_nothing(crops):
    table = read_table(crops, [])
    assert (table.of(crops / "x.png"), table.columns) == (Known(), frozenset())


def test_times_are_numbers_dates_or_both():
    assert parse_time("20260131", "x") == parse_time("2026-01-31", "x") == MOMENT - 17 * 3600
    assert parse_time("1769878800", "x") == MOMENT
    assert parse_time(iso_time(MOMENT + 0.25), "x") == MOMENT + 0.25
    for wrong in ("nan", "inf", "", "31.01.2026"):
        with pytest.raises(InputError, match=f"row 3: time: '{wrong}' is not a time; write it as"):
            parse_time(wrong, "row 3: time")


def test_tracks_and_the_frames_they_were_cut_out_of_are_read(crops):
    label(
        crops,
        "path,track,source\n"
        "RGB/door/a1.png,site:7,/films/site.mp4::track site:7 @ frame 25\n"
        "RGB/door/b1.png,site:8,/films/site.mp4::track site:8 @ frame 25\n"
        "RGB/hall/a2.png,img1:3,img1/000004.jpg::track 3\n"
        "ir/door/a3.png,x,/films/site.mp4::stream 1 track x @ 3.20s\n"
        "ir/b2.png,,bought elsewhere\n",
    )
    bench = open_benchmark(crops)
    assert {r.path.name: (r.track, r.frame) for r in bench.train} == {
        "a1.png": ("site:7", "/films/site.mp4::frame 25"),
        "b1.png": ("site:8", "/films/site.mp4::frame 25"),
        "a2.png": ("img1:3", "img1/000004.jpg::"),
        "b2.png": (None, None),
        "a3.png": ("x", "/films/site.mp4::stream 1 3.20s"),
    }
    assert bench.test == ()  # a track is no identity
