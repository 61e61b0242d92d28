"""Scoring against a slow loop that sorts, as public evaluation code does; ranked lists; chance."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visir.core.types import Exclusion, InputError
from visir.evaluation.ranking import chance, judge, rank, score, summarise

ROOM = Exclusion(cam_pairs=frozenset({(3, 2)}))
OWN_CAMERA = Exclusion(cam_pairs=frozenset({(2, 2), (3, 3)}), same_identity_only=True)
NOTHING = Exclusion()


def slow_score(
    sim, q_pids, g_pids, q_cams, g_cams, exclusion, unique, max_rank=20,
    ties_by="first", dedup=True, exclude=True,
):  # fmt: skip
    """One query at a time: stable sort, remove, keep each identity once, cumulate.

    The last three arguments break it, to show that the comparison notices.
    """
    cmcs, precisions, penalties = [], [], []
    for q in range(len(q_pids)):
        if ties_by == "first":
            order = sorted(range(len(g_pids)), key=lambda g: (-sim[q][g], g))
        else:
            order = sorted(range(len(g_pids)), key=lambda g: (-sim[q][g], -g))
        kept = []
        for g in order:
            paired = (q_cams[q], g_cams[g]) in exclusion.cam_pairs
            same = g_pids[g] == q_pids[q]
            if exclude and paired and (same or not exclusion.same_identity_only):
                continue
            kept.append(g)
        matches = [int(g_pids[g] == q_pids[q]) for g in kept]
        if sum(matches) == 0:
            continue
        listed = kept
        if unique and dedup:
            listed, met = [], set()
            for g in kept:
                if g_pids[g] not in met:
                    listed.append(g)
                    met.add(g_pids[g])
        hits = np.minimum(np.cumsum([int(g_pids[g] == q_pids[q]) for g in listed]), 1)
        cmcs.append(np.concatenate([hits, np.repeat(hits[-1], max_rank)])[:max_rank])
        found = np.cumsum(matches)
        at = [place for place, match in enumerate(matches) if match]
        precisions.append(sum(found[place] / (place + 1) for place in at) / sum(matches))
        penalties.append(sum(matches) / (at[-1] + 1))
    if not cmcs:
        return np.zeros(max_rank), 0.0, 0.0, 0
    return np.mean(cmcs, axis=0), np.mean(precisions), np.mean(penalties), len(cmcs)


def random_case(rng, queries=12, images=40, identities=6, levels=4):
    """Similarities of a few levels only, so that most images are tied."""
    return (
        (rng.integers(0, levels, (queries, images)) / 8).astype(np.float32),
        rng.integers(0, identities + 1, queries),
        rng.integers(0, identities, images),
        rng.choice([2, 3, 6], queries),
        rng.choice([1, 2, 3], images),
    )


def agree(scorer, case, exclusion, unique, max_rank=20):
    cmc, mean_precision, mean_penalty, valid = scorer(*case, exclusion, unique, max_rank)[:4]
    expected = slow_score(*case, exclusion, unique, max_rank)
    np.testing.assert_allclose(cmc, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_precision, expected[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_penalty, expected[2], rtol=0, atol=1e-12)
    assert valid == expected[3]


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(1, 60),
    identities=st.integers(1, 9),
    levels=st.sampled_from([1, 2, 5, 1000]),
    exclusion=st.sampled_from([NOTHING, ROOM, OWN_CAMERA]),
    unique=st.booleans(),
    max_rank=st.integers(1, 25),
)
@settings(max_examples=300, deadline=None)
def test_agrees_with_the_sorting_loop(
    seed, images, identities, levels, exclusion, unique, max_rank
):
    case = random_case(np.random.default_rng(seed), 8, images, identities, levels)
    if slow_score(*case, exclusion, unique)[3] == 0:
        with pytest.raises(InputError, match="no identity is shared"):
            score(*case, exclusion, unique, max_rank)
        return
    agree(score, case, exclusion, unique, max_rank)


@pytest.mark.parametrize(
    ("broken", "exclusion"),
    [
        (partial(slow_score, ties_by="last"), NOTHING),
        (partial(slow_score, dedup=False), NOTHING),
        (partial(slow_score, exclude=False), ROOM),
        (partial(slow_score, exclude=False), OWN_CAMERA),
        (lambda *a: slow_score(*a[:5], Exclusion(OWN_CAMERA.cam_pairs), *a[6:]), OWN_CAMERA),
    ],
    ids=["ties by last", "no de-duplication", "room kept", "own camera kept", "anybody dropped"],
)
def test_the_comparison_rejects_broken_variants(broken, exclusion):
    case = random_case(np.random.default_rng(0))
    agree(score, case, exclusion, unique=True)
    with pytest.raises(AssertionError):
        agree(broken, case, exclusion, unique=True)


@pytest.mark.slow
def test_many_queries_in_threads_agree_too():
    case = random_case(np.random.default_rng(1), queries=700, images=400, identities=30)
    agree(score, case, ROOM, unique=True)


def test_by_hand():
    """Matches at ranks 1, 3 and 4 of 5; another query finds nothing and does not count."""
    sim = np.array([[0.9, 0.8, 0.7, 0.6, 0.5], [0.1, 0.2, 0.3, 0.4, 0.5]], np.float32)
    got = score(sim, [7, 9], [7, 5, 7, 7, 5], [3, 3], [1, 1, 1, 1, 1], NOTHING, False, 6)
    assert got.valid == 1
    assert got.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3, abs=1e-15)
    assert got.mINP == pytest.approx(3 / 4, abs=1e-15)
    assert got.cmc.tolist() == [1, 1, 1, 1, 1, 1]


# findings/cut-list.sh
@pytest.mark.parametrize("max_rank", [10, 20])
def test_map_is_that_of_the_whole_list(max_rank):
    """One of a person's ten images is first, the others at ranks 11 to 19 of 20."""
    ranks = np.array([1, *range(11, 20)])
    pids = np.isin(np.arange(1, 21), ranks)
    sim = np.linspace(1, 0, 20, dtype=np.float32)[None]
    got = score(sim, [1], pids.astype(int), [3], [1] * 20, NOTHING, False, max_rank)
    assert got.mAP == pytest.approx(np.mean(np.arange(1, 11) / ranks), abs=1e-15)


def test_a_rank_can_be_an_identity():
    """Two images of one other identity come first: rank 2 among identities, 3 among images."""
    sim = np.array([[0.9, 0.8, 0.7]], np.float32)
    case = (sim, [1], [4, 4, 1], [3], [1, 1, 1])
    assert score(*case, NOTHING, True, 4).cmc.tolist() == [0, 1, 1, 1]
    assert score(*case, NOTHING, False, 4).cmc.tolist() == [0, 0, 1, 1]


def test_the_curve_stays_level_beyond_a_small_gallery():
    sim = np.array([[0.1, 0.9], [0.9, 0.1]], np.float32)
    got = score(sim, [1, 1], [1, 2], [3, 3], [1, 1], NOTHING, True, 20)
    assert got.cmc.tolist() == [0.5] + [1.0] * 19


@pytest.mark.parametrize("unique", [False, True])
def test_columns_pick_a_gallery(unique):
    """A selection, in any order, scores as the copied matrix does: ties follow the selection."""
    rng = np.random.default_rng(2)
    sim, q_pids, g_pids, q_cams, g_cams = random_case(rng, images=80)
    columns = rng.permutation(80)[:25]
    judged = judge(sim, q_pids, g_pids, q_cams, g_cams, ROOM, unique, columns)
    copied = (sim[:, columns], q_pids, g_pids[columns], q_cams, g_cams[columns])
    agree(lambda *_: summarise(judged), copied, ROOM, unique)


# findings/nan-rank.sh
@pytest.mark.parametrize("place", [(0, 0), (3, 7), (11, 39)])
def test_nan_is_refused(place):
    case = random_case(np.random.default_rng(3))
    case[0][place] = np.nan
    with pytest.raises(InputError, match="NaN"):
        score(*case, ROOM, True)


def test_infinite_similarities_are_ordered():
    sim = np.array([[np.inf, -np.inf, 0.0], [-np.inf, np.inf, np.inf]], np.float32)
    agree(score, (sim, [1, 1], [1, 1, 2], [3, 3], [1, 1, 1]), NOTHING, False)


def test_sizes_that_disagree_are_refused():
    sim, q_pids, g_pids, q_cams, g_cams = random_case(np.random.default_rng(4))
    with pytest.raises(InputError, match="does not fit 12 queries and 39"):
        score(sim, q_pids, g_pids[1:], q_cams, g_cams[1:], ROOM, True)
    with pytest.raises(InputError, match="as many cameras"):
        score(sim, q_pids, g_pids, q_cams[1:], g_cams, ROOM, True)


@pytest.mark.parametrize(("pids", "cams"), [([8], [1]), ([1], [2])])
def test_no_match_at_all_is_refused(pids, cams):
    """No identity is shared, or the one shared image is in the room that the query may not see."""
    with pytest.raises(InputError, match="no identity is shared by query and gallery"):
        score(np.ones((1, 1), np.float32), [1], pids, [3], cams, ROOM, True)


@pytest.mark.parametrize(("matches", "compared"), [(1, 1), (1, 7), (3, 3), (3, 11), (8, 40)])
def test_chance_is_the_mean_over_random_orders(matches, compared):
    rng = np.random.default_rng(5)
    trials = 20_000
    places = rng.random((trials, compared)).argsort(1)[:, :matches]
    places.sort(axis=1)
    precisions = (np.arange(1, matches + 1) / (places + 1)).mean(axis=1)
    expected = chance(np.array([matches]), np.array([compared]))[0]
    error = precisions.std() / np.sqrt(trials)
    assert abs(precisions.mean() - expected) <= 4 * error + 1e-12


def test_chance_counts_only_what_is_compared():
    """Of 4 images the room rule leaves 3, one of them a match."""
    sim = np.zeros((1, 4), np.float32)
    got = score(sim, [1], [1, 1, 2, 3], [3], [1, 2, 1, 1], ROOM, True)
    assert got.chance_mAP == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def unit(rng, rows, width=16):
    """Rows with four entries of +-1/2, whose dot products are exact and often tied."""
    features = np.zeros((rows, width), np.float32)
    for row in features:
        row[rng.choice(width, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return features


# findings/tied-precision.sh
@pytest.mark.parametrize("k", [1, 5, 50, 80])
def test_rank_lists_the_best_first_and_ties_by_row(k):
    rng = np.random.default_rng(6)
    query, gallery = unit(rng, 9), unit(rng, 50)
    rows, scores = rank(query, gallery, k)
    sim = query @ gallery.T
    slow = [sorted(range(50), key=lambda g: (-line[g], g))[:k] for line in sim]
    assert rows.tolist() == slow
    np.testing.assert_array_equal(scores, np.take_along_axis(sim, rows, axis=1))


def test_rank_in_blocks_is_the_same(monkeypatch):
    rng = np.random.default_rng(7)
    query, gallery = unit(rng, 9), unit(rng, 50)
    whole = rank(query, gallery, 4)
    monkeypatch.setattr("visir.evaluation.ranking._RANK_BLOCK", 100)
    for ours, theirs in zip(rank(query, gallery, 4), whole, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("query", "gallery", "k", "message"),
    [
        (np.eye(3), np.eye(4), 2, "same model"),
        (np.eye(3), 2 * np.eye(3), 2, "gallery features: a row is not of length 1"),
        (np.full((1, 3), np.nan), np.eye(3), 2, "query features: a row is not of length 1"),
        (np.eye(3)[0], np.eye(3), 2, "one row per image"),
        (np.eye(3), np.eye(3), 0, "cannot list 0 of 3"),
        (np.eye(3), np.empty((0, 3)), 5, "cannot list 5 of 0"),
    ],
)
def test_rank_refuses_what_it_cannot_rank(query, gallery, k, message):
    with pytest.raises(InputError, match=message):
        rank(query, gallery, k)
