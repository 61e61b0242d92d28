"""RGBNT201: three sensors in four places, in its own folders, in one part of them, or by lists."""

import numpy as np
import pytest

from visir.core.types import InputError, Modality
from visir.data.locate import gallery_items
from visir.data.registry import detect, open_benchmark
from visir.evaluation.evaluate import score_features

NAMES = {
    "train_171": ["000001_cam1_0_00.jpg", "000001_cam2_0_00.jpg", "000002_cam4_0_01.jpg"],
    "test": ["000258_cam1_0_00.jpg", "000258_cam2_0_00.jpg", "000260_cam1_0_05.jpg",
             "000260_cam3_0_05.jpg"],
}  # fmt: skip
VIS, IR = Modality.VISIBLE, Modality.INFRARED


@pytest.fixture
def rgbnt(tmp_path, make_image):
    root = tmp_path / "RGBNT201"
    for part, names in NAMES.items():
        for seed, name in enumerate(names):
            for sensor in ("RGB", "NI", "TI"):
                make_image(root / part / sensor / name, seed, grey=sensor != "RGB")
    return root


def said(records):
    return {(r.path.parent.name, r.pid, r.cam, r.modality) for r in records}


def test_names_say_identity_and_place_and_each_sensor_is_a_camera(rgbnt):
    assert detect(rgbnt) == "rgbnt"
    bench = open_benchmark(rgbnt)
    assert said(bench.train) == {
        ("RGB", 1, 1, VIS), ("RGB", 1, 2, VIS), ("RGB", 2, 4, VIS),
        ("NI", 1, 101, IR), ("NI", 1, 102, IR), ("NI", 2, 104, IR),
        ("TI", 1, 201, IR), ("TI", 1, 202, IR), ("TI", 2, 204, IR),
    }  # fmt: skip
    assert {r.pid for r in bench.test} == {258, 260}
    assert len(bench.test) == 12
    assert (bench.cameras[3], bench.cameras[103], bench.cameras[201]) == (
        "cam3", "cam3-ni", "cam1-ti",
    )  # fmt: skip
    assert list(bench.protocols) == ["visible-to-infrared", "infrared-to-visible"]
    ((query, gallery),) = bench.protocols["visible-to-infrared"].trials
    assert [bench.test[row].path.parent.name for row in query] == ["RGB"] * 4
    assert len(gallery) == 8


def test_the_same_moment_is_no_hit(rgbnt):
    """Features that know the moment alone, and ties by the path: six images are compared.

    Of 258 the other place is first and fourth (1/1 and 2/4), of 260 third and sixth (1/3 and 2/6).
    """
    bench = open_benchmark(rgbnt)
    moments = sorted({r.path.name for r in bench.test})
    features = np.eye(4, dtype=np.float32)[[moments.index(r.path.name) for r in bench.test]]
    exclusion = bench.protocols["visible-to-infrared"].exclusion
    assert exclusion.same_identity_only
    assert {(1, 101), (1, 201), (1, 1)} <= exclusion.cam_pairs
    assert (1, 102) not in exclusion.cam_pairs
    (scores,) = score_features(features, bench).results["visible-to-infrared"].trials
    assert scores.mAP == pytest.approx((0.75 + 1 / 3) / 2)


def test_a_part_alone_and_a_missing_sensor(rgbnt):
    part = rgbnt / "test"
    assert detect(part) == "rgbnt"
    bench = open_benchmark(part)
    assert said(bench.train) == said(bench.test)
    assert len(bench.test) == 12
    for path in (part / "TI").iterdir():
        path.unlink()
    (part / "TI").rmdir()
    (part / "NI").rename(part / "ni")
    assert len(open_benchmark(part).test) == 8
    cameras = {item.camera for item in gallery_items(part)}
    assert cameras == {"cam1", "cam2", "cam3", "cam1-ni", "cam2-ni", "cam3-ni"}
    with pytest.raises(InputError, match=r"visible images alone; name its parent, .*test"):
        open_benchmark(part / "RGB")


def test_lists_say_parts_and_identities(rgbnt):
    root = rgbnt / "test"
    (root / "idx").mkdir()
    for sensor in ("RGB", "NI", "TI"):
        train, test = NAMES["test"][:2], NAMES["test"][2:]
        word = sensor.lower()
        lines = [f"{sensor}\\{name} 0" for name in train]  # written on Windows
        (root / "idx" / f"train_{word}.txt").write_text("\n".join(lines))
        lines = [f"{sensor}/{name} 7" for name in test]
        (root / "idx" / f"test_{word}.txt").write_text("\n".join(lines) + "\n")
    bench = open_benchmark(root)
    assert {(r.pid, r.path.name) for r in bench.train} == {(0, name) for name in train}
    assert {(r.pid, r.path.name) for r in bench.test} == {(7, name) for name in test}
    assert (len(bench.train), len(bench.test)) == (6, 6)
    (root / "idx" / "test_ti.txt").unlink()
    with pytest.raises(InputError, match=r"test_ti\.txt: missing"):
        open_benchmark(root)


def test_what_cannot_be_read_is_named(rgbnt):
    odd = rgbnt / "test" / "TI" / "odd.jpg"
    (rgbnt / "test" / "TI" / NAMES["test"][0]).rename(odd)
    with pytest.raises(InputError, match=r"odd\.jpg: its name says no identity and camera"):
        open_benchmark(rgbnt)
    for folder in ("NI", "TI"):
        (rgbnt / "train_171" / folder).rename(rgbnt / f"other {folder}")
    with pytest.raises(InputError, match=r"train_171: no images of both modalities; copy the fold"):
        open_benchmark(rgbnt)


def test_ni_and_ti_are_infrared_in_folders_of_ones_own(tmp_path, make_image):
    for name in ("RGB/door/a.jpg", "NI/door/a.jpg"):
        make_image(tmp_path / "own" / name)
    bench = open_benchmark(tmp_path / "own")
    assert {(r.modality, r.pid) for r in bench.train} == {(VIS, None), (IR, None)}
    make_image(tmp_path / "own" / "TI" / "door" / "a.jpg")
    with pytest.raises(InputError, match="NI and TI both hold infrared images; merge them"):
        open_benchmark(tmp_path / "own")
