"""Associations against slow loops; what they answer where nobody has a partner."""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from visir.cluster.associate import (
    ASSOCIATIONS,
    Options,
    associate,
    by_majority,
    collaborative_ranking,
    count_priority,
    greedy,
    mates_of,
    ranking,
    transport,
)
from visir.cluster.joint import balanced_neighbours, joint
from visir.cluster.matches import Side, mutual, similarity
from visir.core.types import InputError

ALL = {
    name: lambda vis, ir, name=name: associate(name, vis, ir, Options(vote_threshold=0.0))
    for name in ASSOCIATIONS
}


def draw(seed, vis_clusters=9, ir_clusters=6, dim=4):
    rng = np.random.default_rng(seed)

    def side(count, clusters):
        features = torch.from_numpy(rng.normal(size=(count, dim))).float()
        labels = np.concatenate([np.arange(clusters), rng.integers(-1, clusters, count - clusters)])
        return Side(F.normalize(features, dim=1), labels)

    return side(60, vis_clusters), side(50, ir_clusters)


def planted(people=5, images=8, only_vis=2, only_ir=1, noise=0.05):
    """Images of people on both sides, and of others that one side alone saw."""
    rng = np.random.default_rng(0)
    centres = np.eye(people + only_vis + only_ir)

    def side(of):
        features = np.repeat(centres[of], images, axis=0)
        features = features + noise * rng.normal(size=features.shape)
        unit = F.normalize(torch.from_numpy(features).float(), dim=1)
        return Side(unit, np.repeat(np.arange(len(of)), images))

    seen = np.arange(people + only_vis)
    return side(seen), side(np.r_[np.arange(people), people + only_vis + np.arange(only_ir)])


def slow_count(vis, ir, threshold):
    votes = Counter()
    for i, a in enumerate(vis.labels):
        for j, b in enumerate(ir.labels):
            if a >= 0 and b >= 0 and float(vis.features[i] @ ir.features[j]) >= threshold:
                votes[a, b] += 1
    partner = [-1] * (max(vis.labels) + 1)
    for (a, b), _ in sorted(votes.items(), key=lambda item: (-item[1], item[0])):
        if partner[a] < 0 and b not in partner:
            partner[a] = b
    return partner


def test_count_priority_equals_the_slow_loop(monkeypatch):
    monkeypatch.setattr("visir.cluster.associate._BLOCK", 13)
    differs = 0
    for seed in range(10):
        vis, ir = draw(seed)
        found = count_priority(vis, ir, 0.5).infrared_partners().tolist()
        assert found == slow_count(vis, ir, 0.5)
        differs += found != slow_count(vis, ir, 0.0)
    assert differs


def slow_greedy(sim, sharers):
    """Repeated argmax over the whole table, rows being the more numerous side."""
    left = sim.copy()
    forward, taken = {}, Counter()
    while len(forward) < len(sim) and np.isfinite(left).any():
        a, b = np.unravel_index(left.argmax(), left.shape)
        forward[a] = b
        taken[b] += 1
        left[a] = -np.inf
        if taken[b] == sharers:
            left[:, b] = -np.inf
    for a in range(len(sim)):
        forward.setdefault(a, sim[a].argmax())
    return [int(forward[a]) for a in range(len(sim))]


@pytest.mark.parametrize("sharers", [1, 2])
def test_greedy_equals_repeated_argmax_whichever_side_has_more(sharers):
    for seed in range(6):
        vis, ir = draw(seed)
        expected = slow_greedy(similarity(vis, ir), sharers)
        found = greedy(vis, ir, sharers)
        assert found.infrared_partners().tolist() == expected
        mirrored = greedy(ir, vis, sharers)
        assert mirrored.ir_to_vis.argmax(axis=1).tolist() == expected
        assert (found.ir_to_vis.sum(axis=1) == 1).all()
        assert expected != similarity(vis, ir).argmax(axis=1).tolist() or sharers > 1


def test_greedy_gives_partners_nobody_took_their_best_visible_cluster():
    vis = Side(torch.eye(4)[[0, 0, 1]], np.arange(3))
    ir = Side(F.normalize(torch.eye(4)[[0, 0, 2]] + 0.1, dim=1), np.arange(3))
    found = greedy(vis, ir, sharers=3)
    assert found.vis_to_ir.sum(axis=1).tolist() == [1, 1, 1]
    assert found.ir_to_vis.sum(axis=1).tolist() == [1, 1, 1]


def test_mutual_pairs_are_each_others_best():
    for seed in range(5):
        vis, ir = draw(seed)
        sim = similarity(vis, ir)
        for a, b in enumerate(mutual(vis, ir).infrared_partners()):
            best = sim[a].argmax()
            assert b == (best if sim[:, best].argmax() == a else -1)


def sides_with(sim):
    """One image a cluster, such that the cosines between the clusters are these."""
    vis = np.eye(len(sim))
    rest = np.sqrt(1 - (sim**2).sum(axis=0))
    vis = np.pad(vis, ((0, 0), (0, sim.shape[1])))
    ir = np.concatenate([sim.T, np.diag(rest)], axis=1)
    return (Side(torch.from_numpy(of).float(), np.arange(len(of))) for of in (vis, ir))


def test_scaled_matches_do_not_go_to_the_cluster_that_is_similar_to_all():
    # The infrared cluster 0 is nearest to both visible ones, although 1 is the second one's.
    sim = np.array([[0.6, 0.1], [0.55, 0.5]])
    vis, ir = sides_with(sim)
    assert mutual(vis, ir).infrared_partners().tolist() == [0, -1]
    assert mutual(vis, ir, scaled=2).infrared_partners().tolist() == [0, 1]


def test_one_sided_matches_are_added_only_if_stronger_than_that_share_of_mutual_ones():
    # Mutual: (0, 0) with .8 and (1, 1) with .4; the infrared clusters 2 and 3 prefer 0 and 1.
    sim = np.array([[0.8, 0.0, 0.5, 0.0], [0.0, 0.4, 0.0, 0.3]])
    vis, ir = sides_with(sim)
    none = mutual(vis, ir)
    assert none.ir_to_vis.sum(axis=1).tolist() == [1, 1, 0, 0]
    some = mutual(vis, ir, one_sided=0.0)  # above the weakest mutual match, .4
    assert some.ir_to_vis.argmax(axis=1)[:3].tolist() == [0, 1, 0]
    assert some.ir_to_vis.sum(axis=1).tolist() == [1, 1, 1, 0]
    assert some.infrared_partners().tolist() == [0, 1]
    strict = mutual(vis, ir, one_sided=0.5)  # above .6
    assert np.array_equal(strict.ir_to_vis, none.ir_to_vis)


def test_balanced_transport_gives_everything_and_unbalanced_less():
    vis, ir = draw(1)
    sim = similarity(vis, ir).astype(float)
    plan = np.exp(sim / 0.05)
    for _ in range(2000):
        plan /= plan.sum(axis=1, keepdims=True) * len(sim)
        plan /= plan.sum(axis=0) * sim.shape[1]
    balanced = transport(vis, ir, 0.05, rounds=2000)
    shares = plan / plan.sum(axis=1, keepdims=True)
    assert np.allclose(balanced.vis_to_ir, shares, atol=1e-3)
    assert np.allclose(balanced.ir_to_vis.sum(axis=1), 1, atol=1e-3)
    loose = transport(vis, ir, 0.05, slack=0.05)
    assert not np.allclose(loose.vis_to_ir, balanced.vis_to_ir, atol=1e-2)
    assert loose.vis_to_ir.sum(axis=1).min() < 0.9


@pytest.mark.parametrize("name", ["count", "mutual", "unbalanced"])
def test_people_seen_in_both_are_found_and_others_have_no_partner(name):
    vis, ir = planted()
    found = {"count": lambda: count_priority(vis, ir, 0.5), **{}}.get(
        name, lambda: ALL[name](vis, ir)
    )()
    assert found.infrared_partners().tolist() == [0, 1, 2, 3, 4, -1, -1]


@pytest.mark.parametrize("name", ["greedy", "balanced"])
def test_forced_associations_give_everybody_a_partner(name):
    vis, ir = planted()
    partners = ALL[name](vis, ir).infrared_partners()
    assert partners[:5].tolist() == [0, 1, 2, 3, 4]
    assert (partners >= 0).all()


@pytest.mark.parametrize("name", ALL)
def test_shares_are_shares_and_answers_repeat(name):
    vis, ir = draw(2)
    first, again = ALL[name](vis, ir), ALL[name](vis, ir)
    for shares, other, shape in zip(first, again, [(9, 6), (6, 9)], strict=True):
        assert shares.shape == shape
        assert shares.dtype == np.float32
        assert (shares >= 0).all()
        assert (shares.sum(axis=1) <= 1 + 1e-5).all()
        assert np.array_equal(shares, other)


@pytest.mark.parametrize("name", ALL)
def test_a_modality_without_clusters_has_no_partners(name):
    vis, _ = draw(3)
    nobody = Side(vis.features[:4], np.full(4, -1))
    assert ALL[name](vis, nobody).infrared_partners().tolist() == [-1] * 9
    assert ALL[name](nobody, vis).infrared_partners().tolist() == []


def slow_ranking(vis_views, ir_views, labels, k, smoothing):
    def rank(query, gallery):
        return np.argsort(-(query @ gallery.T).numpy(), axis=1, kind="stable")

    own = []
    deep, shallow = (rank(v, i)[:, :k] for v, i in zip(vis_views, ir_views, strict=True))
    for d, s in zip(deep, shallow, strict=True):
        support = [sum(labels[t] == labels[p] for t in s) for p in d]
        own.append(labels[d[int(np.argmax(support))]])
    both = F.normalize(torch.cat(vis_views, dim=1), dim=1)
    final = []
    for i, row in enumerate(rank(both, both)):
        around = [own[j] for j in [i, *[j for j in row if j != i]][:smoothing]]
        counts = Counter(around)
        final.append(min(label for label in counts if counts[label] == max(counts.values())))
    return final


def test_collaborative_ranking_equals_the_slow_loop():
    differs = 0
    for seed in range(4):
        (deep_v, deep_i), (shallow_v, shallow_i) = draw(seed), draw(seed + 100)
        views = [deep_v.features, shallow_v.features], [deep_i.features, shallow_i.features]
        found = collaborative_ranking(*views, deep_i.labels, 7, 5).tolist()
        assert found == slow_ranking(*views, deep_i.labels, 7, 5)
        differs += found != slow_ranking(*views, deep_i.labels, 7, 1)
        differs += found != slow_ranking(views[0][::-1], views[1][::-1], deep_i.labels, 7, 5)
    assert differs > 4


def test_majority_of_image_labels_counts_the_unlabelled_against():
    own, across = np.array([0, 0, 0, 1, 1, 1, -1]), np.array([2, 2, -1, 0, -1, -1, 1])
    found = by_majority(own, across, 3)
    assert np.allclose(found.vis_to_ir, [[0, 0, 2 / 3], [1 / 3, 0, 0]])
    assert found.infrared_partners().tolist() == [2, -1]
    assert found.ir_to_vis.argmax(axis=1)[[0, 2]].tolist() == [1, 0]


def test_each_name_is_its_function_with_its_options():
    vis, ir = draw(4)
    options = Options(0.1, sharers=3, ranked=4, smoothing=2, scaled=3, one_sided=0.4,
                      chance=0.6, joint_eps=0.7, min_samples=3, k1=8, k2=2,
                      transport_temperature=0.2, transport_slack=0.3)  # fmt: skip
    expected = {
        "count": count_priority(vis, ir, 0.1),
        "greedy": greedy(vis, ir, 3),
        "ranking": ranking(vis, ir, 4, 2),
        "mutual": mutual(vis, ir),
        "mutual-scaled": mutual(vis, ir, 3, 0.4, 0.6),
        "joint": joint(vis, ir, 0.7, 3, 8, 2),
        "balanced": transport(vis, ir, 0.2),
        "unbalanced": transport(vis, ir, 0.2, 0.3),
    }
    assert set(expected) == set(ASSOCIATIONS)
    for name, wanted in expected.items():
        found = associate(name, vis, ir, options)
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True)), name


def test_joint_matches_are_common_clusters():
    vis, ir = planted()
    found = joint(vis, ir, 0.5, 4, 10, 4)
    assert found.infrared_partners().tolist() == [0, 1, 2, 3, 4, -1, -1]


def test_neighbours_are_of_both_modalities_in_turn():
    vis = torch.eye(4)[:3]
    ir = F.normalize(torch.tensor([[0.9, 0.1, 0, 0.2], [0, 0.8, 0.3, 0]]), dim=1)
    assert balanced_neighbours(vis, ir, 4)[[0, 4]].tolist() == [[0, 3, 1, 4], [4, 1, 3, 2]]
    assert balanced_neighbours(vis, ir, 30).shape == (5, 4)


def test_clusters_without_a_partner_have_no_mate():
    shares = np.array([[0, 0], [1, 0], [1, 0], [0, 0], [0, 1]], np.float32)
    mates = mates_of(shares, np.array([2, 4]), from_first=True)
    assert mates.tolist() == [-1, -1, 1, -1, -1]


def test_an_unknown_association_runs_no_other():
    with pytest.raises(InputError, match="association 'mutula' is unknown; did you mean 'mutual'"):
        associate("mutula", None, None, Options())
