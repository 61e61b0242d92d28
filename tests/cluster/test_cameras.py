"""Camera-aware parts against plain loops."""

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.metrics import silhouette_score
from torch.nn import functional as F

from visir.cluster.cameras import (
    BestBySilhouette,
    camera_filter,
    centred,
    cluster_cameras,
    cluster_weights,
    consistent_neighbours,
    node_scores,
    refine,
    silhouette,
)
from visir.cluster.jaccard import jaccard_graph
from visir.cluster.labels import pseudo_labels
from visir.core.types import InputError


def unit(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator), dim=1)


def people(count=5, images=8, cams=2, noise=0.1, seed=0):
    """(features, cams) of people who look alike within a camera and differ between cameras."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(cams, count, 16))
    of_cam, of_person = np.divmod(np.arange(cams * count * images) % (cams * count), count)
    features = centres[of_cam, of_person] + noise * rng.normal(size=(len(of_cam), 16))
    return F.normalize(torch.from_numpy(features).float(), dim=1), of_cam, of_person


def graph_of(dense):
    return sparse.csr_array(dense)


def random_lists(seed, count=30):
    rng = np.random.default_rng(seed)
    neighbours = rng.random((count, count)) < 0.3
    np.fill_diagonal(neighbours, True)
    return graph_of(neighbours), rng.integers(0, 3, count), rng.integers(-1, 4, count)


def test_what_a_camera_adds_is_removed():
    of_people, cams = unit(8, 5, 3), np.arange(8) % 2
    of_people = of_people - of_people.view(4, 2, 5).mean(dim=0).repeat(4, 1)
    added = of_people + torch.tensor([[1.0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0]]).repeat(4, 1)
    expected = F.normalize(of_people, dim=1)
    assert torch.allclose(centred(added, cams), expected, atol=1e-6)
    assert not torch.allclose(F.normalize(added, dim=1), expected, atol=1e-1)


def test_the_only_image_of_a_camera_stays_as_it_is():
    features = unit(5, 4, 0)
    found = centred(features, np.array([0, 0, 0, 0, 1]))
    assert torch.allclose(found[4], features[4], atol=1e-6)
    assert torch.isfinite(found).all()


RADII = {0: 0.3, 1: 0.6}


@pytest.mark.parametrize("eps", [0.5, RADII])
def test_clusters_inside_cameras_are_those_of_each_alone(eps):
    features, cams, persons = people(noise=0.15)
    labels = cluster_cameras(features, cams, eps, k1=6, k2=2)
    expected, count = np.empty_like(labels), 0
    for cam in (0, 1):
        rows = torch.from_numpy(cams == cam)
        alone = pseudo_labels(features[rows], eps if eps == 0.5 else eps[cam], 4, 6, 2)
        expected[cams == cam] = [label + count if label >= 0 else -1 for label in alone]
        count += alone.max() + 1
    assert labels.tolist() == expected.tolist()
    clustered = labels >= 0
    assert clustered.mean() > 0.7
    assert all(len(set(persons[labels == label])) == 1 for label in set(labels[clustered]))
    assert labels.tolist() != pseudo_labels(features, 0.5, 4, 6, 2).tolist()
    assert labels.tolist() != cluster_cameras(features, cams, 0.2, k1=6, k2=2).tolist()


def test_a_camera_with_few_images_has_outliers_only():
    features, cams, _ = people()
    cams = cams.copy()
    cams[-1], cams[:3] = 7, 8
    labels = cluster_cameras(features, cams, 0.5, k1=6, k2=2)
    assert (labels[cams > 1] == -1).all()
    assert (labels[cams < 2] >= 0).any()
    assert cluster_cameras(features[:0], cams[:0]).tolist() == []


def test_equal_images_are_one_cluster_in_each_camera():
    features = F.normalize(torch.ones(60, 4), dim=1)
    cams = np.arange(60) % 2
    assert cluster_cameras(features, cams).tolist() == cams.tolist()


def test_a_camera_without_a_radius_and_features_that_diverged_are_named():
    features, cams, _ = people()
    with pytest.raises(InputError, match="no radius for camera 1"):
        cluster_cameras(features, cams, {0: 0.5})
    features[3] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        cluster_cameras(features, cams)


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


def test_the_filter_drops_only_strangers_of_the_own_camera():
    for seed in range(3):
        neighbours, cams, local = random_lists(seed)
        found = camera_filter(neighbours, cams, local).toarray()
        dense = neighbours.toarray()
        for i in range(len(cams)):
            expected = [
                j for j in np.flatnonzero(dense[i])
                if cams[i] != cams[j] or min(local[i], local[j]) < 0 or local[i] == local[j]
            ]  # fmt: skip
            assert np.flatnonzero(found[i]).tolist() == expected
        assert found.sum() < dense.sum()
        unlike = camera_filter(neighbours, cams * 0, local).toarray()
        assert (found != unlike).any()


@pytest.mark.parametrize(
    ("progress", "conflicts", "dropped"),
    [(1.0, "drop_decays", 0.0), (0.0, "drop_decays", 1.0), (0.0, "keep_decays", 0.0)],
)
def test_consistent_neighbours_equal_the_rule_where_chance_is_certain(progress, conflicts, dropped):
    for seed in range(3):
        neighbours, cams, local = random_lists(seed)
        rng = np.random.default_rng(0)
        found = consistent_neighbours(
            neighbours, cams, local, progress, rng, p0=1.0, conflicts=conflicts
        )
        assert found.dropped == found.conflicts * dropped and found.conflicts
        found, dense = found.kept.toarray(), neighbours.toarray()
        for i in range(len(cams)):
            listed = np.flatnonzero(dense[i])
            same = [j for j in listed if cams[j] == cams[i] and j != i]
            agreed = [j for j in same if local[i] >= 0 and local[j] == local[i]]
            lost = [j for j in same if j not in agreed] if agreed or dropped else []
            assert np.flatnonzero(found[i]).tolist() == [j for j in listed if j not in lost]
        assert (found != camera_filter(neighbours, cams, local).toarray()).any()


def test_conflicts_are_dropped_as_often_as_asked():
    count = 200
    everyone = graph_of(np.ones((count, count), bool))
    cams, local = np.zeros(count, int), np.full(count, -1)
    rng = np.random.default_rng(0)
    others = ~np.eye(count, dtype=bool)
    for conflicts, share in (("drop_decays", 0.6), ("keep_decays", 0.4)):
        found = consistent_neighbours(everyone, cams, local, 0.5, rng, conflicts=conflicts)
        kept = found.kept.toarray()
        assert found.conflicts == others.sum() == found.dropped + kept[others].sum()
        assert kept[others].mean() == pytest.approx(share, abs=0.01)
        assert kept.diagonal().all()


def test_node_scores_sum_inverse_distances():
    rng = np.random.default_rng(1)
    dense = np.where(rng.random((12, 12)) < 0.4, rng.random((12, 12)), 0)
    np.fill_diagonal(dense, 0)
    links = dense[dense > 0]
    expected = [sum(1 / (d + links.mean()) for d in row if d > 0) for row in dense]
    assert np.allclose(node_scores(graph_of(dense)), expected, rtol=1e-5)
    assert node_scores(graph_of(np.zeros((3, 3)))).tolist() == [0, 0, 0]


def slow_refine(labels, local, cams, scores):
    refined = labels.copy()
    for cluster in set(labels[labels >= 0]):
        members = np.flatnonzero(labels == cluster)
        pivot = members[np.argmax(scores[members])]
        for i in members:
            if local[pivot] >= 0 and cams[i] == cams[pivot] and local[i] != local[pivot]:
                refined[i] = -1
    return refined


def test_refinement_equals_the_loop_over_clusters():
    rng = np.random.default_rng(2)
    labels, cams, local = rng.integers(-1, 5, 60), rng.integers(0, 3, 60), rng.integers(-1, 4, 60)
    scores = rng.random(60).astype(np.float32)
    found = refine(labels, local, cams, scores, rng)
    expected = slow_refine(labels, local, cams, scores)
    assert found.tolist() == expected.tolist()
    assert found.tolist() != slow_refine(labels, local, cams, -scores).tolist()
    assert refine(labels, local, cams, scores, rng, decay=0).tolist() == labels.tolist()
    half = refine(labels, local, cams, scores, rng, decay=0.5)
    assert set(np.flatnonzero(half != labels)) < set(np.flatnonzero(found != labels))


def test_weights_are_entropies_of_cameras():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 2, 2, -1])
    cams = np.array([3, 3, 8, 8, 3, 3, 3, 8, 8, 8])
    third = -(1 / 3 * np.log(1 / 3) + 2 / 3 * np.log(2 / 3))
    expected = np.log1p([np.log(2), 0, third])
    assert np.allclose(cluster_weights(labels, cams), expected, atol=1e-6)
    assert cluster_weights(labels, np.zeros(10, int)).tolist() == [1, 1, 1]
