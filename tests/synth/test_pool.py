"""Pools: people of many worlds; the physics of sensors."""

import json
from itertools import product

import numpy as np
import pytest

from visir.core.types import InputError, Modality
from visir.data.registry import open_benchmark
from visir.synth.cameras import World, camera
from visir.synth.layouts import Spec, lay_out
from visir.synth.people import person
from visir.synth.pool import FIRST_SEED, PEOPLE_OF_A_WORLD, draw_world, world_seeds
from visir.synth.render import render_shots
from visir.synth.write import synthesise

VIS, IR = Modality.VISIBLE, Modality.INFRARED
SIZE = (48, 24)


def test_no_world_of_a_pool_is_another_pools_or_any_other_data_sets():
    first, second = (world_seeds(seed, 60) for seed in (0, 1))
    assert not set(first) & set(second)
    assert min(first) >= FIRST_SEED
    with pytest.raises(InputError, match="seed"):
        lay_out(Spec(layout="sysu", seed=FIRST_SEED))


def test_no_person_of_a_pool_wears_what_a_person_of_a_data_set_wears():
    clothes = {person(seed, pid, 0.9).materials.tobytes() for seed in range(4) for pid in range(99)}
    pool = [person(world.seed, 1, 0.9) for world in lay_out(Spec("pool", ids=400)).worlds]
    assert len(pool) == 400 // PEOPLE_OF_A_WORLD
    assert not clothes & {one.materials.tobytes() for one in pool}


def seen(seed_and_worlds, shots):
    """What is drawn for people and for cameras: (clothes, bodies, colour casts), as bytes."""
    people = {(seed_and_worlds[shot.world], shot.pid) for shot in shots}
    drawn = [person(world.seed, pid, 0.9) for world, pid in people]
    views = {(seed_and_worlds[shot.world], shot.cam, shot.modality) for shot in shots}
    return (
        {one.materials.tobytes() for one in drawn},
        {repr(sorted(one.shape.items())) for one in drawn},
        {camera(*view).cast.tobytes() for view in views},
    )


def test_nobody_and_no_camera_of_the_shipped_pool_is_in_a_benchmark():
    whole = lay_out(Spec("pool", ids=8000, images=1, seed=1))
    pool = seen(whole.worlds, [shot for shot in whole.shots if shot.pid % 25 == 0])
    assert [len(of) for of in pool[:2]] == [320, 320] and len(pool[2]) > 320
    for layout, seed in product(("sysu", "regdb", "llcm"), range(3)):
        assert seed not in {world.seed for world in whole.worlds}
        shots = lay_out(Spec(layout, ids=24, images=1, seed=seed)).shots
        for ours, theirs in zip(pool, seen([World(seed=seed, layout=layout)], shots), strict=True):
            assert theirs and not ours & theirs


def test_every_world_has_physics_of_its_own():
    worlds = [draw_world(seed) for seed in world_seeds(0, 50)]
    assert {world.layout for world in worlds} == {"sysu", "llcm", "regdb"}
    for name in ("nir_follows", "sway", "bias", "crop", "noise", "blur", "gamma", "warmth"):
        assert len({getattr(world, name) for world in worlds}) == 50


def test_a_pool_opens_with_labels_in_both_modalities(tmp_path):
    synthesise(tmp_path / "pool", layout="pool", ids=52, images=1, size="32x16", progress=False)
    benchmark = open_benchmark(tmp_path / "pool")
    counts = {(pid, kind): 0 for pid in range(1, 53) for kind in Modality}
    for record in benchmark.train:
        counts[record.pid, record.modality] += 1
    # The first two worlds have one visible and one infrared camera, or four and two.
    assert {counts[pid, VIS] for pid in range(1, 51)} <= {3, 4}
    assert min(counts.values()) >= 2
    assert not benchmark.test
    first, last = (
        [r.cam for r in benchmark.train if r.pid in pids] for pids in (range(1, 51), (51, 52))
    )
    assert not set(first) & set(last)


def test_an_interrupted_pool_is_finished(tmp_path):
    out = tmp_path / "pool"

    def make():
        synthesise(out, layout="pool", ids=3, images=1, size="32x16", progress=False, workers=1)
        return {path: path.read_bytes() for path in out.rglob("*.jpg")}

    whole = make()
    for path in list(whole)[::2]:
        path.unlink()
    assert make() == whole


def pictures(modality, cam, layout="sysu", **physics):
    world = World(seed=3, layout=layout, **physics)
    shots = lay_out(Spec(layout=layout, ids=6, images=2, seed=3)).shots
    shots = [s for s in shots if s.cam == cam and s.modality is modality]
    return np.stack(render_shots(shots, world, SIZE)).astype(int)


@pytest.mark.parametrize(
    ("physics", "changes"),
    [
        ({"nir_follows": 0.5}, {"near"}),
        ({"gamma": 1.5}, {"near", "thermal"}),
        ({"warmth": 1.7}, {"thermal"}),
        ({"sway": 1.6}, {"visible", "near", "thermal"}),
        ({"bias": 2.5}, {"visible", "near", "thermal"}),
        ({"crop": 2.0}, {"visible", "near", "thermal"}),
        ({"noise": 2.0}, {"visible", "near", "thermal"}),
        ({"blur": 2.0}, {"visible", "near", "thermal"}),
    ],
)
def test_each_factor_changes_the_sensors_it_is_about(physics, changes):
    sensors = {"visible": (VIS, 1, "sysu"), "near": (IR, 3, "sysu"), "thermal": (IR, 2, "regdb")}
    changed = {
        name
        for name, (modality, cam, layout) in sensors.items()
        if (pictures(modality, cam, layout) != pictures(modality, cam, layout, **physics)).any()
    }
    # A thermal camera sets its own gain: it has no colour cast, lamp or exposure of its own.
    assert changed == changes - ({"thermal"} if "bias" in physics else set())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"physics": ["nir_folows=0.5"]}, "did you mean 'nir_follows'"),
        ({"physics": ["nir_follows=2"]}, "nir_follows"),
        ({"physics": ["gamma=0"]}, "gamma"),
        ({"physics": ["seed=4"]}, "use --seed"),
        ({"layout": "pool", "physics": ["noise=2"]}, "omit --set"),
        ({"layout": "pool", "ids": 1}, "at least 2 identities"),
        ({"layout": "pool", "unpaired": 0.5}, "omit train_ids and unpaired"),
        ({"layout": "pool", "ids": 2**22}, "several pools"),
    ],
)
def test_impossible_worlds_are_refused(options, said, tmp_path):
    with pytest.raises(InputError, match=said):
        synthesise(tmp_path / "x", size="32x16", progress=False, **options)
    assert not (tmp_path / "x").exists()


def test_other_physics_in_the_same_folder_are_refused_and_older_markers_read(tmp_path):
    out, small = tmp_path / "x", {"ids": 2, "images": 1, "size": "32x16", "progress": False}
    synthesise(out, **small)
    with pytest.raises(InputError, match="was made with"):
        synthesise(out, **small, physics=("noise=2",))
    marker = out / "visir-synth.json"
    content = json.loads(marker.read_text())
    for name in ("bias", "crop", "noise", "blur", "gamma", "warmth"):
        del content["parameters"]["world"][name]
    marker.write_text(json.dumps(content))
    synthesise(out, **small)
