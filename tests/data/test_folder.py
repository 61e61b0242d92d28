from collections import Counter

import pytest

from visir.core.types import InputError, Modality
from visir.data.registry import open_benchmark


def label(root, text):
    (root / "labels.csv").write_text(text)


def test_unlabelled_folder(crops):
    bench = open_benchmark(crops)
    assert (bench.name, bench.test, bench.protocols) == ("crops", (), {})
    assert bench.cameras == {1: "door", 2: "hall", 3: "infrared"}
    assert [(r.path.name, r.pid, r.cam, r.modality) for r in bench.train] == [
        ("a1.png", None, 1, Modality.VISIBLE),
        ("b1.png", None, 1, Modality.VISIBLE),
        ("a2.png", None, 2, Modality.VISIBLE),
        ("b2.png", None, 3, Modality.INFRARED),
        ("a3.png", None, 1, Modality.INFRARED),
    ]


def test_labels_without_split(crops):
    label(crops, "path,pid\nRGB/door/a1.png,7\nir/door/a3.png,7\nir/b2.png,8\n")
    bench = open_benchmark(crops)
    assert len(bench.train) == 5
    assert Counter(r.pid for r in bench.train) == {7: 2, 8: 1, None: 2}
    assert [r.path.name for r in bench.test if r.pid == 7] == ["a1.png", "a3.png"]
    assert len(bench.test) == 3
    protocol = bench.protocols["infrared-to-visible"]
    assert protocol.name == "crops infrared-to-visible, full gallery"
    ((query, gallery),) = protocol.trials
    assert (len(query), len(gallery)) == (2, 1)


def test_labels_with_split(crops):
    label(
        crops,
        "path,pid,split\nRGB/door/a1.png,7,test\nir/door/a3.png,7,test\nir/b2.png,8,train\n",
    )
    bench = open_benchmark(crops)
    assert sorted((r.path.name, r.pid) for r in bench.test) == [("a1.png", 7), ("a3.png", 7)]
    train = {r.path.name: r.pid for r in bench.train}
    assert train == {"b1.png": None, "a2.png": None, "b2.png": 8}


def test_one_modality_only(crops):
    (crops / "ir").rename(crops / "other")
    with pytest.raises(InputError, match=r"only visible images \(RGB\); put the infrared.*thermal"):
        open_benchmark(crops)
    (crops / "RGB").rename(crops / "Thermal")
    with pytest.raises(InputError, match=r"only infrared images \(Thermal\); put the visible"):
        open_benchmark(crops)
    (crops / "Thermal").rename(crops / "something")
    with pytest.raises(InputError, match="no folder of visible or infrared images"):
        open_benchmark(crops, layout="folder")


def test_two_folders_of_one_modality_or_an_empty_one(crops):
    (crops / "visible").mkdir()
    with pytest.raises(InputError, match="RGB and visible both hold visible images; merge"):
        open_benchmark(crops)
    (crops / "visible").rmdir()
    (crops / "ir" / "b2.png").unlink()
    (crops / "ir" / "door" / "a3.png").unlink()
    with pytest.raises(InputError, match="no image in the infrared folder"):
        open_benchmark(crops)


def test_no_identity_shared_by_query_and_gallery(crops):
    label(crops, "path,pid\nRGB/door/a1.png,7\nir/door/a3.png,8\n")
    with pytest.raises(InputError, match=r"labels\.csv: no test identity has both"):
        open_benchmark(crops)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,person\n", r"the first line is 'path,person'; write path and some of pid, split"),
        ("pid,split\n", r"the first line is 'pid,split'; write path"),
        ("path,pid,pid\n", "column 'pid' is there twice; keep one"),
        ("", "the first line is ''"),
        ("path,pid\n", "no rows"),
        ("path,pid\nRGB/door/a9.png,7\n", r"row 1 names 'RGB/door/a9\.png', which is not an image"),
        ("path,pid\n/etc/hostname,7\n", "row 1 names '/etc/hostname', which is not an image"),
        ("path,pid\nir/b2.png,7\nir/b2.png,7\n", r"row 2 names 'ir/b2\.png' again"),
        ("path,pid,split\nir/b2.png,,test\n", "row 1 has split test but no pid; write"),
        (
            "path,time\nir/b2.png,2026-01-31\nir/door/a3.png,noon\n",
            "row 2: time: 'noon' is not a time; write it as 2026-01-31 or .* or as seconds since",
        ),
        ("path,pid\nir/b2.png\n", "row 1 has 1 fields, not 2"),
        (
            "path,pid,split\nir/b2.png,7,val\n",
            "split 'val'; write train, test, query or gallery",
        ),
    ],
)
def test_bad_labels(crops, text, message):
    label(crops, text)
    with pytest.raises(InputError, match=r"labels\.csv: .*" + message):
        open_benchmark(crops)
