"""CARC's neighbour lists against the rule."""

import numpy as np
import pytest
from camera_data import graph_of, random_lists

from visir.cluster.cameras import camera_filter
from visir.methods.cmag.carc import consistent_neighbours


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
