"""Matches by chance are recognised by the margin of their similarity over the next ones."""

import numpy as np
import pytest
import torch

from tests.cluster.test_unpaired import PEOPLE, sides
from visir.cluster.margins import IR, VIS, p_values, q_values, share_by_chance
from visir.cluster.matches import mutual
from visir.cluster.memory import prototypes


def matches(alone, chance, noise=0.12, seed=0):
    """Number of mutual matches, and how many of them are right."""
    found = mutual(*sides(alone, noise, seed), scaled=5, chance=chance).infrared_partners()
    rows = np.flatnonzero(found >= 0)
    right = (found[rows] == rows) & (rows < round((1 - alone) * PEOPLE))
    return len(rows), int(right.sum())


def test_everybody_paired_loses_no_match():
    assert matches(0.0, 0.3) == matches(0.0, 1.0) == (PEOPLE, PEOPLE)


@pytest.mark.parametrize("alone", [0.25, 0.5, 0.75])
def test_wrong_matches_of_unpaired_people_are_left_out(alone):
    paired = round((1 - alone) * PEOPLE)
    (all_of_them, right), (sure, still_right) = matches(alone, 1.0), matches(alone, 0.3)
    assert all_of_them > right >= 0.95 * paired
    assert still_right >= 0.9 * paired
    assert sure - still_right < all_of_them - right
    assert (sure - still_right) / sure <= 0.3


def test_nobody_paired_gives_no_match():
    assert matches(1.0, 1.0)[0] > PEOPLE / 4
    assert all(matches(1.0, 0.3, seed=seed)[0] <= 2 for seed in range(3))


def test_q_values_are_as_computed_by_hand():
    values = np.array([0.01, 0.8, 0.02, 0.5], np.float32)
    assert share_by_chance(values) == pytest.approx(2 / 4 / 0.7)
    share = 2 / 4 / 0.7
    by_hand = share * 4 * np.array([0.01 / 1, 0.8 / 4, 0.02 / 2, 0.5 / 3])
    by_hand[0] = min(by_hand[0], by_hand[2])  # a q-value is that of the best longer list
    assert q_values(values) == pytest.approx(by_hand)


def test_margins_by_chance_have_even_p_values():
    vis, ir = sides(1.0)
    values = p_values(prototypes(*vis), prototypes(*ir))
    for modality in (VIS, IR):
        assert 0.4 < values[modality].mean() < 0.65
        assert 0.2 < (values[modality] > 0.7).mean() < 0.45


def test_similar_clusters_of_one_modality_count_once():
    """A person in two infrared clusters is still sure: the second one is not a rival."""
    vis, ir = (prototypes(*side) for side in sides(0.0))
    twice = torch.cat([ir, ir])
    assert p_values(vis, twice)[VIS] == pytest.approx(p_values(vis, ir)[VIS])


def test_two_clusters_are_too_few_to_tell():
    two = torch.eye(2)
    assert all((of == 1).all() for of in p_values(two, two).values())
    assert q_values(np.ones(2, np.float32)).tolist() == [1.0, 1.0]
    assert q_values(np.ones(0, np.float32)).tolist() == []
