"""The benchmark of wrong labels: they are wrong as declared, and nothing but labels differs."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from declared import write_results

from visir.bench.grid import read_grid
from visir.bench.jobs import jobs_of
from visir.bench.run import listed
from visir.bench.store import Store
from visir.bench.usable import require_usable
from visir.cluster.metrics import describe
from visir.core.types import InputError, Modality
from visir.data.dataset import TrainingSet
from visir.methods.pairs import PRESETS, Pairs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
VIS, IR = Modality.VISIBLE, Modality.INFRARED
PEOPLE, EACH = 8, 6
SMALL = {"size": (16, 8), "eps": (0.8, 0.8), "average": 0.5, "fill": 1.0, "chance": 1.0}
LABELS = ("clusters", "partners", "swapped", "left_out", "fill")


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import ceiling
    import ceiling_method

    return ceiling, ceiling_method


@pytest.fixture(scope="module")
def people():
    """96 noisy images of eight people, every other one infrared, from four cameras.

    In infrared light everybody looks as the person before looks in visible light.
    """
    rng = np.random.default_rng(0)
    looks = np.kron(rng.integers(0, 256, (PEOPLE, 2, 2, 3)), np.ones((1, 8, 4, 1)))
    rows = np.arange(2 * PEOPLE * EACH)
    identities = np.repeat(np.arange(PEOPLE), 2 * EACH)
    shown = looks[(identities - rows % 2) % PEOPLE]
    pixels = np.clip(shown + rng.normal(0, 9, shown.shape), 0, 255)
    return TrainingSet(pixels.astype(np.uint8), rows % 2 == 1, rows % 4, identities)


def oracle(benchmark, people, **settings):
    method = benchmark[1]
    small = {**vars(PRESETS["smoke"]), **SMALL, "least_matched": 0.0, **settings}
    torch.manual_seed(0)
    return method.Oracle(method.Config(**small), people, torch.device("cpu"), 3)


def measured(method, people):
    """The first plan, and its labels against the truth."""
    plan = method.plan(0)
    rows = {m.value: people.rows(m) for m in Modality}
    labels = {name: plan.labels[of] for name, of in rows.items()}
    truth = {name: people.identities[of] for name, of in rows.items()}
    return plan, describe(labels, plan.partners, truth)


def test_true_labels_are_the_identities(benchmark, people):
    method = oracle(benchmark, people, clusters="true", partners="true")
    plan, found = measured(method, people)
    assert plan.labels.tolist() == people.identities.tolist()
    assert plan.partners.tolist() == list(range(PEOPLE)) and plan.trains
    assert {found[name] for name in benchmark[0].MEASURES} == {1.0}
    assert method.people[VIS].tolist() == method.people[IR].tolist()


@pytest.mark.parametrize(("share", "wrong"), [(0.25, 2), (0.5, 4), (1.0, 8)])
def test_the_share_of_swapped_pairs_is_exact(benchmark, people, share, wrong):
    settings = {"clusters": "true", "partners": "true", "swapped": share}
    plan, found = measured(oracle(benchmark, people, **settings), people)
    other = plan.partners != np.arange(PEOPLE)
    assert other.sum() == wrong and sorted(plan.partners) == list(range(PEOPLE))
    assert found["pairs_correct"] == found["image_pairs_precision"] == 1 - share
    again = oracle(benchmark, people, **settings)
    assert again.plan(1).partners.tolist() == plan.partners.tolist()  # in every epoch
    back = again.matches[IR].tolist()
    assert [back[one] for one in plan.partners] == list(range(PEOPLE))


def test_swaps_depend_on_the_seed_and_hold_those_of_a_smaller_share(benchmark):
    partners_of = benchmark[1].partners_of
    few, many, other = (partners_of(200, *of) for of in ((0.1, 0), (0.3, 0), (0.1, 1)))
    moved = [set(np.flatnonzero(of != np.arange(200))) for of in (few, many, other)]
    assert (len(moved[0]), len(moved[1])) == (20, 60)
    assert moved[0] < moved[1] and moved[0] != moved[2]
    assert few.tolist() == partners_of(200, 0.1, 0).tolist()
    with pytest.raises(InputError, match=r"swapped: 0.1 of 10 people is one; raise it"):
        partners_of(10, 0.1, 0)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_share_of_images_left_out_is_exact_and_leaves_everybody(benchmark, people, share):
    settings = {"clusters": "true", "partners": "true", "left_out": share}
    plan, found = measured(oracle(benchmark, people, **settings), people)
    kept = plan.labels >= 0
    assert plan.labels[kept].tolist() == people.identities[kept].tolist()
    for modality in Modality:
        of = kept[people.rows(modality)]
        assert (~of).sum() == share * len(of)
        assert set(plan.labels[people.rows(modality)][of]) == {*range(PEOPLE)}
    assert (found["outliers_visible"], found["image_pairs_precision"]) == (share, 1)
    drawn = {int(row) for part in plan.batches for piece in part for row in piece.rows}
    assert drawn <= {*np.flatnonzero(kept).tolist()}
    again = oracle(benchmark, people, **settings).plan(1).labels
    assert again.tolist() == plan.labels.tolist()


def test_too_many_images_left_out_are_refused(benchmark, people):
    left_out = benchmark[1].left_out
    few, most = (left_out(people.identities, people.infrared, share, 0) for share in (0.2, 0.8))
    assert (few <= most).all() and not (few == most).all()
    with pytest.raises(InputError, match=r"0\.9 of the 48 visible .* lower it to 0\.83 or less"):
        left_out(people.identities, people.infrared, 0.9, 0)


# Clusters by image of a person: person 0 is split, 1 and 2 share one, 3 is an outlier in infrared.
SPLIT = {
    VIS: [[0, 0, 0, 0, 1, 1], [2] * 6, [2] * 5 + [-1], [3] * 6, *([4 + n] * 6 for n in range(4))],
    IR: [[1, 1, 0, 0, 0, 0], [2] * 6, [3] * 6, [-1] * 6, *([4 + n] * 6 for n in range(4))],
}


def test_found_clusters_get_the_largest_cluster_of_their_most_frequent_person(
    benchmark, people, monkeypatch
):
    given = {m: np.concatenate([np.array(of) for of in rows]) for m, rows in SPLIT.items()}
    monkeypatch.setattr(Pairs, "_cluster", lambda self, modality, features, eps: given[modality])
    method = oracle(benchmark, people, clusters="found", partners="true")
    plan, found = measured(method, people)

    def person(modality, cluster):
        truth = people.identities[people.rows(modality)]
        return Counter(truth[given[modality] == cluster].tolist()).most_common(1)[0][0]

    def partners(modality, other):
        for cluster in range(given[modality].max() + 1):
            same = [
                (int((given[other] == one).sum()), one)
                for one in range(given[other].max() + 1)
                if person(other, one) == person(modality, cluster)
            ]
            yield max(same)[1] if same else -1

    assert plan.partners.tolist() == [*partners(VIS, IR)] == [0, 0, 2, -1, 4, 5, 6, 7]
    assert method.matches[IR].tolist() == [*partners(IR, VIS)] == [0, 0, 2, -1, 4, 5, 6, 7]
    assert found["pairs_correct"] == 1 and found["image_pairs_precision"] < 1
    numbers = [method.people[m].tolist() for m in (VIS, IR)]
    assert len({*numbers[0][:2], *numbers[1][:2]}) == 1  # all parts of person 0 are one


def test_found_partners_are_those_that_pairs_finds(benchmark, people):
    both = oracle(benchmark, people, clusters="found", partners="found")
    plain = Pairs(replace(PRESETS["smoke"], **SMALL), people, torch.device("cpu"), 3)
    plain.model.load_state_dict(both.model.state_dict())
    plans = [method.plan(0) for method in (both, plain)]
    assert plans[0].labels.tolist() == plans[1].labels.tolist()
    assert plans[0].partners.tolist() == plans[1].partners.tolist()
    true = oracle(benchmark, people, clusters="true", partners="found")
    plan, found = measured(true, people)
    assert plan.labels.tolist() == people.identities.tolist()
    assert plan.partners.tolist() == [*range(1, PEOPLE), 0] and found["pairs_correct"] == 0
    none = oracle(benchmark, people, clusters="true", partners="none").plan(0)
    assert none.partners.tolist() == [-1] * PEOPLE


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"left_out": 0.2}, "needs true clusters; set clusters=true"),
        ({"left_out": 0.2, "clusters": "true", "fill": 0.1}, "join clusters again; set fill=1"),
        ({"swapped": 0.2, "clusters": "true"}, "set clusters=true partners=true"),
    ],
)
def test_errors_in_labels_that_are_not_true_are_refused(benchmark, people, settings, words):
    with pytest.raises(InputError, match=words):
        oracle(benchmark, people, **settings)


def test_arms_of_one_start_differ_in_their_labels_only(benchmark):
    ceiling, _ = benchmark
    grid = read_grid(str(BENCHMARKS / "ceiling.yaml"))
    resolved = require_usable(grid).settings
    for start in ceiling.STARTS:
        own = {key: vars(of) for key, of in resolved.items() if key.startswith(f"{start}-")}
        arms = {key.removeprefix(f"{start}-") for key in own}
        assert arms == {*ceiling.ARMS} - {"start"}
        rest = {
            tuple((name, value) for name, value in of.items() if name not in LABELS)
            for of in own.values()
        }
        assert len(rest) == 1
        given = {tuple(of[name] for name in LABELS) for of in own.values()}
        assert len(given) == len(own)
        assert {grid.start_of(key) for key in own} == {None if start == "none" else start}


def test_the_table_says_what_is_not_measured_and_results_can_be_gone_on_from(
    benchmark, tmp_path, monkeypatch
):
    ceiling, _ = benchmark
    means = {"person-true": [0.5, 0.6], "person-found": [0.3], "none-swapped-30": [0.2]}
    grid = str(BENCHMARKS / "ceiling.yaml")
    store = write_results(tmp_path / "one", grid, means)
    monkeypatch.setattr(ceiling, "TABLE", tmp_path / "ceiling.md")
    monkeypatch.setattr(ceiling, "STORED", tmp_path / "results.json")
    ceiling.write(store)
    text = (tmp_path / "ceiling.md").read_text()
    assert "| true identities | 55.0 ± 7.1 | 55.0 ± 7.1 | 55.0 ± 7.1 |  |  |  |" in text
    found = "| found clusters, found partners | 30.0 | 30.0 | 30.0 | -20.0 | -20.0 | -20.0 |"
    assert found in text
    assert "| true clusters, 30 % wrong partners | 20.0 | 20.0 | 20.0 | – | – | – |" in text
    assert "| no start: true clusters, found partners | – · – · – |" in text
    assert "60 people: 1 cell of 2 seeds, 2 cells of 1 seed, 29 not measured." in text
    assert (tmp_path / "ceiling.png").read_bytes().startswith(b"\x89PNG")
    again = Store(tmp_path / "two")
    ceiling.unpack(json.loads((tmp_path / "results.json").read_text()), again)
    done = {job.key for job in jobs_of(read_grid(grid)) if store.result(job.key).exists()}
    assert len(done) == 12 and listed(grid, again.out, allow_other_build=True).done == done


def test_the_stored_results_can_be_gone_on_from(benchmark, tmp_path):
    """They fit the grid as it is: data, starts and settings are those they were made with."""
    ceiling, _ = benchmark
    stored = json.loads(ceiling.STORED.read_text("utf-8"))
    store = Store(tmp_path / "out")
    ceiling.unpack(stored, store)
    grid = str(BENCHMARKS / "ceiling.yaml")
    assert len(listed(grid, store.out, allow_other_build=True).done) == len(stored["results"]) > 0
