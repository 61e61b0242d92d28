"""ADCA's own parts against plain loops: aggregation, losses, schedule, camera means."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.associate import ASSOCIATIONS, Options, associate
from visir.cluster.matches import Association, Side
from visir.cluster.memory import Memory
from visir.core.types import Facts, Modality
from visir.data.dataset import joined
from visir.data.transforms import View
from visir.methods.adca import PRESETS, Adca
from visir.nets.features import Features

VIS, IR = Modality.VISIBLE, Modality.INFRARED
CONFIG = replace(
    PRESETS["tiny"], size=(16, 8), stage_epochs=(3, 4), iterations=2, lr_step=2, visible_clusters=2,
    infrared_clusters=3, instances=2, k1=4, k2=2, eps=0.8, min_samples=2, precision="fp32",
)  # fmt: skip


@pytest.fixture
def method(patterns):
    torch.manual_seed(0)
    return Adca(CONFIG, patterns, torch.device("cpu"), seed=0)


def unit(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator), dim=1)


def test_the_visible_prototype_of_a_pair_takes_nine_tenths_of_the_infrared_one(method):
    vis, ir = unit(3, 4, 1), unit(2, 4, 2)
    method.memories = {VIS: Memory(vis, 0.1), IR: Memory(ir, 0.1)}
    shares = np.array([[0, 1], [1, 0], [0, 0]], np.float32)
    method._aggregate(Association(shares, shares.T))
    expected = torch.stack([0.1 * vis[0] + 0.9 * ir[1], 0.1 * vis[1] + 0.9 * ir[0], vis[2]])
    assert torch.allclose(method.memories[VIS].rows_CD, expected, atol=1e-6)
    # Neither the other way round nor of length 1 again.
    assert torch.equal(method.memories[IR].rows_CD, ir)
    assert not torch.allclose(expected, F.normalize(expected, dim=1), atol=1e-3)


def test_half_a_partner_gives_half_of_it(method):
    vis, ir = unit(1, 4, 1), unit(2, 4, 2)
    method.memories = {VIS: Memory(vis, 0.1), IR: Memory(ir, 0.1)}
    shares = np.array([[0.25, 0.25]], np.float32)
    method._aggregate(Association(shares, shares.T))
    expected = 0.55 * vis + 0.45 * ir.mean(dim=0)
    assert torch.allclose(method.memories[VIS].rows_CD, expected, atol=1e-6)


def test_every_association_can_be_chosen():
    vis, ir = unit(12, 4, 3), unit(12, 4, 4)
    sides = Side(vis, np.arange(12) // 4), Side(ir, np.arange(12) // 6)
    tables = {
        name: associate(name, *sides, Options(vote_threshold=0.0)).vis_to_ir
        for name in ASSOCIATIONS
    }
    assert len({table.tobytes() for table in tables.values()}) == len(tables)


def test_the_settings_reach_the_association(method, monkeypatch):
    seen = []

    def noted(name, vis, ir, options):
        seen.append((name, options))
        return associate(name, vis, ir, options)

    monkeypatch.setattr("visir.methods.clustering.associate", noted)
    method.config = replace(
        CONFIG, association="unbalanced", vote_threshold=0.4, transport_temperature=0.2,
        transport_slack=0.3,
    )  # fmt: skip
    method.plan(3)
    ((name, options),) = seen
    assert name == "unbalanced"
    chosen = options.vote_threshold, options.transport_temperature, options.transport_slack
    assert chosen == (0.4, 0.2, 0.3)
    assert (options.min_samples, options.k1, options.k2) == (
        CONFIG.min_samples, CONFIG.k1, CONFIG.k2,
    )  # fmt: skip


def test_each_modality_is_compared_with_its_own_memory_and_updates_it_alone(method):
    memories = {VIS: Memory(unit(3, 4, 1), 0.1), IR: Memory(unit(3, 4, 2), 0.1)}
    method.memories = memories
    outputs = Features(torch.randn(6, 4), torch.empty(6, 1, 4))
    infrared = torch.tensor([False, False, False, False, True, True])
    labels = torch.tensor([0, 1, 0, 1, 2, 2])
    nothing = torch.zeros(6, dtype=torch.int64)
    batch = joined(torch.empty(6, 3, 16, 8), Facts(infrared, labels, nothing, nothing))
    before = {side: memory.rows_CD.clone() for side, memory in memories.items()}
    found = method.loss(batch, outputs)
    for side, rows in ((VIS, slice(0, 4)), (IR, slice(4, 6))):
        cosines = F.normalize(outputs.embedding[rows], dim=1) @ before[side].T
        expected = F.cross_entropy(cosines / 0.05, labels[rows])
        assert found[side.value] == pytest.approx(float(expected), rel=1e-5)
    method.after_step(batch, outputs)
    moved = {side: (memories[side].rows_CD != before[side]).any(dim=1) for side in Modality}
    assert moved[VIS].tolist() == [True, True, False]
    assert moved[IR].tolist() == [False, False, True]


def test_stages_rates_and_batches(method):
    plans = [method.plan(epoch) for epoch in range(7)]
    assert [plan.stage for plan in plans] == ["stage 1"] * 3 + ["stage 2"] * 4
    assert [plan.fresh_optimizer for plan in plans] == [n in (0, 3) for n in range(7)]
    steps = [plan.lr / CONFIG.lr for plan in plans]
    assert steps == pytest.approx([1, 1, 0.1, 1, 1, 0.1, 0.1])
    assert [plan.partners is None for plan in plans] == [True] * 3 + [False] * 4
    for parts in plans[3].batches:
        assert [part.how.view for part in parts] == [View.PLAIN, View.EXCHANGE, View.GRAY]
        plain, exchanged, gray = parts
        assert (plain.rows == exchanged.rows).all()
        assert (len(plain.rows), len(gray.rows)) == (2 * 2, 3 * 2)
        assert not method.data.infrared[plain.rows].any()
        assert method.data.infrared[gray.rows].all()
        assert all((part.labels >= 0).all() for part in parts)
