"""A training of seconds, and the comparison of two."""

import torch
from safetensors.torch import load_file

from visir.training.train import train


def run(people, out, method="adca", **keywords):
    return train(method, people, out, preset="smoke", progress=False, **keywords)


def same(one, other):
    """Whether two runs ended with bit-equal weights."""
    found = load_file(one.weights), load_file(other.weights)
    return all(torch.equal(found[0][name], found[1][name]) for name in found[0])
