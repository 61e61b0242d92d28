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


def diversity(tokens_BND: Tensor) -> Tensor:
    """How alike an image's tokens are (self-diverse constraint; DC-Former, AAAI 2023).

    The absolute cosines of all pairs of tokens, weighted by their own softmax, so that the pairs
    most alike count most; mean over the images.

    Args:
        tokens_BND: (B, N, D), N > 1, before their bottlenecks.
    """
    unit = F.normalize(tokens_BND, dim=2)
    count = unit.shape[1]
    i, j = torch.triu_indices(count, count, offset=1, device=unit.device)
    alike = (unit[:, i] * unit[:, j]).sum(dim=2).abs()
    return (alike.softmax(dim=1) * alike).sum(dim=1).mean()
