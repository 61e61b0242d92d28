"""DBSCAN on a radius graph against scikit-learn."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.cluster import DBSCAN

from visir.cluster.health import describe, purity
from visir.cluster.labels import dbscan


def points(seed, count=120):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 2)) * rng.choice([0.3, 3.0], size=(count, 1))
    return np.linalg.norm(rows[:, None] - rows[None], axis=2)


def within(distance, eps):
    rows, cols = np.nonzero(distance <= eps)
    return sparse.csr_array((distance[rows, cols], (rows, cols)), shape=distance.shape)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("min_samples", [1, 4, 7])
def test_same_labels_as_scikit_learn(seed, min_samples):
    distance = points(seed)
    eps = 0.25
    theirs = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(distance)
    ours = dbscan(within(distance, eps), min_samples)
    assert (ours == theirs).all()
    assert (dbscan(within(distance, eps), min_samples + 3) != theirs).any()


def test_everything_an_outlier():
    assert (dbscan(within(points(0), 0.0), 4) == -1).all()


def test_purity_counts_the_commonest_identity():
    labels = np.array([0, 0, 0, 1, 1, -1])
    truth = np.array([5, 5, 6, 6, 6, 7])
    assert purity(labels, truth) == pytest.approx(4 / 5)
    assert purity(np.full(3, -1), truth[:3]) == 0


def test_describe_counts_pairs_of_clusters_of_one_person():
    labels = {"visible": np.array([0, 0, 1, -1]), "infrared": np.array([0, 1, 1])}
    truth = {"visible": np.array([3, 3, 4, 4]), "infrared": np.array([4, 3, 3])}
    found = describe(labels, np.array([1, -1]), truth)
    assert found["clusters_visible"] == 2
    assert found["outliers_visible"] == 0.25
    assert found["pairs_matched"] == 1
    assert found["pairs_correct"] == 1.0
    assert describe(labels, np.array([0, -1]), truth)["pairs_correct"] == 0.0
    assert "purity_visible" not in describe(labels, None, None)
