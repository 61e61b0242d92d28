"""Prototype memories against the per-sample loop."""

import numpy as np
import torch
from torch.nn import functional as F

from visir.cluster.memory import ClusterMemory, prototypes


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
        memory = ClusterMemory(start, momentum)
        memory.update(features, labels)
        assert torch.allclose(
            memory.prototypes_CD, one_by_one(start, features, labels, momentum), atol=1e-6
        )
        assert not torch.allclose(
            memory.prototypes_CD,
            one_by_one(start, features.flip(0), labels.flip(0), momentum),
            atol=1e-3,
        )


def test_update_leaves_unseen_clusters_and_the_start_alone():
    start, features, labels = draw()
    kept = start.clone()
    memory = ClusterMemory(start, 0.1)
    memory.update(features, labels)
    assert torch.equal(memory.prototypes_CD[-1], kept[-1])
    assert torch.equal(start, kept)


def test_loss_is_cross_entropy_over_cosines():
    start, features, labels = draw()
    unit = features / features.norm(dim=1, keepdim=True)
    logits = unit @ start.T / 0.05
    expected = -(logits.gather(1, labels[:, None])[:, 0] - logits.exp().sum(1).log()).mean()
    assert torch.allclose(ClusterMemory(start, 0.1).loss(features, labels), expected, atol=1e-5)


def test_loss_sends_no_gradient_into_the_memory():
    start, features, labels = draw()
    features.requires_grad_()
    memory = ClusterMemory(start, 0.1)
    memory.loss(features, labels).backward()
    assert features.grad is not None
    assert not memory.prototypes_CD.requires_grad


def test_prototypes_are_normalised_means_without_outliers():
    _, features, _ = draw()
    labels = np.arange(40) % 3 - 1
    found = prototypes(features, labels)
    for cluster in (0, 1):
        mean = features[torch.from_numpy(labels == cluster)].mean(dim=0)
        assert torch.allclose(found[cluster], mean / mean.norm(), atol=1e-6)
