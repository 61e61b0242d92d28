"""What was tried for the method pairs: each part changes what it says, and nothing else does."""

from pathlib import Path

import numpy as np
import pytest
import torch

from visir.bench.grid import read_grid
from visir.bench.usable import require_usable
from visir.cluster.matches import Association
from visir.core.types import Modality
from visir.data.dataset import TrainingSet
from visir.methods.pairs import PRESETS, Pairs

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
VIS, IR = Modality.VISIBLE, Modality.INFRARED
SMALL = {"size": (32, 16), "eps": (0.8, 0.8), "average": 0.0, "chance": 1.0, "lr": 0.02}
PARTS = [
    {"proxy_weight": 0.5}, {"parts": 2}, {"deviation": True}, {"subset": 0.67},
    {"over_epochs": True}, {"over_parts": 2}, {"soft": 0.05}, {"prior": 1.0}, {"pull": 0.1},
    {"alone": 2}, {"mixed": 0.8},
]  # fmt: skip


@pytest.fixture
def tried(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import tried_method

    return tried_method


@pytest.fixture(scope="module")
def people():
    """96 noisy images of eight people, every other one infrared, from four cameras."""
    rng = np.random.default_rng(0)
    looks = np.kron(rng.integers(0, 256, (8, 2, 2, 3)), np.ones((1, 16, 8, 1)))
    shown = looks.repeat(12, axis=0)
    pixels = np.clip(shown + rng.normal(0, 40, shown.shape), 0, 255).astype(np.uint8)
    return TrainingSet(pixels, np.arange(96) % 2 == 1, np.arange(96) % 4)


def losses(method, people, epochs=2):
    """The terms of the first step of the second epoch, after one step of the first."""
    optimizer = method.optimizer()
    for epoch in range(epochs):
        plan = method.plan(epoch)
        batch = people.batch(next(iter(plan.batches)), epoch, 1, torch.device("cpu"))
        outputs = method.forward(batch)
        terms = method.loss(batch, outputs)
        sum(terms.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(batch, outputs)
    return {name: of.item() for name, of in terms.items()}, plan.partners.tolist()


def made(cls, config, people):
    torch.manual_seed(0)
    return cls(config, people, torch.device("cpu"), 0)


def small(tried, **settings):
    return tried.Config(**{**vars(PRESETS["smoke"]), **SMALL, "least_matched": 0.0, **settings})


def test_without_a_part_it_is_pairs(tried, people):
    config = small(tried)
    assert losses(made(tried.Tried, config, people), people) == losses(
        made(Pairs, config, people), people
    )


@pytest.mark.parametrize("part", PARTS, ids=lambda of: next(iter(of)))
def test_every_part_changes_the_training(tried, people, part):
    before = losses(made(tried.Tried, small(tried), people), people)
    terms, partners = losses(made(tried.Tried, small(tried, **part), people), people)
    assert all(np.isfinite(of) for of in terms.values())
    assert (terms, partners) != before


def test_matches_of_one_epoch_only_are_dropped(tried, people):
    method = made(tried.Tried, small(tried, over_epochs=True), people)
    labels = {VIS: np.array([0, 0, 1, 1, -1]), IR: np.array([0, 0, 1, 1, 1])}
    straight, crossed = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1].copy()
    method.before = {}
    assert (method._as_before(Association(straight, straight), labels).vis_to_ir == straight).all()
    assert (method._as_before(Association(straight, straight), labels).vis_to_ir == straight).all()
    assert not method._as_before(Association(crossed, crossed), labels).vis_to_ir.any()
    assert (method._as_before(Association(crossed, crossed), labels).vis_to_ir == crossed).all()
    later = {VIS: np.array([-1, -1, 1, -1, 0]), IR: labels[IR]}  # what was an outlier is a cluster
    found = method._as_before(Association(crossed, crossed), later).vis_to_ir
    assert found.tolist() == [[0, 0], [1, 0]]


def test_no_cluster_has_a_match_in_epochs_alone(tried, people):
    method = made(tried.Tried, small(tried, alone=1), people)
    assert set(method.plan(0).partners) == {-1}
    assert not set(method.people[VIS].tolist()) & set(method.people[IR].tolist())
    assert max(method.plan(1).partners) >= 0


def test_a_mixed_prototype_is_that_of_all_images_of_a_match(tried, people):
    method = made(tried.Tried, small(tried, mixed=0.8), people)
    plan = method.plan(0)
    features = tried.embed_training(method.model, people, torch.device("cpu"), "fp32")
    labels = {m: plan.labels[people.rows(m)] for m in Modality}
    visible = next(of for of, match in enumerate(plan.partners) if match >= 0)
    matched = [of for of, match in enumerate(method.matches[IR].tolist()) if match == visible]
    total = features[VIS][labels[VIS] == visible].sum(0)
    total = total + features[IR][np.isin(labels[IR], matched)].sum(0)
    memory = method.memories[VIS]
    assert matched and memory.momentum == 0.8
    assert torch.allclose(memory.rows_CD[visible], total / total.norm(), atol=1e-5)


@pytest.mark.parametrize("name", ["tried", "tried-ready", "tried-nothing"])
def test_the_grids_try_every_part_once(tried, name):
    grid = read_grid(str(BENCHMARKS / f"{name}.yaml"))
    require_usable(grid)
    named = {key for arm in grid.arms.values() for key in arm.settings}
    assert named & {key for part in PARTS for key in part}
