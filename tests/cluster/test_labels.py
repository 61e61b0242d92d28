"""Clusters of a sparse graph against scikit-learn, and what can go wrong."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import DBSCAN, HDBSCAN
from sklearn.metrics import adjusted_rand_score
from torch.nn import functional as F

from visir.cluster import hdbscan as hdbscan_room
from visir.cluster.hdbscan import hdbscan
from visir.cluster.jaccard import jaccard_graph
from visir.cluster.labels import dbscan, filled, infomap, pseudo_labels
from visir.cluster.metrics import describe, purity
from visir.core.types import InputError


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


# findings/zero-distance.sh
def test_equal_images_are_neighbours():
    """Their distance of 0 is stored: three equal images, three that are alike."""
    distance = np.full((6, 6), 0.9)
    distance[:3, :3], distance[3:, 3:] = 0, 0.1
    np.fill_diagonal(distance, 0)
    assert dbscan(within(distance, 0.5), 3).tolist() == [0, 0, 0, 1, 1, 1]
    assert dbscan(sparse.csr_array(distance), 3).tolist() != [0, 0, 0, 1, 1, 1]  # none stored
    equal = jaccard_graph(F.normalize(torch.ones(80, 4), dim=1), 0.6)
    assert (dbscan(equal, 4) == 0).all()


def test_everything_an_outlier():
    assert (dbscan(within(points(0), 0.0), 4) == -1).all()


def blobs(seed, spread, count=150):
    """Distances in [0, 1) between points around six centres."""
    rng = np.random.default_rng(seed)
    centres = np.array([(x, y) for x in (0, 4, 9) for y in (0, 5)])
    rows = centres[rng.integers(6, size=count)]
    rows = rows + rng.normal(size=(count, 2)) * rng.choice(spread, size=(count, 1))
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    return distance / distance.max() * 0.99


def sklearn_hdbscan(distance, fewest, min_samples):
    found = HDBSCAN(
        min_cluster_size=fewest, min_samples=min_samples, metric="precomputed", copy=True
    )
    return found.fit_predict(distance)


# findings/min-samples.sh
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cut", [1.0, 0.3])
def test_hdbscan_finds_the_clusters_of_scikit_learn(seed, cut):
    distance = blobs(seed, [0.2, 0.4])
    theirs = sklearn_hdbscan(np.where(distance <= cut, distance, 1), 4, 4)
    ours = hdbscan(within(distance, cut), 4)
    assert adjusted_rand_score(ours[theirs >= 0], theirs[theirs >= 0]) == 1
    assert ((ours < 0) != (theirs < 0)).mean() <= 0.02  # equal densities leave rows undecided
    assert adjusted_rand_score(dbscan(within(distance, 0.01), 4), theirs) < 0.9


@pytest.mark.parametrize("seed", range(10))
def test_hdbscan_equals_scikit_learn_where_no_densities_are_equal(seed, monkeypatch):
    """With a neighbourhood of one row all distances differ, and the answer is unique."""
    edges = hdbscan_room._spanning_edges
    monkeypatch.setattr(hdbscan_room, "_spanning_edges", lambda graph, _: edges(graph, 1))
    distance = blobs(seed, [0.1, 0.5, 2.0])
    theirs = sklearn_hdbscan(distance, 5, 1)
    assert adjusted_rand_score(hdbscan(within(distance, 1.0), 5), theirs) == 1
    assert adjusted_rand_score(hdbscan(within(distance, 1.0), 40), theirs) < 1


@pytest.mark.parametrize("find", [dbscan, hdbscan])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_images_are_outliers(find, count):
    assert find(within(np.ones((count, count)) - np.eye(count), 0.5), 4).tolist() == [-1] * count


def test_hdbscan_of_equal_and_of_unrelated_images():
    assert (hdbscan(within(np.zeros((9, 9)), 0.5), 4) == -1).all()  # the whole is no cluster
    pair = np.kron(np.eye(2), np.ones((9, 9)))
    assert hdbscan(within(1 - pair, 0.5), 4).tolist() == [0] * 9 + [1] * 9
    assert (hdbscan(within(1 - np.eye(9), 0.5), 4) == -1).all()


class FakeInfomap:
    """Connected components stand for modules."""

    def __init__(self, options):
        assert "--two-level" in options

    def add_links(self, links):
        self.links = links

    def run(self):
        rows, cols, weights = np.array(self.links).T
        assert (weights > 0).all()
        nodes = np.unique((rows, cols)).astype(int)
        size = nodes.max() + 1
        graph = sparse.csr_array((weights, (rows.astype(int), cols.astype(int))), (size, size))
        component = connected_components(graph, directed=False)[1]
        self.modules = {int(node): int(component[node]) + 1 for node in nodes}

    def get_modules(self):
        return self.modules


def test_infomap_modules_become_labels(monkeypatch):
    monkeypatch.setitem(sys.modules, "infomap", SimpleNamespace(Infomap=FakeInfomap))
    groups = np.array([3, 0, 1, 1, 1, 1, 0, 0, 0, 2, 2])
    distance = np.where(groups[:, None] == groups, 0.2, 1.0)
    np.fill_diagonal(distance, 0)
    expected = [-1, 0, 1, 1, 1, 1, 0, 0, 0, -1, -1]
    assert infomap(within(distance, 0.5), 4).tolist() == expected
    assert infomap(within(distance, 0.5), 1).tolist() != expected
    assert infomap(within(distance, 0.1), 4).tolist() == [-1] * 11
    assert infomap(within(distance[:0, :0], 0.1), 4).tolist() == []


def test_infomap_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "infomap", None)
    with pytest.raises(InputError, match="pip install infomap"):
        pseudo_labels(people()[0], 0.6, algorithm="infomap")


def people(count=400, groups=10, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    who = rng.integers(groups, size=count)
    rows = rng.normal(size=(groups, 32))[who] + noise * rng.normal(size=(count, 32))
    return F.normalize(torch.from_numpy(rows).float(), dim=1), who


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
def test_people_far_apart_are_found(algorithm):
    feats, who = people()
    assert adjusted_rand_score(pseudo_labels(feats, 0.6, algorithm=algorithm), who) == 1
    assert adjusted_rand_score(pseudo_labels(feats, 0.6, algorithm=algorithm, k1=4), who) < 1


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
@pytest.mark.parametrize("count", [0, 1, 2, 10])
def test_any_number_of_images(algorithm, count):
    labels = pseudo_labels(people(count, 1, 0.01)[0], 0.6, algorithm=algorithm)
    assert labels.shape == (count,)
    assert labels.dtype == np.int64


@pytest.mark.parametrize("algorithm", ["dbscan", "hdbscan"])
def test_equal_images_do_no_harm(algorithm):
    labels = pseudo_labels(F.normalize(torch.ones(90, 8), dim=1), 0.6, algorithm=algorithm)
    assert labels.max() <= 0


def test_every_image_an_outlier():
    feats = F.normalize(torch.eye(200) + 1e-3, dim=1)
    assert (pseudo_labels(feats, 1e-4, min_samples=31) == -1).all()


def test_one_cluster():
    assert (pseudo_labels(people(25, 1, 0.01)[0], 0.6) == 0).all()


def test_features_that_diverged_are_named():
    feats = people()[0]
    feats[31] = torch.nan
    with pytest.raises(InputError, match="row 31"):
        pseudo_labels(feats, 0.6)


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


@pytest.mark.parametrize("block", [1, 4, 2048])
def test_outliers_join_the_cluster_that_is_clearly_nearest(monkeypatch, block):
    monkeypatch.setattr("visir.cluster.labels._BLOCK", block)
    angles = torch.tensor([0.0, 0.0, 90.0, 90.0, 10.0, 44.0]).deg2rad()
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    labels = np.array([0, 0, 1, 1, -1, -1])
    # cos 10 - cos 80 = .81; cos 44 - cos 46 = .02
    assert filled(features, labels, 0.1).tolist() == [0, 0, 1, 1, 0, -1]
    assert filled(features, labels, 0.0).tolist() == [0, 0, 1, 1, 0, 0]
    assert filled(features, labels, 1.0).tolist() == labels.tolist()
    assert labels.tolist() == [0, 0, 1, 1, -1, -1]


@pytest.mark.parametrize("labels", [[-1, -1, -1], [0, 0, -1], [0, 0, 1]])
def test_filling_leaves_labels_where_there_is_nothing_to_choose(labels):
    assert filled(torch.eye(3), np.array(labels), 0.0).tolist() == labels
