"""The method pairs against plain loops: matches, losses, batches, the average, and hard cases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.matches import Association
from visir.cluster.memory import Memory
from visir.core.types import Facts, InputError, Modality
from visir.data.dataset import TrainingSet, joined
from visir.methods.clustering import batches_by_cluster
from visir.methods.losses import diversity
from visir.methods.pairs import PRESETS, Pairs
from visir.nets.features import Features

VIS, IR = Modality.VISIBLE, Modality.INFRARED
CONFIG = replace(PRESETS["smoke"], size=(16, 8), eps=(0.8, 0.8))


@pytest.fixture
def method(patterns):
    torch.manual_seed(0)
    return Pairs(CONFIG, patterns, torch.device("cpu"), seed=0)


def test_a_radius_that_fails_is_widened_and_named(method, monkeypatch):
    """Each modality has its own radius; images count as clustered from .6 on."""
    tried = []

    def labels(features, eps, *_):
        tried.append(round(eps, 3))
        return np.arange(len(features)) // 4 if eps >= 0.6 else np.full(len(features), -1)

    monkeypatch.setattr("visir.methods.pairs.pseudo_labels", labels)
    method.config = replace(CONFIG, eps=(0.5, 0.7))
    plan = method.plan(0)
    assert tried == [0.5, 0.625, 0.7]
    assert plan.warnings[0] == "visible: clustering failed at eps 0.5; eps 0.625 was used"


def unit(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator), dim=1)


def matched(method, there, back, monkeypatch):
    """The method after a match with these partners, -1 for none."""

    def shares(of, columns):
        rows = np.zeros((len(of), columns), np.float32)
        for row, column in enumerate(of):
            if column >= 0:
                rows[row, column] = 1
        return rows

    found = Association(shares(there, len(back)), shares(back, len(there)))
    monkeypatch.setattr("visir.methods.clustering.associate", lambda *arguments: found)
    nothing = {m: torch.zeros(1, 2) for m in Modality}
    method._match(nothing, {m: np.zeros(1, int) for m in Modality})
    return method


def test_clusters_that_hang_together_by_matches_have_one_number(method, monkeypatch):
    """Visible 0 and infrared 1 are mutual; infrared 2 takes visible 0 too; the others are alone."""
    matched(method, [1, -1], [-1, 0, 0], monkeypatch)
    assert method.matches[VIS].tolist() == [1, -1]
    assert method.matches[IR].tolist() == [-1, 0, 0]
    vis, ir = method.people[VIS].tolist(), method.people[IR].tolist()
    assert ir[1] == ir[2] == vis[0]
    assert len({vis[0], vis[1], ir[0]}) == 3


def step(method, monkeypatch):
    """Four visible and four infrared features of two clusters each, and their labels."""
    matched(method, [1, -1], [-1, 0], monkeypatch)
    method.memories = {VIS: Memory(unit(2, 4, 1), 0.2), IR: Memory(unit(2, 4, 2), 0.2)}
    infrared = torch.tensor([False, False, True, True, False, True, False, True])
    labels = torch.tensor([0, 1, 0, 1, 0, 1, 1, 0])
    batch = joined(torch.zeros(8, 3, 2, 2), Facts(infrared, labels, labels, torch.arange(8)))
    features = unit(8, 4, 3)
    return batch, Features(features, features)


def towards(memory, feature, row):
    logits = F.normalize(feature, dim=0) @ memory.rows_CD.T / 0.05
    return (logits.logsumexp(0) - logits[row]).item()


def test_each_term_is_that_of_a_loop(method, monkeypatch):
    batch, outputs = step(method, monkeypatch)
    terms = {name: value.item() for name, value in method.loss(batch, outputs).items()}
    partner = {VIS: {0: 1}, IR: {1: 0}}
    expected = {}
    for m in (VIS, IR):
        rows = [i for i in range(8) if batch.infrared[i] == (m is IR)]
        own = [towards(method.memories[m], outputs.embedding[i], batch.labels[i]) for i in rows]
        cross = [
            towards(method.memories[m.other], outputs.embedding[i], partner[m][int(label)])
            for i in rows
            if int(label := batch.labels[i]) in partner[m]
        ]
        expected[m.value], expected[f"{m.value} matches"] = sum(own) / 4, sum(cross) / 4
    # Visible 0 and infrared 1 are one person, visible 1 and infrared 0 two others.
    who = [
        {(False, 0): 0, (True, 1): 0, (False, 1): 1, (True, 0): 2}[bool(i), int(c)]
        for i, c in zip(batch.infrared, batch.labels, strict=True)
    ]
    cosines = outputs.embedding @ outputs.embedding.T / 0.1
    contrast = 0.0
    for i in range(8):
        others = [j for j in range(8) if j != i]
        total = cosines[i, others].logsumexp(0)
        same = [j for j in others if who[j] == who[i]]
        contrast += sum(total - cosines[i, j] for j in same).item() / len(same) / 8
    expected["contrast"] = contrast
    assert list(terms) == ["visible", "visible matches", "infrared", "infrared matches", "contrast"]
    assert terms == pytest.approx(expected, rel=1e-5)


def test_parts_that_are_turned_off_give_no_term(method, monkeypatch):
    batch, outputs = step(method, monkeypatch)
    method.config = replace(CONFIG, cross_weight=0.0, contrast_weight=0.0)
    assert list(method.loss(batch, outputs)) == ["visible", "infrared"]
    method.config = replace(CONFIG, cross_weight=2.0)
    twice = method.loss(batch, outputs)["visible matches"]
    method.config = CONFIG
    assert twice.item() == pytest.approx(2 * method.loss(batch, outputs)["visible matches"].item())


def test_the_tokens_of_a_transformer_are_kept_different(method, monkeypatch):
    batch, outputs = step(method, monkeypatch)
    before = method.loss(batch, outputs)
    tokens = torch.randn(8, 3, 5, generator=torch.Generator().manual_seed(1))
    method.config = replace(CONFIG, class_tokens=3, diversity_weight=2.0)
    terms = method.loss(batch, outputs._replace(tokens=tokens))
    for m in (VIS, IR):
        alike = diversity(tokens[batch.infrared == (m is IR)])
        assert terms.pop(f"{m.value} diversity").item() == pytest.approx(2 * alike.item())
    assert {name: of.item() for name, of in terms.items()} == {
        name: of.item() for name, of in before.items()
    }


def test_a_transformer_has_as_many_tokens_as_asked_for(patterns):
    config = replace(CONFIG, network="micro", size=(32, 16), class_tokens=2)
    assert Pairs(config, patterns, torch.device("cpu"), seed=0).model.class_tokens == 2
    with pytest.raises(InputError, match="class_tokens=2: the network resnet-micro has one; set "):
        Pairs(replace(CONFIG, class_tokens=2), patterns, torch.device("cpu"), seed=0)


@pytest.mark.parametrize("average", [0.75, 0.0])
def test_the_model_is_the_moving_average_of_the_learner(method, monkeypatch, average):
    """Weights and running statistics: 3/4 of the old average and 1/4 of the learner."""
    method.config = replace(CONFIG, average=average)
    method.plan(0)
    assert all(
        torch.equal(a, b)
        for a, b in zip(method.model.parameters(), method.learner.parameters(), strict=True)
    )
    before = {name: value.clone() for name, value in method.model.state_dict().items()}
    with torch.no_grad():
        for value in method.learner.state_dict().values():
            value.add_(1)
    facts = Facts(torch.tensor([False, True]), *[torch.zeros(2).long()] * 3)
    batch = joined(torch.zeros(2, 3, 2, 2), facts)
    method.after_step(batch, Features(*[torch.ones(2, method.model.embedding_dim)] * 2))
    for name, value in method.model.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, before[name] + (1 - average), atol=1e-5), name


def test_what_trains_and_what_embeds(method):
    """The optimiser has the learner's weights only, and the loop's batches pass through it."""
    trained = {
        id(weight) for group in method.optimizer().param_groups for weight in group["params"]
    }
    assert trained == {id(weight) for weight in method.learner.parameters()}
    assert not any(weight.requires_grad for weight in method.model.parameters())
    method.plan(0)
    assert method.learner.training


def test_a_batch_holds_the_matches_of_its_visible_clusters(patterns):
    """Clusters are the four patterns; infrared ones are numbered from the last pattern."""
    pattern = np.arange(48) // 12
    labels = np.where(patterns.infrared, 3 - pattern, pattern)
    partners = np.array([3, 2, -1, 0])
    batches = batches_by_cluster(
        patterns, labels, {VIS: 2, IR: 3}, instances=2, steps=20, seed=0, epoch=0, partners=partners
    )
    for plain, _, infrared in batches:
        assert len(infrared.rows) == 6
        assert patterns.infrared[infrared.rows].all()
        wanted = [partners[one] for one in plain.labels[::2] if partners[one] >= 0]
        assert infrared.labels[::2].tolist()[: len(wanted)] == wanted
        assert np.array_equal(infrared.labels, labels[infrared.rows])


def test_the_start_is_kept_where_few_clusters_match(method, monkeypatch):
    matched(method, [1, 0, -1], [-1, 0, -1, -1], monkeypatch)  # one mutual, one of one side
    method.config = replace(CONFIG, least_matched=1 / 3)
    assert method._too_few_matches() == ""
    method.config = replace(CONFIG, least_matched=0.7)
    said = method._too_few_matches()
    assert said == (
        "1 of 3 clusters have a mutual match in the other modality, fewer than 70%: matches are "
        "too uncertain to learn from, so the start is kept; set least_matched=0 to train on all "
        "matches all the same"
    )
    monkeypatch.setattr(method, "config", replace(method.config, chance=0.3))
    assert method._too_few_matches() == (
        "1 of 3 clusters have a mutual match in the other modality that chance does not explain, "
        "fewer than 70%; with fewer than 30 hardly any match can be sure: matches are too "
        "uncertain to learn from, so the start is kept; set chance=1 and least_matched=0 to train "
        "on all matches all the same"
    )
    method.config = replace(method.config, chance=1.0)
    monkeypatch.setattr(Pairs, "_match", lambda *arguments: None)
    first = method.plan(0)
    assert not first.trains and first.warnings == [said]
    assert first.steps == CONFIG.iterations  # for an estimate of a training that does
    again = Pairs(CONFIG, method.data, torch.device("cpu"), seed=0)
    again.load_state(method.state())
    for later in (method.plan(1), again.plan(1)):
        assert (later.stage, later.steps, later.trains) == ("start kept", 0, False)


def few(infrared, pixels=None):
    """A training set of 12 visible and some infrared images."""
    rng = np.random.default_rng(0)
    total = 12 + infrared
    drawn = rng.integers(0, 256, (total, 16, 8, 3), np.uint8)
    return TrainingSet(
        drawn if pixels is None else np.full_like(drawn, pixels),
        np.arange(total) >= 12,
        np.arange(total) % 2,
    )


@pytest.mark.parametrize("data", [few(3), few(12, pixels=90)], ids=["three images", "all equal"])
def test_what_cannot_be_clustered_is_said(data):
    method = Pairs(CONFIG, data, torch.device("cpu"), seed=0)
    with pytest.raises(InputError, match=r"^the (visible|infrared) images: "):
        method.plan(0)


def test_nobody_is_matched(method, monkeypatch):
    """Then only clusters and their own contrast are learnt from, and nothing is divided by 0."""
    batch, outputs = step(method, monkeypatch)
    matched(method, [-1, -1], [-1, -1], monkeypatch)
    terms = method.loss(batch, outputs)
    assert terms["visible matches"].item() == terms["infrared matches"].item() == 0
    assert all(torch.isfinite(value) for value in terms.values())
    assert len({*method.people[VIS].tolist(), *method.people[IR].tolist()}) == 4
