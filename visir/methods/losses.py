"""Losses that more than one method uses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.memory import means, towards_all
from visir.core.device import to_device


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


def supervised_contrastive(features_BD: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Contrastive loss over all images of a label (Khosla et al., NeurIPS 2020, Eq. 2).

    Args:
        features_BD: (B, D).
        labels: (B,) each at least twice.
        temperature: divisor of the cosines.
    """
    unit = F.normalize(features_BD, dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    logits = (unit @ unit.T / temperature).masked_fill(itself, -torch.inf)
    same = (labels[:, None] == labels[None, :]) & ~itself
    return towards_all(logits, same)


def diversity(tokens_BND: Tensor) -> Tensor:
    """Similarity of an image's tokens (self-diverse constraint; DC-Former, AAAI 2023).

    The absolute cosines of all pairs of tokens, weighted by their softmax, so that the most similar
    pairs count most; mean over the images.

    Args:
        tokens_BND: (B, N, D), N > 1, before their bottlenecks.
    """
    unit = F.normalize(tokens_BND, dim=2)
    count = unit.shape[1]
    i, j = torch.triu_indices(count, count, offset=1, device=unit.device)
    alike = (unit[:, i] * unit[:, j]).sum(dim=2).abs()
    return (alike.softmax(dim=1) * alike).sum(dim=1).mean()


def label_distances(features_BD: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distances (B, B), and which pairs share a label (B, B) bool, with the diagonal."""
    square = features_BD.square().sum(dim=1)
    squared = square[:, None] + square[None, :] - 2 * features_BD @ features_BD.T
    return squared.clamp(min=1e-12).sqrt(), labels[:, None] == labels[None, :]


def weighted_distances(
    distances_BB: Tensor, same_BB: Tensor, sharpness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Each row's weighted mean distance to its own label and to other labels.

    Weighted regularised triplets (AGW; Ye et al., TPAMI 2021): large distances to the own label and
    small ones to others get large weights, by softmax. Each softmax is shifted by its largest
    value, so distant features do not give 0 / 0.

    Args:
        distances_BB: distances.
        same_BB: bool, pairs of one label.
        sharpness: factor of the distances within the softmax (CAJ's alpha).

    Returns:
        (B,) to the own label, (B,) to others.
    """
    nearer = (sharpness * distances_BB).masked_fill(~same_BB, -torch.inf).softmax(dim=1)
    farther = (-sharpness * distances_BB).masked_fill(same_BB, -torch.inf).softmax(dim=1)
    return (nearer * distances_BB).sum(dim=1), (farther * distances_BB).sum(dim=1)


def weighted_triplet(features_BD: Tensor, labels: Tensor) -> Tensor:
    """Weighted regularised triplet loss (AGW; Ye et al., TPAMI 2021).

    Args:
        features_BD: (B, D), not normalised.
        labels: (B,) at least two different ones.
    """
    own, others = weighted_distances(*label_distances(features_BD, labels))
    return F.softplus(own - others).mean()


def squared_difference(
    features_BD: Tensor, labels: Tensor, sharpness: float = 1.0, scale: float = 1.0
) -> Tensor:
    """Enhanced squared difference loss (CAJ; Ye et al., ICCV 2021): the difference is squared.

    Args:
        features_BD: (B, D), not normalised.
        labels: (B,) at least two different ones.
        sharpness: alpha, of the weights.
        scale: gamma, of the squared difference, which is clipped at 88.
    """
    own, others = weighted_distances(*label_distances(features_BD, labels), sharpness)
    gap = (scale * (own - others).square()).clamp(max=88)
    return F.softplus(torch.where(others >= own, -gap, gap)).mean()


def batch_hard(features_BD: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """Triplet loss of the farthest same and the nearest other label (Hermans et al., 2017).

    Args:
        features_BD: (B, D), not normalised.
        labels: (B,) at least two different ones.
        margin: minimum difference of the two distances.
    """
    distances, same = label_distances(features_BD, labels)
    own = distances.masked_fill(~same, -torch.inf).amax(dim=1)
    others = distances.masked_fill(same, torch.inf).amin(dim=1)
    return F.relu(own - others + margin).mean()


def hetero_centre_triplet(
    features_BD: Tensor, labels: Tensor, infrared: Tensor, margin: float = 0.3
) -> Tensor:
    """Triplet loss over centres, one of each identity and modality (HCT; Liu et al., TMM 2020).

    The centre of the same identity in the other modality should be nearer than the centre of any
    other identity. The order of the batch does not matter.

    Args:
        features_BD: (B, D), not normalised.
        labels: (B,) identities, at least two different ones, in the memory of the CPU.
        infrared: (B,) bool, in the memory of the CPU.
        margin: minimum difference of the two distances.
    """
    groups, place = torch.unique(2 * labels + infrared, return_inverse=True)
    centres = means(features_BD, place, len(groups))
    return batch_hard(centres, to_device(groups // 2, centres.device), margin)
