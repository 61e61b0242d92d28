"""Which images meet in a batch."""

from itertools import islice

import numpy as np

from visir.data.samplers import cluster_batches, identity_batches, shuffled_batches


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


def test_identities_come_in_equal_numbers_of_both_modalities_and_in_one_order():
    identities = np.repeat(np.arange(5), 8)
    infrared = np.tile([False, True], 20)
    seen = set()
    for vis, ir in islice(
        identity_batches(identities, infrared, 3, 4, np.random.default_rng(0)), 9
    ):
        assert not infrared[vis].any() and infrared[ir].all()
        people = identities[vis].reshape(3, 4)
        assert (people == people[:, :1]).all() and len(set(people[:, 0])) == 3
        assert np.array_equal(identities[vis], identities[ir])
        seen |= set(people[:, 0].tolist())
    assert seen == set(range(5))


def test_images_of_an_identity_are_repeated_where_there_are_too_few_of_them():
    identities, infrared = np.array([0, 0, 0, 1, 1]), np.array([False, True, True, False, True])
    vis, ir = next(identity_batches(identities, infrared, 8, 4, np.random.default_rng(0)))
    assert sorted(vis.tolist()) == [0] * 4 + [3] * 4  # one image, and no more people than two
    assert set(ir.tolist()) <= {1, 2, 4}
