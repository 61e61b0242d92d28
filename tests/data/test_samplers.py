"""Which images meet in a batch."""

from itertools import islice

import numpy as np

from visir.data.samplers import cluster_batches, shuffled_batches


def test_groups_hold_one_cluster_and_prefer_other_cameras():
    labels = np.repeat(np.arange(6), 10)
    cams = np.tile(np.repeat([1, 2], 5), 6)
    rng = np.random.default_rng(0)
    for batch in islice(cluster_batches(labels, cams, 3, 4, rng), 20):
        groups = batch.reshape(3, 4)
        assert (labels[groups] == labels[groups[:, :1]]).all()
        assert (cams[groups[:, 1:]] != cams[groups[:, :1]]).all()
        assert all(len(set(group)) == 4 for group in groups.tolist())


def test_every_cluster_comes_before_one_comes_again():
    labels = np.repeat(np.arange(6), 4)
    rng = np.random.default_rng(0)
    batches = list(islice(cluster_batches(labels, np.ones(24), 3, 2, rng), 8))
    groups = labels[np.concatenate(batches).reshape(-1, 2)[:, 0]]
    for start in range(0, len(groups), 6):
        assert sorted(groups[start : start + 6]) == list(range(6))


def test_outliers_are_never_drawn_and_small_clusters_keep_their_size():
    labels = np.array([-1, 0, -1, 1, 1, -1])
    rng = np.random.default_rng(0)
    for batch in islice(cluster_batches(labels, np.ones(6), 2, 4, rng), 10):
        assert (labels[batch] >= 0).all()
        assert batch.shape == (8,)


def test_shuffled_batches_hold_distinct_rows():
    rng = np.random.default_rng(0)
    rows = np.arange(100, 120)
    batches = list(islice(shuffled_batches(rows, 6, rng), 6))
    for batch in batches:
        assert len(set(batch.tolist())) == 6
        assert set(batch.tolist()) <= set(rows.tolist())
    assert len(set(np.concatenate(batches[:3]).tolist())) == 18
    assert len(next(shuffled_batches(rows, 99, rng))) == 20
