"""The method pairs on data of one camera, and on images that are in no cluster at any radius."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visir.core.types import InputError, Modality
from visir.methods.pairs import PRESETS, Pairs

CONFIG = replace(PRESETS["smoke"], size=(16, 8), eps=(0.8, 0.8))
ALL_OUTLIERS = (
    "clustering gave 0 cluster(s) at eps 0.8 to 0.99 on 24 images; set another eps or min_samples, "
    "add images, or start from a pre-trained network (--start)"
)


def planned(config, data):
    torch.manual_seed(0)
    method = Pairs(config, data, torch.device("cpu"), seed=0)
    return method, method.plan(0)


@pytest.mark.parametrize("alone", [[Modality.VISIBLE], [Modality.INFRARED], [*Modality]])
def test_one_camera_in_a_modality_is_enough(alone, patterns):
    """Clusters show one pattern each, and cover all images; matches are found."""
    cams, pattern = patterns.cams.copy(), np.arange(48) // 12
    for number, modality in enumerate(alone):
        cams[patterns.rows(modality)] = 10 + number
    method, plan = planned(CONFIG, patterns._replace(cams=cams))
    assert plan.trains and plan.batches and (plan.partners >= 0).any()
    for modality in Modality:
        rows = patterns.rows(modality)
        assert {*plan.labels[rows]} == {*range(plan.labels[rows].max() + 1)}
        for cluster in {*plan.labels[rows]}:
            assert len({*pattern[rows][plan.labels[rows] == cluster]}) == 1
        assert torch.isfinite(method.memories[modality].rows_CD).all()


@pytest.mark.parametrize("modality", Modality)
def test_images_that_are_outliers_at_every_radius_are_named_with_what_to_do(
    modality, patterns, monkeypatch
):
    whole, tried = Pairs._cluster, []

    def cluster(self, of, features, eps):
        if of is not modality:
            return whole(self, of, features, eps)
        tried.append(eps)
        return np.full(len(features), -1)

    monkeypatch.setattr(Pairs, "_cluster", cluster)
    with pytest.raises(InputError) as caught:
        planned(CONFIG, patterns)
    assert str(caught.value) == f"the {modality.value} images: {ALL_OUTLIERS}"
    assert tried == [0.8, 0.99]


def test_neighbourhoods_that_no_image_has_are_named_too(patterns):
    """As it happens: more neighbours are asked for than there are near ones."""
    with pytest.raises(InputError, match=r"^the visible images: clustering gave 0 .* min_samples"):
        planned(replace(CONFIG, min_samples=25), patterns)
