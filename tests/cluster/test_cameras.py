"""Camera-aware parts against plain loops."""

import numpy as np
import pytest
import torch
from camera_data import people, random_lists
from torch.nn import functional as F

from visir.cluster.cameras import camera_filter, centred, cluster_cameras
from visir.cluster.labels import pseudo_labels
from visir.core.types import InputError


def unit(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, columns, generator=generator), dim=1)


def test_what_a_camera_adds_is_removed():
    of_people, cams = unit(8, 5, 3), np.arange(8) % 2
    of_people = of_people - of_people.view(4, 2, 5).mean(dim=0).repeat(4, 1)
    added = of_people + torch.tensor([[1.0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0]]).repeat(4, 1)
    expected = F.normalize(of_people, dim=1)
    assert torch.allclose(centred(added, cams), expected, atol=1e-6)
    assert not torch.allclose(F.normalize(added, dim=1), expected, atol=1e-1)


def test_the_deviation_of_every_dimension_is_taken_off_too():
    torch.manual_seed(3)
    features, cams = torch.randn(60, 5), np.arange(60) % 3
    scaled = features * torch.tensor([1.0, 2, 3, 4, 5]) * (1 + torch.from_numpy(cams))[:, None]
    found = centred(scaled + 7, cams, deviation=True)
    for cam in range(3):
        own = features[cams == cam].double()
        plain = (own - own.mean(0)) / own.std(0, unbiased=False)
        plain = plain / plain.norm(dim=1, keepdim=True)
        assert torch.allclose(found[cams == cam].double(), plain, atol=1e-5)


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
