"""Memories against the per-sample loop."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.memory import Memory, prototypes


def one_by_one(memory, features, labels, momentum):
    memory = memory.clone()
    for feature, label in zip(F.normalize(features, dim=1), labels, strict=True):
        memory[label] = momentum * memory[label] + (1 - momentum) * feature
        memory[label] = memory[label] / memory[label].norm()
    return memory


def draw(seed=0, clusters=5, rows=40, dim=8):
    rng = torch.Generator().manual_seed(seed)
    start = F.normalize(torch.randn(clusters, dim, generator=rng), dim=1)
    features = torch.randn(rows, dim, generator=rng)
    return start, features, torch.randint(clusters - 1, (rows,), generator=rng)


def test_update_equals_the_loop():
    start, features, labels = draw()
    for momentum in (0.1, 0.8):
        memory = Memory(start, momentum)
        memory.update(features, labels)
        assert torch.allclose(
            memory.rows_CD, one_by_one(start, features, labels, momentum), atol=1e-6
        )
        assert not torch.allclose(
            memory.rows_CD,
            one_by_one(start, features.flip(0), labels.flip(0), momentum),
            atol=1e-3,
        )


def once_a_label(memory, features, labels, momentum, choose):
    memory = memory.clone()
    unit = F.normalize(features, dim=1)
    for label in labels.unique():
        value = choose(unit[labels == label], memory[label])
        memory[label] = momentum * memory[label] + (1 - momentum) * value
        memory[label] = memory[label] / memory[label].norm()
    return memory


RULES = {
    "mean": lambda rows, old: rows.mean(dim=0),
    "hard": lambda rows, old: rows[(rows @ old).argmin()],
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_equals_the_loop_over_labels(rule):
    start, features, labels = draw()
    memory = Memory(start, 0.2, rule=rule)
    memory.update(features, labels)
    assert torch.allclose(
        memory.rows_CD, once_a_label(start, features, labels, 0.2, RULES[rule]), atol=1e-6
    )
    easiest = once_a_label(
        start, features, labels, 0.2, lambda rows, old: rows[(rows @ old).argmax()]
    )
    assert not torch.allclose(memory.rows_CD, easiest, atol=1e-3)


@pytest.mark.parametrize("rule", ["momentum", "mean", "hard"])
def test_an_empty_batch_changes_nothing(rule):
    start, _, _ = draw()
    memory = Memory(start, 0.2, rule=rule)
    memory.update(torch.empty(0, 8), torch.empty(0, dtype=torch.int64))
    assert torch.equal(memory.rows_CD, start)


def test_update_leaves_unseen_clusters_and_the_start_alone():
    start, features, labels = draw()
    kept = start.clone()
    memory = Memory(start, 0.1)
    memory.update(features, labels)
    assert torch.equal(memory.rows_CD[-1], kept[-1])
    assert torch.equal(start, kept)


def test_loss_is_cross_entropy_over_cosines():
    start, features, labels = draw()
    unit = features / features.norm(dim=1, keepdim=True)
    logits = unit @ start.T / 0.05
    expected = -(logits.gather(1, labels[:, None])[:, 0] - logits.exp().sum(1).log()).mean()
    assert torch.allclose(Memory(start, 0.1).loss(features, labels), expected, atol=1e-5)


def test_loss_sends_no_gradient_into_the_memory():
    start, features, labels = draw()
    features.requires_grad_()
    memory = Memory(start, 0.1)
    memory.loss(features, labels).backward()
    assert features.grad is not None
    assert not memory.rows_CD.requires_grad


def test_prototypes_are_normalised_means_without_outliers():
    _, features, _ = draw()
    labels = np.arange(40) % 3 - 1
    found = prototypes(features, labels)
    for cluster in (0, 1):
        mean = features[torch.from_numpy(labels == cluster)].mean(dim=0)
        assert torch.allclose(found[cluster], mean / mean.norm(), atol=1e-6)
