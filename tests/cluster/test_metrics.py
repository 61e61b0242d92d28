"""Measures and warnings of a clustering."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from visir.cluster.metrics import adjusted_rand_index, describe, diagnose, joint_labels, majority


def healthy(people=10, images=8):
    return np.repeat(np.arange(people), images)


def test_agreement_is_the_adjusted_rand_index_of_what_was_clustered_twice():
    rng = np.random.default_rng(0)
    for _ in range(5):
        one, other = rng.integers(-1, 5, 80), rng.integers(-1, 4, 80)
        both = (one >= 0) & (other >= 0)
        expected = adjusted_rand_score(one[both], other[both])
        assert adjusted_rand_index(one, other) == pytest.approx(expected)
        outliers_too = adjusted_rand_index(one + 1, other + 1)
        assert outliers_too != pytest.approx(expected)  # they do not count
    renamed = (healthy() + 3) % 10
    assert adjusted_rand_index(healthy(), renamed) == 1
    assert adjusted_rand_index(np.full(4, -1), healthy()[:4]) == 0


def test_numbers_of_a_clustering():
    labels = {"visible": np.array([0, 0, 0, 1, 1, -1]), "infrared": np.array([0, 0, 1, 1])}
    truth = {"visible": np.array([4, 4, 5, 5, 5, 6]), "infrared": np.array([4, 4, 9, 9])}
    found = describe(labels, np.array([0, -1]), truth, before=labels)
    assert found["clusters_visible"] == 2
    assert found["outliers_visible"] == pytest.approx(1 / 6, abs=1e-4)
    assert found["largest_visible"] == 0.5
    assert found["median_size_visible"] == 2.5
    assert found["purity_visible"] == 0.8
    assert found["clusters_per_identity_visible"] == pytest.approx(2 / 3, abs=1e-3)
    assert found["agreement_infrared"] == 1
    assert found["cluster_ratio"] == 1
    assert (found["paired_visible"], found["paired_infrared"]) == (0.5, 0.5)
    assert found["pairs_matched"] == 1
    assert found["pairs_correct"] == 1
    # The second visible cluster shows person 5, whom no infrared camera saw.
    assert found["none_precision"] == 1
    assert found["none_recall"] == 1
    wrong = describe(labels, np.array([-1, 1]), truth)
    assert (wrong["pairs_correct"], wrong["none_precision"], wrong["none_recall"]) == (0, 0, 0)
    assert "agreement_visible" not in wrong


def test_majorities_equal_the_loop_with_ties_to_the_lower_identity():
    rng = np.random.default_rng(0)
    labels, truth = rng.integers(-1, 12, 60), rng.integers(0, 4, 60)
    expected = [np.bincount(truth[labels == label]).argmax() for label in range(12)]
    assert majority(labels, truth).tolist() == expected
    assert majority(labels, 3 - truth).tolist() != [3 - pid for pid in expected]


def test_several_visible_clusters_may_share_a_partner():
    labels = {"visible": healthy(4), "infrared": healthy(2)}
    truth = {"visible": healthy(4) // 2, "infrared": healthy(2)}
    found = describe(labels, np.array([0, 0, 1, 0]), truth)
    assert found["pairs_matched"] == 4
    assert found["pairs_correct"] == 0.75
    assert (found["paired_visible"], found["paired_infrared"]) == (1, 1)
    assert found["cluster_ratio"] == 2
    assert not [name for name in found if name.startswith("none")]


def by_loops(labels, partners, truth):
    """Joint labels, and image pairs across modalities, image by image."""
    joint, number = [], 1000
    for label in labels["visible"]:
        partner = -1 if label < 0 else partners[label]
        joint.append(f"ir {partner}" if partner >= 0 else f"vis {label}")
    joint += [f"ir {label}" for label in labels["infrared"]]
    outlier = np.r_[labels["visible"], labels["infrared"]] < 0
    for row in np.flatnonzero(outlier):
        joint[row], number = f"alone {number}", number + 1
    people = np.r_[truth["visible"], truth["infrared"]]
    count = len(labels["visible"])
    pairs = [(i, j) for i in range(count) for j in range(count, len(joint))]
    found = {pair for pair in pairs if joint[pair[0]] == joint[pair[1]]}
    true = {(i, j) for i, j in pairs if people[i] == people[j]}
    return joint, people, outlier, found, true


def test_joint_labels_are_measured_as_by_a_loop_over_all_image_pairs():
    rng = np.random.default_rng(3)
    for _ in range(5):
        truth = {name: rng.integers(0, 7, 50) for name in ("visible", "infrared")}
        noise = {name: rng.random(50) < 0.3 for name in truth}
        labels = {name: np.where(noise[name], rng.integers(-1, 7, 50), of)
                  for name, of in truth.items()}  # fmt: skip
        partners = np.where(rng.random(7) < 0.7, np.arange(7), rng.integers(-1, 7, 7))
        found = describe(labels, partners, truth)
        joint, people, outlier, pairs, true = by_loops(labels, partners, truth)
        kept = ~outlier
        numbers = np.unique(joint, return_inverse=True)[1]
        assert found["ari"] == pytest.approx(adjusted_rand_score(people, numbers), abs=1e-4)
        clustered = adjusted_rand_score(people[kept], numbers[kept])
        assert found["ari_clustered"] == pytest.approx(clustered, abs=1e-4)
        assert found["ari"] != found["ari_clustered"]
        right = len(pairs & true)
        assert found["image_pairs_precision"] == pytest.approx(right / len(pairs), abs=1e-4)
        assert found["image_pairs_recall"] == pytest.approx(right / len(true), abs=1e-4)
        wrong = describe(labels, np.roll(partners, 1), truth)
        assert wrong["image_pairs_recall"] != found["image_pairs_recall"]


def test_right_matches_make_the_joint_labels_perfect_and_none_halve_them():
    labels = {"visible": healthy(), "infrared": healthy()}
    right = describe(labels, np.arange(10), labels)
    assert (right["ari"], right["image_pairs_precision"], right["image_pairs_recall"]) == (1, 1, 1)
    before = describe(labels, None, labels)
    assert 0 < before["ari"] < 1
    assert "image_pairs_recall" not in before
    unmatched = describe(labels, np.full(10, -1), labels)
    assert unmatched["image_pairs_recall"] == 0 and "image_pairs_precision" not in unmatched
    both = joint_labels(labels, np.array([0, 0, *range(2, 10)]))
    assert (both["visible"][:16] == 0).all()


NONE, FEW = np.empty(0, np.int64), np.full(5, -1)


@pytest.mark.parametrize("nothing", [NONE, FEW])
def test_nothing_clustered_has_numbers_too(nothing):
    labels = {"visible": healthy(), "infrared": nothing}
    truth = {"visible": healthy(), "infrared": np.zeros(len(nothing), np.int64)}
    found = describe(labels, np.full(10, -1), truth, labels)
    assert (found["clusters_infrared"], found["largest_infrared"]) == (0, 0)
    assert (found["purity_infrared"], found["agreement_infrared"]) == (0, 0)
    assert found["outliers_infrared"] == (1 if len(nothing) else 0)
    assert found["pairs_matched"] == found["paired_infrared"] == 0
    assert found["none_recall"] == 1
    said = diagnose(labels, labels)
    assert len(said) == 2
    assert said[0].startswith("infrared: " + ("100%" if len(nothing) else "there are no images"))


def test_without_true_identities_nothing_true_is_said():
    labels = {"visible": healthy(), "infrared": healthy()}
    found = describe(labels, np.full(10, -1), None)
    assert not [name for name in found if "purity" in name or "correct" in name or "none" in name]
    assert not [name for name in found if "ari" in name or "image_pairs" in name]


BAD = {
    "one heap": (np.zeros(80, np.int64), "do not tell people apart"),
    "half in one": (np.r_[np.zeros(50, np.int64), healthy(3, 10) + 1], "the largest with 62%"),
    "all outliers": (np.full(80, -1), "100% of the images are outliers"),
    "a few of one": (np.r_[np.zeros(6, np.int64), np.full(74, -1)], "92% of the images are out"),
    "split": (np.arange(80) // 2, "people are split into many"),
}


@pytest.mark.parametrize("fault", BAD)
def test_each_fault_is_named_with_its_mend(fault):
    labels, said = BAD[fault]
    lines = diagnose({"visible": labels, "infrared": labels})
    assert [line.split(":")[0] for line in lines] == ["visible", "infrared"]
    assert said in lines[0]
    assert any(mend in lines[0] for mend in ("lower eps", "raise eps"))


def test_a_healthy_clustering_is_left_in_peace():
    labels = {"visible": healthy(), "infrared": healthy(8)}
    assert diagnose(labels, labels) == []


def test_unlike_modalities_and_unsettled_labels_are_named():
    rng = np.random.default_rng(0)
    labels = {"visible": healthy(40), "infrared": healthy(10)}
    assert "40 clusters of visible images against 10" in diagnose(labels)[0]
    before = {name: rng.permutation(of) for name, of in labels.items()}
    assert sum("little in common with the last epoch" in x for x in diagnose(labels, before)) == 2
