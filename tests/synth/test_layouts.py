"""Layouts: image counts of the twins, text files, unpaired shares."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from visir.core.types import InputError, Modality
from visir.synth.cameras import World
from visir.synth.layouts import Spec, lay_out
from visir.synth.render import render_shots

pytestmark = pytest.mark.slow

VIS, IR = Modality.VISIBLE, Modality.INFRARED


def ids_of(text: str) -> set[int]:
    return {int(word) for word in text.split(",")}


def labels_of(text: str) -> Counter[int]:
    return Counter(int(line.rsplit(" ", 1)[1]) for line in text.splitlines())


@pytest.fixture(scope="module")
def twin():
    return lay_out(Spec("sysu", "sysu"))


def test_sysu_twin_has_the_published_counts(twin):
    per_cam = Counter(shot.cam for shot in twin.shots)
    assert [per_cam[cam] for cam in range(1, 7)] == [6289, 7528, 9812, 8030, 8224, 5980]
    train, val, test = (ids_of(twin.lists[f"exp/{n}_id.txt"]) for n in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (296, 99, 96)
    assert len(train | val) == 395 and not (train | val) & test
    known = train | val | test
    sides = Counter((s.pid in test, s.modality) for s in twin.shots if s.pid in known)
    assert sides[False, VIS] == 22258 and sides[False, IR] == 11909 and sides[True, IR] == 3803
    places = {(s.cam, s.pid) for s in twin.shots if s.pid in test and s.modality is VIS}
    assert len(places) == 301 and sum(cam < 3 for cam, _ in places) == 112


def test_every_path_is_named_once(twin):
    assert len({shot.path for shot in twin.shots}) == len(twin.shots)
    assert str(min(shot.path for shot in twin.shots)) == "cam1/0001/0001.jpg"


def test_regdb_twin_has_ten_splits_of_206():
    made = lay_out(Spec("regdb", "regdb"))
    assert made.counts() == {"Thermal": 4120, "Visible": 4120}
    assert {str(shot.path).split("/")[0] for shot in made.shots} == {"Visible", "Thermal"}
    halves = set()
    for split in range(1, 11):
        seen = []
        for side in ("train", "test"):
            vis, ir = (made.lists[f"idx/{side}_{w}_{split}.txt"] for w in ("visible", "thermal"))
            assert labels_of(vis) == labels_of(ir) == Counter(dict.fromkeys(range(206), 10))
            folders = [[line.split("/")[1] for line in text.splitlines()] for text in (vis, ir)]
            assert folders[0] == folders[1]
            seen.append(frozenset(folders[0]))
        assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == 412
        halves.add(seen[0])
    assert len(halves) == 10


def test_small_sysu_misses_cameras_only_where_allowed():
    made = lay_out(Spec("sysu", ids=80, images=1, seed=3))
    test = ids_of(made.lists["exp/test_id.txt"])
    train, val = (ids_of(made.lists[f"exp/{name}_id.txt"]) for name in ("train", "val"))
    assert len(test) == 40 and len(val) == 10 and len(train) == 30
    cams = {pid: {s.cam for s in made.shots if s.pid == pid} for pid in range(1, 81)}
    assert all({1, 2, 4, 5, 6} <= cams[pid] for pid in test)
    assert all(cams[pid] & {1, 2, 4, 5} and cams[pid] & {3, 6} for pid in train | val)
    assert any(len(cams[pid]) < 6 for pid in train) and any(3 not in cams[pid] for pid in test)


def test_llcm_has_no_near_infrared_camera_3():
    made = lay_out(Spec("llcm", ids=6, images=2))
    assert {s.cam for s in made.shots if s.modality is IR} == {1, 2, 4, 5, 6, 7, 8, 9}
    assert {s.cam for s in made.shots if s.modality is VIS} == set(range(1, 10))
    test = ids_of(made.lists["idx/test_id.txt"])
    for shot in made.shots:
        top = shot.path.parts[0]
        assert top.startswith("test_") is (shot.pid in test)
        assert top.endswith("vis" if shot.modality is VIS else "nir")
    assert set(labels_of(made.lists["idx/train_vis.txt"])) == {0, 1, 2}


@pytest.mark.parametrize("base", [Spec("sysu", ids=40, images=2), Spec("sysu", "sysu")])
def test_unpaired_identities_have_one_modality(base):
    whole, made = lay_out(base), lay_out(replace(base, unpaired=0.5))
    test = ids_of(made.lists["exp/test_id.txt"])
    trained = ids_of(made.lists["exp/train_id.txt"]) | ids_of(made.lists["exp/val_id.txt"])
    assert [s for s in made.shots if s.pid in test] == [s for s in whole.shots if s.pid in test]

    def alone(shots):
        seen = {pid: set() for pid in trained}
        for shot in shots:
            if shot.pid in trained:
                seen[shot.pid].add(shot.modality)
        return Counter(next(iter(m)) for m in seen.values() if len(m) == 1)

    natural, count = alone(whole.shots), alone(made.shots)
    drawn = round(0.5 * len(trained))
    assert not natural and count == {VIS: (drawn + 1) // 2, IR: drawn // 2}
    assert made == lay_out(replace(base, unpaired=0.5))
    if base.twin is None:
        assert made.shots != lay_out(replace(base, unpaired=0.5, seed=1)).shots


def test_unpaired_regdb_leaves_the_test_lists():
    base = Spec("regdb", ids=20, images=2)
    whole, made = lay_out(base), lay_out(replace(base, unpaired=0.4))
    for split in range(1, 11):
        vis, ir = (
            set(labels_of(made.lists[f"idx/train_{word}_{split}.txt"]))
            for word in ("visible", "thermal")
        )
        assert len(vis - ir) == len(ir - vis) == 2 and len(vis | ir) == 10
        for word in ("visible", "thermal"):
            name = f"idx/test_{word}_{split}.txt"
            assert made.lists[name] == whole.lists[name]
    assert made.shots == whole.shots


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        (Spec("market"), "layout"),
        (Spec("sysu", "llcm"), "twin"),
        (Spec("sysu", ids=1), "ids"),
        (Spec("sysu", images=0), "images"),
        (Spec("sysu", train_ids=24), "train_ids"),
        (Spec("sysu", unpaired=1.5), "unpaired"),
        (Spec("sysu", seed=-1), "seed"),
    ],
)
def test_impossible_specs_are_refused(spec, word):
    with pytest.raises(InputError, match=word):
        lay_out(spec)


def test_a_sample_of_the_twin_renders():
    sample = lay_out(Spec("sysu", "sysu")).shots[::3000]
    pictures = render_shots(sample, World(), (48, 24))
    assert {shot.cam for shot in sample} == set(range(1, 7))
    for shot, picture in zip(sample, pictures, strict=True):
        grey = (picture == picture[:, :, :1]).all()
        assert picture.shape == (48, 24, 3)
        assert bool(grey) == (shot.modality is Modality.INFRARED)
