"""Prototypes split by modality against plain loops over the formula."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.matches import Association
from visir.cluster.split import SplitMemory
from visir.core.types import Facts, Modality
from visir.data.dataset import joined

VIS, IR = Modality.VISIBLE, Modality.INFRARED
LABELS = {VIS: np.array([0, 0, 1, -1, 2, 2]), IR: np.array([1, 0, 1, 0])}
PEOPLE = {VIS: np.array([5, 6, 5]), IR: np.array([7, 5])}  # visible 0, 2 and infrared 1 are one


def unit(rows, seed):
    return F.normalize(torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.fixture
def split():
    features = {VIS: unit(6, 1), IR: unit(4, 2)}
    return SplitMemory(features, LABELS, PEOPLE, 0.2, 0.05)


def batch_of(labels, infrared):
    rows = torch.arange(len(labels))
    facts = Facts(torch.tensor(infrared), torch.tensor(labels), rows, rows)
    return joined(torch.zeros(len(labels), 3, 2, 2), facts)


BATCH = batch_of([0, 1, 0, 2, 1], [False, False, True, False, True])
ROWS = [0, 1, 3, 2, 4]  # of the memory: three visible clusters, then two infrared ones
SAME = {0: [0, 2, 4], 1: [1], 2: [0, 2, 4], 3: [3], 4: [0, 2, 4]}


def test_the_rows_are_the_means_of_each_modality_alone(split):
    vis, ir = unit(6, 1), unit(4, 2)
    means = [vis[[0, 1]], vis[[2]], vis[[4, 5]], ir[[1, 3]], ir[[0, 2]]]
    expected = torch.stack([F.normalize(of.mean(dim=0), dim=0) for of in means])
    assert torch.allclose(split.memory.rows_CD, expected, atol=1e-6)


def test_the_loss_is_the_mean_over_images_of_the_mean_over_their_prototypes(split):
    features = 3 * unit(5, 3)
    losses = []
    for feature, row in zip(features, ROWS, strict=True):
        logits = F.normalize(feature, dim=0) @ split.memory.rows_CD.T / 0.05
        towards = [(logits.logsumexp(0) - logits[one]).item() for one in SAME[row]]
        losses.append(np.mean(towards))
    assert float(split.loss(BATCH, features)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_an_image_changes_the_prototype_of_its_own_modality_only(split):
    before, features = split.memory.rows_CD.clone(), unit(5, 3)
    split.update(batch_of([1], [True]), features[:1])
    after = split.memory.rows_CD
    assert torch.equal(after[:4], before[:4])
    expected = F.normalize(0.2 * before[4] + 0.8 * features[0], dim=0)
    assert torch.allclose(after[4], expected, atol=1e-6)


def test_a_cluster_without_an_image_of_a_modality_is_no_answer_and_no_comparison():
    """SDCL's clusters have one number in both modalities; some have no visible image."""
    labels = {VIS: np.array([0, 0, -1]), IR: np.array([0, 1, 1])}
    people = {VIS: np.arange(2), IR: np.arange(2)}
    split = SplitMemory({VIS: unit(3, 1), IR: unit(3, 2)}, labels, people, 0.2, 0.05)
    features = unit(2, 3)
    found = split.loss(batch_of([1, 0], [True, False]), features)
    rows = split.memory.rows_CD[[0, 2, 3]]  # without row 1, visible images of the second cluster
    logits = features @ rows.T / 0.05
    spread = logits.logsumexp(dim=1)
    expected = (spread[0] - logits[0, 2] + spread[1] - logits[1, :2].mean()) / 2
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


def test_clusters_that_hang_together_by_matches_are_one_person():
    vis_to_ir = np.array([[0, 1], [0, 0], [0, 0.6]], np.float32)
    people = Association(vis_to_ir, np.zeros((2, 3), np.float32)).people()
    assert people[VIS][0] == people[VIS][2] == people[IR][1]
    assert len({int(people[VIS][0]), int(people[VIS][1]), int(people[IR][0])}) == 3


def test_without_clusters_of_one_modality_everybody_is_alone():
    nobody = Association(np.zeros((2, 0), np.float32), np.zeros((0, 2), np.float32))
    people = nobody.people()
    assert len(set(people[VIS].tolist())) == 2
    assert people[IR].tolist() == []


def test_the_heaviest_match_counts_however_light_it_is():
    people = Association(np.array([[0.02, 0.3]], np.float32), np.zeros((2, 1), np.float32)).people()
    assert people[VIS][0] == people[IR][1] != people[IR][0]
