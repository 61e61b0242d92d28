"""BMIL's split-and-contrast as a loss of ADCA, SDCL, TokenMatcher and CMAG."""

from dataclasses import replace

import pytest
import torch

from visir.methods import METHODS

WEIGHT = 0.5
SECOND = {"adca": 2, "sdcl": 2, "tokenmatcher": 2, "cmag": 2}  # first epoch with matched clusters
OTHERS = {"tokenmatcher": {"camera_epochs": (0, 0), "stage_epochs": (2, 2)}}
CONFIGS = {
    name: replace(
        METHODS[name].presets["smoke"], size=(32, 16), eps=0.8, association="joint",
        split_weight=WEIGHT, **OTHERS.get(name, {}),
    )
    for name in SECOND
}  # fmt: skip


@pytest.fixture(params=SECOND)
def method(request, patterns):
    torch.manual_seed(0)
    found = METHODS[request.param](CONFIGS[request.param], patterns, torch.device("cpu"), seed=0)
    return found, SECOND[request.param]


def step(method, epoch):
    plan = method.plan(epoch)
    batch = method.data.batch(next(iter(plan.batches)), 0, 0, torch.device("cpu"))
    return batch, method.forward(batch)


def test_the_loss_joins_in_where_clusters_are_matched(method):
    method, second = method
    batch, outputs = step(method, second - 1)
    assert "split" not in method.loss(batch, outputs)
    batch, outputs = step(method, second)
    terms = method.loss(batch, outputs)
    (split,) = getattr(method, "base", method).split
    expected = WEIGHT * split.loss(batch, outputs.embedding).item()
    assert terms["split"].item() == pytest.approx(expected, rel=1e-6)
    assert expected > 0


def test_every_step_changes_its_prototypes(method):
    method, second = method
    batch, outputs = step(method, second)
    method.loss(batch, outputs)
    (split,) = getattr(method, "base", method).split
    before = split.memory.rows_CD.clone()
    method.after_step(batch, outputs)
    changed = (split.memory.rows_CD != before).any(dim=1)
    assert changed[split._rows(batch).unique()].all()


def test_without_its_weight_it_is_not_there(method, patterns):
    method, second = method
    name = type(method).__name__.lower()
    off = METHODS[name](
        replace(CONFIGS[name], split_weight=0.0), patterns, torch.device("cpu"), seed=0
    )
    batch, outputs = step(off, second)
    assert "split" not in off.loss(batch, outputs)
