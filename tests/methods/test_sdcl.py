"""SDCL's own parts against plain loops: neighbours, directions, memories, the switch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.agreement import agreeing
from visir.cluster.matches import Association
from visir.cluster.memory import Memory
from visir.cluster.neighbour_loss import agreed_loss
from visir.core.types import InputError, Modality
from visir.methods.sdcl import DEPTHS, PRESETS, Sdcl, halves
from visir.nets.features import Features

VIS, IR = Modality.VISIBLE, Modality.INFRARED
CONFIG = replace(
    PRESETS["tiny"], size=(16, 8), epochs=4, switch=2, iterations=2, iterations_after=3,
    cross_from=1, visible_clusters=2, infrared_clusters=2, instances=2, k1=4, k1_after=4, k2=2,
    eps=0.8, min_samples=2, ranked=4, smoothing=2, lr_step=3, precision="fp32",
    center_cameras=False,
)  # fmt: skip


@pytest.fixture
def method(patterns):
    torch.manual_seed(0)
    return Sdcl(CONFIG, patterns, torch.device("cpu"), seed=0)


def unit(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator), dim=1)


def drawn(method, epoch):
    """A batch of the epoch's plan with made-up outputs of the network."""
    parts = next(iter(method.plan(epoch).batches))
    batch = method.data.batch(parts, 0, 2, torch.device("cpu"))
    width = method.model.embedding_dim
    raw = 9 * torch.randn(len(batch.rows), width, generator=torch.Generator().manual_seed(1))
    return batch, Features(raw, raw.view(len(raw), 2, -1))


def slow_neighbour_loss(features, memory, agreed, temperature=0.05):
    total = 0.0
    for feature, row in zip(F.normalize(features, dim=1), agreed, strict=True):
        p = (feature @ memory.T / temperature).softmax(dim=0)
        towards = [-float(torch.log(p[j].clamp(min=1e-8))) for j in torch.nonzero(row)[:, 0]]
        total += sum(towards) / (1 + len(towards))
    return total / len(features)


def test_neighbour_loss_equals_the_double_loop():
    features, memory = 5 * unit(6, 8, 0), Memory(unit(20, 8, 1), 0.9)
    agreed = torch.rand(6, 20, generator=torch.Generator().manual_seed(2)) < 0.3
    agreed[0] = False
    found = float(agreed_loss(memory.logits(features), agreed))
    assert found == pytest.approx(slow_neighbour_loss(features, memory.rows_CD, agreed), rel=1e-5)
    assert found != pytest.approx(slow_neighbour_loss(features, memory.rows_CD, ~agreed), rel=1e-2)


def test_neighbours_are_what_enough_descriptors_see_near_the_best():
    sims = [unit(5, 3, seed) @ unit(12, 3, seed + 9).T for seed in range(3)]
    for at_least in (1, 2, 3):
        found = agreeing(sims, 0.9, at_least)
        for i in range(5):
            for j in range(12):
                seen = sum(bool(sim[i, j] > 0.9 * sim[i].max()) for sim in sims)
                assert bool(found[i, j]) == (seen >= at_least)
    assert torch.equal(agreeing(sims, 0.9), agreeing(sims, 0.9, 3))


def test_directions_alternate_as_released_and_both_count_in_the_symmetric_form(method):
    for epoch, expected in ((2, [(VIS, 0.1)]), (3, [(IR, 1.0)])):
        method.epoch = epoch
        assert method._directions() == expected
    method.config = replace(CONFIG, cross="symmetric")
    assert method._directions() == [(VIS, 1.0), (IR, 1.0)]


def test_terms_join_in_at_their_epochs_and_weigh_less_after_the_switch(method):
    terms = {}
    for epoch in (0, 1, 3):
        batch, outputs = drawn(method, epoch)
        terms[epoch] = method.loss(batch, outputs)
    names = {f"{modality.value} {depth}" for modality in Modality for depth in DEPTHS}
    assert set(terms[0]) == names | {"intra"}
    assert set(terms[1]) == set(terms[3]) == names | {"intra", "cross"}
    within = sum(method._neighbours(batch, outputs, modality, modality) for modality in Modality)
    assert terms[3]["intra"] == pytest.approx(float(0.1 * within), rel=1e-5)
    across = method._neighbours(batch, outputs, IR, VIS)
    assert terms[3]["cross"] == pytest.approx(float(0.1 * across), rel=1e-5)


def test_neighbours_are_found_on_the_memories_and_learnt_by_the_batch(method):
    batch, outputs = drawn(method, 1)
    mask = ~batch.infrared
    place = {row: i for i, row in enumerate(method.data.rows(VIS))}
    rows = [place[int(row)] for row in batch.rows[mask]]
    images = method.images
    agreed = agreeing(
        [images[VIS, depth].rows_CD[rows] @ images[IR, depth].rows_CD.T for depth in DEPTHS], 0.9
    )
    deep, shallow = (
        slow_neighbour_loss(part, images[IR, depth].rows_CD, agreed)
        for part, depth in zip(halves(outputs.embedding[mask]), DEPTHS, strict=True)
    )
    found = float(method._neighbours(batch, outputs, VIS, IR))
    assert found == pytest.approx(deep + 0.5 * shallow, rel=1e-4)
    assert found != pytest.approx(shallow + 0.5 * deep, rel=1e-4)


def test_before_the_switch_each_modality_updates_its_own_memories(method):
    batch, outputs = drawn(method, 1)
    before = {key: memory.rows_CD.clone() for key, memory in method.clusters.items()}
    method.after_step(batch, outputs)
    for modality in Modality:
        views = batch.of(modality)
        for depth, part in zip(DEPTHS, halves(outputs.embedding[views]), strict=True):
            expected = Memory(before[modality, depth], CONFIG.momentum)
            expected.update(part, batch.labels[views])
            assert torch.equal(method.clusters[modality, depth].rows_CD, expected.rows_CD)
            assert not torch.equal(expected.rows_CD, before[modality, depth])


def test_raw_features_outweigh_the_old_row_of_an_image(method):
    batch, outputs = drawn(method, 1)
    row = method.position[batch.rows[batch.infrared][0]]
    old = method.images[IR, "deep"].rows_CD[row].clone()
    new = F.normalize(halves(outputs.embedding[batch.infrared]).deep[0], dim=0)
    method.after_step(batch, outputs)
    moved = method.images[IR, "deep"].rows_CD[row]
    assert moved @ new > moved @ old  # although the old row's weight is .9


def test_after_the_switch_both_modalities_share_one_memory_and_one_set_of_labels(method):
    plan = method.plan(2)
    assert plan.stage == "stage 2"
    assert plan.steps == len(list(plan.batches)) == 3
    assert plan.partners is not None
    for depth in DEPTHS:
        assert method.clusters[VIS, depth] is method.clusters[IR, depth]
    infrared = plan.labels[method.data.infrared].max() + 1
    assert len(method.clusters[VIS, "deep"].rows_CD) <= infrared
    batch, outputs = drawn(method, 2)
    before = method.clusters[IR, "deep"].rows_CD.clone()
    method.after_step(batch, outputs)
    expected = Memory(before, CONFIG.momentum)
    expected.update(halves(outputs.embedding).deep, batch.labels)
    assert torch.equal(method.clusters[IR, "deep"].rows_CD, expected.rows_CD)


def test_stages_rates_and_first_momentum(method):
    method.config = replace(CONFIG, first_momentum=0.99)
    plans = [method.plan(epoch) for epoch in range(4)]
    assert [plan.stage for plan in plans] == ["stage 1"] * 2 + ["stage 2"] * 2
    assert [plan.lr / CONFIG.lr for plan in plans] == pytest.approx([1, 1, 1, 0.1])
    assert method.clusters[VIS, "deep"].momentum == CONFIG.momentum
    method.plan(0)
    assert method.clusters[VIS, "deep"].momentum == 0.99
    assert method.stage_starts == (2,)


def test_nobody_with_a_label_across_the_modalities_is_said(method, monkeypatch):
    monkeypatch.setattr(
        "visir.methods.sdcl.collaborative_ranking", lambda vis, *_: np.full(len(vis[0]), -1)
    )
    with pytest.raises(InputError, match="was matched with an infrared cluster"):
        method.plan(2)


def test_another_association_gives_images_the_partner_of_their_cluster(method, monkeypatch):
    method.config = replace(CONFIG, association="mutual")
    method.epoch = 2
    own = {VIS: np.array([0, 1, 2, -1] * 6), IR: np.array([0, 1, 2, -1] * 6)}
    width = method.model.embedding_dim
    features = {VIS: unit(24, width, 1), IR: unit(24, width, 2)}
    forward = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], np.float32)
    seen = []

    def associated(name, vis, ir, options):
        seen.append((name, vis.labels, ir.labels, options))
        return Association(forward, forward.T)

    monkeypatch.setattr("visir.methods.clustering.associate", associated)
    found = method._across(features, own)
    assert found.tolist() == [2, -1, 0, -1] * 6
    ((name, vis, ir, options),) = seen
    assert name == "mutual"
    assert options.vote_threshold == method.config.vote_threshold
    assert vis is own[VIS] and ir is own[IR]
