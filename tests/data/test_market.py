"""Trees in Market-1501's form: cameras and identities by file name, junk left out."""

import numpy as np
import pytest

from visir.core.types import InputError, Modality
from visir.data.locate import gallery_items
from visir.data.prepare import prepare
from visir.data.registry import detect, open_benchmark

NAMES = {
    "bounding_box_train": ["0002_c1s1_000451_03.jpg", "0007_c3s3_077419_03.jpg"],
    "query": ["0003_c1s1_000001_00.jpg"],
    "bounding_box_test": [
        "0003_c1s1_000002_00.jpg", "0003_c5s2_000003_00.jpg", "0004_c2s1_000004_00.jpg",
        "-1_c1s1_000401_03.jpg", "0000_c2s1_000001_01.jpg",
    ],
}  # fmt: skip


@pytest.fixture
def market(tmp_path, make_image):
    for folder, names in NAMES.items():
        for seed, name in enumerate(names):
            make_image(tmp_path / "market" / folder / name, seed)
    return tmp_path / "market"


def test_names_say_identity_and_camera_and_junk_is_left_out(market):
    assert detect(market) == "market"
    bench = open_benchmark(market)
    assert [(r.pid, r.cam, r.modality) for r in bench.train] == [
        (2, 1, Modality.VISIBLE), (7, 3, Modality.VISIBLE),
    ]  # fmt: skip
    assert [(r.pid, r.cam) for r in bench.test] == [(3, 1), (3, 1), (3, 5), (4, 2)]
    assert bench.cameras == {1: "c1", 2: "c2", 3: "c3", 5: "c5"}
    (protocol,) = bench.protocols.values()
    assert protocol.name == "market query-to-gallery, folders query and bounding_box_test"
    ((query, gallery),) = protocol.trials
    assert (query.tolist(), gallery.tolist()) == ([0], [1, 2, 3])
    assert protocol.exclusion.same_identity_only
    assert (1, 1) in protocol.exclusion.cam_pairs


def test_names_with_one_ending_are_images_of_their_own(market, make_image):
    # findings/name-ending.sh
    for pid in ("0002", "0007"):
        make_image(market / "bounding_box_train" / f"{pid}_c2s1_000001_00_day.jpg")
    found = [(record.pid, record.cam) for record in open_benchmark(market).train]
    assert sorted(found) == [(2, 1), (2, 2), (7, 2), (7, 3)]


def test_one_folder_of_a_tree_is_read_by_its_names(market, make_image):
    items = gallery_items(market / "bounding_box_test", Modality.INFRARED)
    assert [(item.record.pid, item.camera) for item in items] == [
        (3, "c1"), (3, "c5"), (4, "c2"),
    ]  # fmt: skip
    assert {item.camera for item in gallery_items(market)} == {"c1", "c2", "c3", "c5"}
    make_image(market / "other" / "0003_c5s2_000003_00.jpg")
    (item,) = gallery_items(market / "other", Modality.VISIBLE)
    assert (item.record.pid, item.camera) == (None, "visible")


def test_what_prepare_writes_is_read_back(sysu, tmp_path):
    prepare("sysu", sysu, tmp_path / "tree", progress=False)
    ours, raw = open_benchmark(tmp_path / "tree"), open_benchmark(sysu)
    for part in ("train", "test"):
        found, expected = (
            sorted((r.pid, r.cam, r.modality.value) for r in getattr(bench, part))
            for bench in (ours, raw)
        )
        assert found == expected
    assert list(ours.protocols) == ["visible-to-infrared", "infrared-to-visible"]
    ((query, gallery),) = ours.protocols["infrared-to-visible"].trials
    infrared = np.array([r.modality is Modality.INFRARED for r in ours.test])
    assert infrared[query].all()
    assert not infrared[gallery].any()
    assert {ours.test[row].path.parent.name for row in query} == {"query"}
    assert {ours.test[row].path.parent.name for row in gallery} == {"bounding_box_test"}


def test_a_prepared_regdb_has_its_splits_and_its_first_label(regdb, tmp_path):
    prepare("regdb", regdb, tmp_path / "tree", progress=False)
    for split in (1, 10):
        bench = open_benchmark(tmp_path / "tree", split=split)
        assert (bench.split, {r.pid for r in bench.train}) == (str(split), {0, 1})
        assert {r.path.parents[1].name for r in bench.train} == {str(split)}
    with pytest.raises(InputError, match=r"split 11: .*tree has only 1, 2, 3, .*, 10;"):
        open_benchmark(tmp_path / "tree", split=11)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "query").rename(root / "q"), "query: missing; copy the folder"),
        (
            lambda root: (root / "query" / NAMES["query"][0]).rename(root / "query" / "a.jpg"),
            r"a\.jpg: its name says no identity and camera; restore it, such as 0002_c1s1",
        ),
        (
            lambda root: (root / "query" / NAMES["query"][0]).unlink(),
            "market: a folder query holds no image",
        ),
        (
            lambda root: (root / "query" / NAMES["query"][0]).rename(
                root / "query" / "0009_c1s1_000001_00.jpg"
            ),
            "market: no identity of query is in its gallery",
        ),
    ],
)
def test_trees_with_something_missing_are_refused(market, change, message):
    change(market)
    with pytest.raises(InputError, match=message):
        open_benchmark(market)
    with pytest.raises(InputError, match=r"split 2: .*market has only 1"):
        open_benchmark(market, layout="market", split=2)
