"""The estimated share of people without a counterpart holds the true one, also at its ends."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.matches import Side, mutual
from visir.cluster.unpaired import unpaired
from visir.core.types import Modality

PEOPLE, IMAGES, WIDTH = 120, 6, 32


def sides(alone: float, noise: float = 0.12, seed: int = 0) -> tuple[Side, Side]:
    """Two clouds with a gap; a share of the people of each is in this modality only."""
    rng = np.random.default_rng(seed)
    common = round((1 - alone) * PEOPLE)
    found = []
    for number in range(2):
        own = np.random.default_rng([seed, 7 + number])
        people = np.concatenate(
            [np.random.default_rng(seed).normal(size=(common, WIDTH)),
             own.normal(size=(PEOPLE - common, WIDTH))]
        )  # fmt: skip
        images = np.repeat(people / np.linalg.norm(people, axis=1, keepdims=True), IMAGES, axis=0)
        images = images + noise * rng.normal(size=images.shape)
        features = F.normalize(torch.from_numpy(images).float(), dim=1)
        found.append(Side(features, np.repeat(np.arange(PEOPLE), IMAGES)))
    return found[0], found[1]


@pytest.mark.parametrize("alone", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_true_share_lies_between(alone):
    for between in unpaired(*sides(alone)).values():
        assert between.least <= alone + 0.03
        assert between.most >= alone - 0.1
        assert between.least <= between.most <= 1


def test_sure_matches_leave_little_room():
    for between in unpaired(*sides(0.0)).values():
        assert between.least <= 0.02 and between.most <= 0.3
    for between in unpaired(*sides(0.5)).values():
        assert between.most - between.least <= 0.45


def test_unsure_matches_say_that_nothing_is_known():
    """Where images hardly show who they are, everybody may be unpaired."""
    for between in unpaired(*sides(0.0, noise=1.5)).values():
        assert between.most >= 0.6


def test_a_second_cluster_of_a_matched_person_is_not_of_one_modality():
    vis, ir = sides(0.0)
    halves = vis.labels + PEOPLE * (np.arange(len(vis.labels)) % IMAGES < IMAGES // 2)
    split = Side(vis.features, halves)
    assert not mutual(split, ir, 5, 0.1).vis_to_ir.any(axis=1).all()
    assert unpaired(split, ir)[Modality.VISIBLE].least <= 0.01


def test_larger_clusters_count_more():
    vis, ir = sides(0.5)
    labels = vis.labels.copy()
    labels[(labels >= PEOPLE // 2) & (np.arange(len(labels)) % IMAGES > 0)] = -1
    fewer = unpaired(Side(vis.features, labels), ir)[Modality.VISIBLE]
    assert fewer.most < unpaired(vis, ir)[Modality.VISIBLE].most


def test_too_few_clusters_to_know():
    vis, ir = sides(0.0)
    two = Side(vis.features, np.where(vis.labels < 2, vis.labels, -1))
    both = unpaired(two, Side(ir.features, np.where(ir.labels < 2, ir.labels, -1)))
    assert [between.most for between in both.values()] == [1.0, 1.0]
