"""Slices of a batch draw and normalise as the whole batch does."""

import numpy as np
import pytest
import torch
from torch import nn

from visir.nets.slices import Slice, SliceNorm, computing, know_slices, places, uniform

CPU = torch.device("cpu")
ROWS = np.array([1, 2, 5])


def test_a_slice_draws_what_its_images_would_draw_in_the_whole_batch():
    torch.manual_seed(3)
    whole, after = uniform(6, CPU), torch.rand(1)
    torch.manual_seed(3)
    with computing(Slice(ROWS, 6, shared=False)):
        part = uniform(3, CPU)
        assert places(3).tolist() == [1, 2, 5]
    assert whole.shape == (6, 1, 1)
    assert torch.equal(part, whole[ROWS])
    assert torch.equal(torch.rand(1), after)
    assert places(3).tolist() == [0, 1, 2]


def test_two_views_in_one_call_are_refused():
    with (
        computing(Slice(ROWS, 6, shared=False)),
        pytest.raises(ValueError, match="6 images are computed, but the slice of the batch has 3"),
    ):
        uniform(6, CPU)


def nets():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(8))
    other = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.BatchNorm1d(8))
    other.load_state_dict(net.state_dict())
    know_slices(other)
    assert [type(part) for part in other[1::2]] == [SliceNorm, SliceNorm]
    return net, other


def equal_states(net, other):
    ours, theirs = net.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)


@pytest.mark.parametrize("shared", [False, True])
def test_in_one_process_a_norm_is_pytorchs_own(shared):
    net, other = nets()
    images = torch.randn(3, 3, 2, 1)
    for part in (None, Slice(ROWS, 6, shared)):
        with computing(part):
            assert torch.equal(net(images), other(images))
        assert equal_states(net, other)
    assert net[1].num_batches_tracked == 2
    assert torch.equal(net.eval()(images), other.eval()(images))


# findings/norm-layout.sh
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_variances_are_near_the_exact_ones_in_either_layout(layout):
    images = (torch.randn(16, 8, 48, 24) + 0.5).contiguous(memory_format=layout)
    norm = nn.BatchNorm2d(8, momentum=1.0)
    know_slices(norm)
    norm(images)
    exact = images.double().var(dim=(0, 2, 3))
    assert ((norm.running_var - exact) / exact).abs().max() < 1e-4


def test_a_repeated_slice_changes_no_running_statistics():
    net, other = nets()
    images = torch.randn(3, 3, 2, 1)
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with computing(Slice(ROWS, 6, shared=False, again=True)):
        assert torch.equal(net(images), other(images))
    assert all(torch.equal(before[name], value) for name, value in other.state_dict().items())
    assert not equal_states(net, other)
