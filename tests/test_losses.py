"""NT-Xent against a loop over pairs."""

import math

import torch

from visir.losses import nt_xent


def slow(views, temperature, shift=None):
    """Row i and row i + n are two views of one image; `shift` breaks that."""
    rows = [view / view.norm() for view in views]
    half = len(rows) // 2 if shift is None else shift
    total = 0.0
    for i, row in enumerate(rows):
        others = {j: math.exp(float(row @ rows[j]) / temperature) for j in range(len(rows))}
        del others[i]
        total -= math.log(others[(i + half) % len(rows)] / sum(others.values()))
    return total / len(rows)


def test_nt_xent_equals_the_loop():
    views = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
    for temperature in (0.1, 0.5):
        loss = float(nt_xent(views, temperature))
        assert math.isclose(loss, slow(views, temperature), rel_tol=1e-5)
        assert not math.isclose(loss, slow(views, temperature, shift=1), rel_tol=1e-2)
