"""Grids beside the packaged grid `cpu` differ from it in labels or seeds alone."""

from pathlib import Path

import pytest

from visir.bench.grid import read_grid
from visir.bench.usable import require_usable

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def grids(monkeypatch):
    """That of true labels and `cpu`, and the settings of the arms of each."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    both = read_grid(str(BENCHMARKS / "bound.yaml")), read_grid("cpu")
    return [(grid, {key: vars(of) for key, of in require_usable(grid).settings.items()})
            for grid in both]  # fmt: skip


def test_people_start_seeds_and_scores_are_those_of_the_grid_cpu(grids):
    (bound, _), (cpu, _) = grids
    for name in ("data", "start", "seeds", "protocols"):
        assert getattr(bound, name) == getattr(cpu, name), name
    assert {bound.start_of(arm) for arm in bound.arms} == {cpu.start_of("pairs")} == {"person"}


def test_the_arms_with_true_labels_have_the_settings_of_pairs(grids):
    (_, bound), (_, cpu) = grids
    labels = {"clusters-found": ("found", "true"), "true": ("true", "true")}
    for arm, made_true in labels.items():
        own = {name: bound[arm][name] for name in cpu["pairs"]}
        fill = {"fill": 1.0} if arm == "true" else {}  # true clusters have no outliers to fill
        assert own == {**cpu["pairs"], **fill}, arm
        assert (bound[arm]["clusters"], bound[arm]["partners"]) == made_true
        assert (bound[arm]["swapped"], bound[arm]["left_out"]) == (0, 0)


def test_the_arm_of_identity_labels_sees_as_many_images(grids):
    (_, bound), (_, cpu) = grids
    identity, pairs = bound["identity"], cpu["pairs"]
    for name in ("network", "size", "epochs", "iterations"):
        assert identity[name] == pairs[name], name
    views = identity["people"] * identity["images"]  # of each modality in a batch
    assert views == pairs["infrared_clusters"] * pairs["instances"]
    assert views == 2 * pairs["visible_clusters"] * pairs["instances"]


def test_the_grid_of_other_seeds_has_the_arms_of_cpu(grids):
    (_, (cpu, settings)), fresh = grids, read_grid(str(BENCHMARKS / "fresh.yaml"))
    assert not set(fresh.seeds) & set(cpu.seeds)
    for name in ("data", "start", "protocols"):
        assert getattr(fresh, name) == getattr(cpu, name), name
    own = {key: vars(of) for key, of in require_usable(fresh).settings.items()}
    assert {key: own[key] for key in ("tokenmatcher", "pairs", "cmag")} == {
        key: settings[key] for key in ("tokenmatcher", "pairs", "cmag")
    }
    changed = {key for key, of in own["matched"].items() if of != own["tokenmatcher"][key]}
    assert changed == {"association", "center_cameras"}
