"""The optimisers of the methods: on a GPU PyTorch's fused ones, whose steps are the same."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from visir.methods import labelled, schedule

CONFIG = labelled.Config()
MADE = {
    "adam": lambda net: schedule.sgd_or_adam(net, "adam", 1e-2, 1e-2),
    "sgd": lambda net: schedule.sgd_or_adam(net, "sgd", 1e-2, 1e-2),
    "adamw": lambda net: schedule.adamw([net], 1e-2, 1e-2),
    "nesterov": lambda net: labelled.sgd(CONFIG, [net[0]], [net[1]]),
    "plain": lambda net: labelled.sgd(replace(CONFIG, momentum=0.0), [net[0]], [net[1]]),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))


def stepped(net, optimizer, steps):
    """The weights after steps towards the sum of the squares of random inputs' outputs."""
    rng = torch.Generator().manual_seed(1)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        net(torch.randn(4, 5, generator=rng)).square().sum().backward()
        optimizer.step()
    return [weight.detach().clone() for weight in net.parameters()]


def same(ours, theirs):
    return all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(ours, theirs, strict=True)
    )


def test_only_weights_that_are_all_on_a_gpu_are_stepped_by_fused_kernels():
    here, there = (SimpleNamespace(device=torch.device(name)) for name in ("cpu", "cuda:1"))
    assert schedule.fused([there, there]) is True
    assert schedule.fused([here, here]) is schedule.fused([there, here]) is None


@pytest.mark.parametrize("name", MADE)
def test_fused_steps_are_the_usual_ones_also_from_the_state_of_the_others(name, monkeypatch):
    usual = network()
    start = [weight.detach().clone() for weight in usual.parameters()]
    ours = MADE[name](usual)
    assert ours.defaults["fused"] is None
    expected = stepped(usual, ours, 3)
    state, kept = deepcopy(ours.state_dict()), deepcopy(usual)
    later = stepped(usual, ours, 3)
    monkeypatch.setattr(schedule, "fused", lambda _: True)
    monkeypatch.setattr(labelled, "fused", lambda _: True)
    net = network()
    fused = MADE[name](net)
    assert all(group["fused"] is True for group in fused.param_groups)
    assert same(stepped(net, fused, 3), expected) and not same(start, expected)
    continued = MADE[name](kept)
    continued.load_state_dict(state)
    assert same(stepped(kept, continued, 3), later)
    back = network()
    back.load_state_dict(net.state_dict())
    again = MADE[name](back)
    again.load_state_dict(fused.state_dict())
    assert same(stepped(back, again, 3), later)
