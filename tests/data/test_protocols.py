import random
from collections import Counter
from importlib.resources import files

import numpy as np
import pytest

from visir.data.protocols import (
    Pick,
    official_counts,
    official_gallery,
    published_counts,
    seeded_gallery,
)

ALL, INDOOR = (1, 2, 4, 5), (1, 2)


def slow_seeded(names, cams, trial, shots):
    """The public evaluation's loop: lists of file names, identities outside, cameras inside."""
    rng = random.Random(trial)
    drawn = []
    for pid in sorted({pid for pid, _ in names}):
        for cam in cams:
            if (pid, cam) in names:
                listing = sorted(names[pid, cam])
                if shots == 1:
                    drawn.append(rng.choice(listing))
                else:
                    drawn.extend(rng.sample(listing, min(shots, len(listing))))
    return drawn


def test_mersenne_twister_fixture():
    """Five picks from lists of length 20, known from the public protocol."""
    counts = {(pid, 1): 20 for pid in range(5)}
    picks = {t: [p.position for p in seeded_gallery(counts, [1], t, 1)] for t in (0, 1)}
    assert picks == {0: [12, 13, 1, 8, 16], 1: [4, 18, 2, 8, 3]}


@pytest.mark.parametrize("shots", [1, 10])
def test_seeded_equals_the_loop_over_files(shots):
    rng = random.Random(5)
    counts = {
        (pid, cam): rng.randint(1, 45) for pid in range(40) for cam in ALL if rng.random() < 0.8
    }
    names = {
        key: [f"cam{key[1]}/{key[0]:04d}/{i:04d}.jpg" for i in range(n)]
        for key, n in counts.items()
    }
    for trial in range(3):
        drawn = [names[p.pid, p.cam][p.position] for p in seeded_gallery(counts, ALL, trial, shots)]
        assert drawn == slow_seeded(names, ALL, trial, shots)
        cameras_outside = slow_seeded(
            {(c, p): f for (p, c), f in names.items()}, range(40), trial, shots
        )
        assert drawn != cameras_outside


def test_seeded_draw_leaves_the_global_generator_alone():
    random.seed(9)
    expected = random.Random(9).random()
    seeded_gallery(official_counts(), ALL, 0, 10)
    assert random.random() == expected


def test_sysu_totals():
    counts = official_counts()
    assert len({pid for pid, _ in counts}) == 96
    assert sum(counts.values()) == 6775
    assert Counter(cam for _, cam in counts) == {1: 56, 2: 56, 4: 94, 5: 95}
    assert min(counts.values()) == 13
    for draw in (lambda *a: seeded_gallery(counts, *a), official_gallery):
        for trial in range(10):
            assert len(draw(ALL, trial, 1)) == 301
            assert len(draw(INDOOR, trial, 1)) == 112
        multi = draw(ALL, 0, 10)
        assert len(multi) == len(set(multi)) == 3010


def test_published_counts():
    counts = published_counts()
    cameras = [sum(n for (_, cam), n in counts.items() if cam == c) for c in range(1, 7)]
    assert cameras == [6289, 7528, 9812, 8030, 8224, 5980]
    assert len({pid for pid, _ in counts}) == 513
    test = {pid for pid, _ in official_counts()}
    queries = [sum(counts.get((pid, cam), 0) for pid in test) for cam in (3, 6)]
    assert queries == [1883, 1920]
    assert [pid for pid in sorted(test) if (pid, 3) not in counts] == [21, 27, 257]


def test_seeded_picks_on_sysu():
    picks = seeded_gallery(official_counts(), ALL, 0, 1)
    assert [tuple(p) for p in picks[:6]] == [
        (6, 1, 24), (6, 2, 24), (6, 4, 13), (6, 5, 1), (10, 1, 16), (10, 2, 16),
    ]  # fmt: skip


def test_official_picks():
    """Entries of the official code's rand_perm_cam.mat, less one."""
    first = official_gallery(ALL, 0, 1)
    assert first[:5] == [
        Pick(6, 1, 4),
        Pick(6, 2, 6),
        Pick(6, 4, 9),
        Pick(6, 5, 14),
        Pick(10, 1, 17),
    ]
    assert official_gallery(ALL, 9, 1)[-3:] == [Pick(331, 4, 16), Pick(331, 5, 2), Pick(333, 5, 16)]
    multi = official_gallery(INDOOR, 3, 10)[:10]
    assert [p.position for p in multi] == [8, 13, 24, 7, 29, 39, 16, 6, 2, 4]
    assert {(p.pid, p.cam) for p in multi} == {(6, 1)}


def test_official_positions_exist():
    counts = official_counts()
    for trial in range(10):
        for pick in official_gallery(ALL, trial, 10):
            assert 0 <= pick.position < counts[pick.pid, pick.cam]


def test_official_table_holds_nothing_but_numbers():
    with (files("visir.data") / "sysu_official.npz").open("rb") as file:
        table = dict(np.load(file, allow_pickle=False))
    assert {name: array.shape for name, array in table.items()} == {
        "identities": (513,),
        "images": (513, 6),
        "pids": (96,),
        "cams": (4,),
        "picks": (96, 4, 10, 10),
    }
