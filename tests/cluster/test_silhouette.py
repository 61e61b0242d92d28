"""Silhouettes against scikit-learn, and the labels of the best epoch."""

import numpy as np
import pytest
import torch
from camera_data import graph_of, people
from sklearn.metrics import silhouette_score

from visir.cluster.jaccard import jaccard_graph
from visir.cluster.silhouette import BestBySilhouette, silhouette


@pytest.mark.parametrize("radius", [0.999, 0.6])
def test_silhouette_equals_that_of_the_dense_matrix(radius):
    features, _, _ = people(noise=0.6)
    graph = jaccard_graph(features, radius, 8, 3)
    dense, links = np.ones(graph.shape), graph.tocoo()
    dense[links.row, links.col] = links.data
    np.fill_diagonal(dense, 0)
    labels = np.arange(len(features)) % 7 - 1
    labels[:3] = 99  # a small cluster far up
    labels[5] = 42  # and an image alone
    kept = labels >= 0
    expected = silhouette_score(dense[kept][:, kept], labels[kept], metric="precomputed")
    assert silhouette(graph, labels) == pytest.approx(expected, abs=1e-6)
    assert silhouette(graph, np.roll(labels, 1)) != pytest.approx(expected, abs=1e-4)
    with_outliers = silhouette_score(dense, labels, metric="precomputed")
    assert with_outliers != pytest.approx(expected, abs=1e-4)


def test_silhouette_of_fewer_than_two_clusters_is_the_worst():
    graph = graph_of(np.eye(4))
    assert silhouette(graph, np.full(4, -1)) == -1
    assert silhouette(graph, np.zeros(4, np.int64)) == -1


def test_the_best_epoch_is_kept_and_comes_back(tmp_path):
    best = BestBySilhouette(first=1)
    offered = [(0, 0.9), (1, 0.2), (2, 0.5), (3, 0.4)]
    kept = [best.offer(epoch, score, np.full(3, epoch)) for epoch, score in offered]
    assert kept == [False, True, True, False]
    for stored in (best, BestBySilhouette(first=1)):
        torch.save(stored.state(), tmp_path / "state.pt")
        again = BestBySilhouette(first=1)
        again.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        assert again.score == stored.score
        assert (again.labels is None) == (stored.labels is None)
    assert best.labels.tolist() == [2, 2, 2]
    assert BestBySilhouette().first == 10
