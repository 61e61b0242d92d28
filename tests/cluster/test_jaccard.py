"""The sparse Jaccard graph against the dense definition, written as plain loops."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional as F

from visir.cluster.jaccard import jaccard_graph
from visir.cluster.neighbors import nearest
from visir.core.types import InputError


def features(count=150, groups=12, dim=16, noise=0.35, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, dim))
    rows = centres[rng.integers(groups, size=count)] + noise * rng.normal(size=(count, dim))
    return F.normalize(torch.from_numpy(rows).float(), dim=1)


def dense_jaccard(feats, k1, k2, share=2 / 3):
    """Zhong et al. as the field codes it: dense matrices and a loop over rows."""
    sim = (feats.double() @ feats.double().T).float().numpy().astype(np.float64)
    count = len(sim)
    np.fill_diagonal(sim, np.inf)
    rank = np.argsort(-sim, axis=1, kind="stable")[:, :k1]
    np.fill_diagonal(sim, 1)

    def reciprocal(i, k):
        return [j for j in rank[i, : k + 1] if i in rank[j, : k + 1]]

    codes = np.zeros((count, count))
    for i in range(count):
        base = reciprocal(i, k1)
        members = set(base)
        for c in base:
            half = reciprocal(c, round(k1 / 2))
            if len(set(half) & set(base)) > share * len(half):
                members |= set(half)
        members = sorted(members)
        weights = np.exp(-(2 - 2 * sim[i, members]))
        codes[i, members] = weights / weights.sum()
    codes = np.stack([codes[rank[i, :k2]].mean(axis=0) for i in range(count)])
    least = np.minimum(codes[:, None], codes[None]).sum(axis=2)
    return np.maximum(1 - least / (2 - least), 0)


def same(first, second):
    return (
        np.array_equal(first.indptr, second.indptr)
        and np.array_equal(first.indices, second.indices)
        and np.array_equal(first.data, second.data)
    )


def agrees(feats, k1, k2, radius, dense):
    graph = jaccard_graph(feats, radius, k1, k2)
    stored = np.zeros(graph.shape, bool)  # a stored distance may be 0
    stored[np.repeat(np.arange(len(feats)), np.diff(graph.indptr)), graph.indices] = True
    clear = np.abs(dense - radius) > 1e-5
    return bool(
        (stored == (dense <= radius))[clear].all()
        and np.allclose(graph.toarray()[stored], dense[stored], atol=1e-5)
    )


@pytest.mark.parametrize(("k1", "k2", "radius"), [(20, 6, 0.6), (30, 6, 0.3), (7, 1, 0.5)])
def test_equals_the_dense_definition(k1, k2, radius):
    feats = features()
    assert agrees(feats, k1, k2, radius, dense_jaccard(feats, k1, k2))


def test_a_broken_definition_is_rejected():
    feats = features()
    assert not agrees(feats, 20, 6, 0.6, dense_jaccard(feats, 20, 5))
    assert not agrees(feats, 20, 6, 0.6, dense_jaccard(feats, 20, 6, share=0.0))


def test_fewer_images_than_neighbours():
    graph = jaccard_graph(features(count=5), 0.9, 30, 6)
    assert graph.shape == (5, 5)
    assert np.allclose(graph.diagonal(), 0, atol=1e-5)


def test_neighbours_may_be_handed_in():
    feats = features()
    ranks = nearest(feats, 40)
    assert same(jaccard_graph(feats, 0.6, ranks_NK=ranks), jaccard_graph(feats, 0.6))
    assert not same(jaccard_graph(feats, 0.6, ranks_NK=ranks[:, :20]), jaccard_graph(feats, 0.6))


@pytest.mark.parametrize("broken", ["shifted", "other", "short"])
def test_neighbours_of_something_else_are_refused(broken):
    feats = features()
    ranks = nearest(feats, 30)
    if broken == "shifted":
        ranks = ranks[:, 1:]
    elif broken == "other":
        ranks[3, 4] = len(feats)
    else:
        ranks = ranks[:-1]
    with pytest.raises(InputError, match="rank"):
        jaccard_graph(feats, 0.6, ranks_NK=ranks)


def test_a_radius_of_nearly_one_keeps_every_pair_that_overlaps():
    feats = features(noise=0.5)
    dense = dense_jaccard(feats, 20, 6)
    assert agrees(feats, 20, 6, 0.999, dense)
    assert jaccard_graph(feats, 0.999, 20).nnz > 1.5 * jaccard_graph(feats, 0.6, 20).nnz


def test_exactly_symmetric_and_the_same_with_any_number_of_threads():
    feats, threads = features(1500, 60), torch.get_num_threads()
    graphs = []
    for count in (1, 3):
        torch.set_num_threads(count)
        graphs.append(jaccard_graph(feats, 0.8))
    torch.set_num_threads(threads)
    assert same(*graphs)
    assert same(graphs[0], sparse.csr_array(graphs[0].T))


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_image(count):
    graph = jaccard_graph(features(count=count), 0.6)
    assert graph.shape == (count, count)
    assert (graph.diagonal() < 1e-6).all()


def test_equal_images():
    graph = jaccard_graph(F.normalize(torch.ones(80, 4), dim=1), 0.6)
    assert (np.diff(graph.indptr)[:30] >= 30).all()  # ties by row: all name the first thirty


def test_unusable_features_are_refused_with_ranks_too():
    feats = features()
    ranks = nearest(feats, 30)
    feats[7, 3] = torch.nan
    with pytest.raises(InputError, match="row 7"):
        jaccard_graph(feats, 0.6, ranks_NK=ranks)
