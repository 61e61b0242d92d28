"""What gives way where clustering fails: the radius, or the momentum of the memories."""

import numpy as np
import pytest
import torch

from visir.cluster.adapt import adapt_eps, adapt_momentum
from visir.cluster.labels import pseudo_labels
from visir.cluster.metrics import diagnose
from visir.core.types import InputError

NONE, FEW = np.empty(0, np.int64), np.full(5, -1)


def healthy(people=10, images=8):
    return np.repeat(np.arange(people), images)


def heaps_above(limit):
    """One heap at radii above the limit, outliers far below it, people in between."""

    def cluster(eps):
        if eps > limit:
            return np.zeros(80, np.int64)
        return healthy() if eps > limit / 2 else np.full(80, -1)

    return cluster


@pytest.mark.parametrize(("limit", "side"), [(0.4, "smaller"), (1.8, "larger")])
def test_another_radius_is_tried_only_when_asked(limit, side):
    with pytest.raises(InputError, match=r"at eps 0\.6 on 80 images; set another eps"):
        adapt_eps(heaps_above(limit), 0.6, adapt=False)
    labels, radius, said = adapt_eps(heaps_above(limit), 0.6, adapt=True)
    assert labels.tolist() == healthy().tolist()
    assert (radius < 0.6) == (side == "smaller")
    assert f"{radius:.3g} was used" in said[0]


def tries(cluster, eps=0.6):
    asked = []

    def noted(radius):
        asked.append(radius)
        return cluster(radius)

    try:
        return asked, adapt_eps(noted, eps, adapt=True)
    except InputError as error:
        return asked, str(error)


def test_a_healthy_radius_is_kept_and_no_other_one_computed():
    assert tries(lambda eps: healthy())[0] == [0.6]


def test_radii_between_a_heap_and_outliers_are_halved():
    asked, (labels, radius, _) = tries(
        lambda eps: np.zeros(80, np.int64) if eps > 0.53 else
        healthy() if eps > 0.51 else np.full(80, -1)
    )  # fmt: skip
    assert asked[:2] == [0.6, 0.48]
    assert len(set(asked)) == len(asked) <= 7
    assert 0.51 < radius < 0.53
    assert labels.tolist() == healthy().tolist()


def test_no_radius_is_tried_where_all_pairs_are_neighbours():
    assert tries(lambda eps: np.full(8, -1), 0.85)[0] == [0.85, 0.99]


def test_where_no_radius_is_good_the_first_with_two_clusters_is_taken():
    poor = np.r_[healthy(2, 4), np.full(72, -1)]
    asked, (labels, radius, said) = tries(lambda eps: poor if eps < 0.8 else np.zeros(80, int))
    assert len(asked) == 7
    assert radius == 0.6
    assert said == []
    assert labels.tolist() == poor.tolist()
    assert tries(lambda eps: poor if eps < 0.7 else healthy())[1][1] == 0.75


@pytest.mark.parametrize("labels", [NONE, np.zeros(8, np.int64), FEW, np.full(8, -1)])
def test_fewer_than_two_clusters_at_all_radii_are_refused(labels):
    asked, said = tries(lambda eps: labels, 0.5)
    assert 1 < len(asked) <= 7
    assert f"at eps {min(asked):.3g} to {max(asked):.3g} on {len(labels)} images; set" in said


@pytest.mark.parametrize("adapt", [False, True])
def test_equal_images_are_refused_and_diverged_ones_named(adapt):
    feats = torch.nn.functional.normalize(torch.ones(90, 8), dim=1)
    with pytest.raises(InputError, match=r"1 cluster\(s\) at eps .* on 90 images"):
        adapt_eps(lambda eps: pseudo_labels(feats, eps), 0.6, adapt)
    feats[7] = torch.nan
    with pytest.raises(InputError, match="row 7"):
        adapt_eps(lambda eps: pseudo_labels(feats, eps), 0.6, adapt)


def test_what_is_poor_but_usable_is_kept_without_adapting():
    for labels in (np.arange(80) // 2, np.r_[healthy(2, 4), np.full(72, -1)]):
        assert adapt_eps(lambda eps, labels=labels: labels, 0.6, adapt=False)[1:] == (0.6, [])
        assert diagnose({"visible": labels, "infrared": labels})


def test_a_heap_steadies_the_memories():
    heap = np.r_[np.zeros(50, np.int64), np.ones(5, np.int64)]
    momentum, said = adapt_momentum(0.1, [healthy(), heap])
    assert momentum == 0.99
    assert "momentum 0.99" in said[0]
    assert adapt_momentum(0.1, [healthy(), np.full(8, -1)]) == (0.1, [])
    assert adapt_momentum(0.995, [heap]) == (0.995, [])
