"""Losses that more than one method uses, or that stand for themselves."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(views_BD: Tensor, temperature: float) -> Tensor:
    """Normalised-temperature cross-entropy (SimCLR, Chen et al., ICML 2020, Eq. 1).

    Args:
        views_BD: (2n, D); row i and row i + n are two views of one image, all others are not.
        temperature: divisor of the cosines.
    """
    unit = F.normalize(views_BD, dim=1)
    logits = unit @ unit.T / temperature
    logits.fill_diagonal_(-torch.inf)
    half = len(views_BD) // 2
    other_view = torch.arange(len(views_BD), device=views_BD.device).roll(half)
    return F.cross_entropy(logits, other_view)
