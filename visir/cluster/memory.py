"""Cluster memories: one prototype a cluster, compared by cosine, updated by momentum."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from visir.types import IntArray


class ClusterMemory:
    """Prototypes of clusters (Dai et al., ACCV 2022), outside the autograd graph.

    Losses of one step all read the prototypes as they stood before it; `update` is called once,
    after the step.

    Args:
        prototypes_CD: (C, D) L2-normalised starting values.
        momentum: weight of the old value in an update.
        temperature: divisor of the cosines.
    """

    def __init__(self, prototypes_CD: Tensor, momentum: float, temperature: float = 0.05) -> None:
        self.prototypes_CD = prototypes_CD.detach().clone()
        self.momentum = momentum
        self.temperature = temperature

    def loss(self, features_BD: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of cosine over temperature against every prototype (ADCA, Eq. 2-3)."""
        logits = F.normalize(features_BD, dim=1) @ self.prototypes_CD.T / self.temperature
        return F.cross_entropy(logits, labels)

    @torch.no_grad()
    def update(self, features_BD: Tensor, labels: Tensor) -> None:
        """Blend each sample into its prototype, one after the other in the order given.

        Order matters only among samples of one label, so the n-th samples of all labels are
        blended together; the result is that of the plain loop.
        """
        features_BD = F.normalize(features_BD.detach().float(), dim=1)
        order = labels.argsort(stable=True)
        ranked = labels[order]
        starts = torch.searchsorted(ranked, ranked)
        turn = torch.arange(len(labels), device=labels.device) - starts
        for n in range(int(turn.max()) + 1 if len(turn) else 0):
            rows = order[turn == n]
            blended = self.momentum * self.prototypes_CD[labels[rows]]
            blended += (1 - self.momentum) * features_BD[rows]
            self.prototypes_CD[labels[rows]] = F.normalize(blended, dim=1)


def prototypes(features_ND: Tensor, labels: IntArray) -> Tensor:
    """Mean feature of every cluster, L2-normalised: (C, D); outliers (-1) are passed over."""
    target = torch.from_numpy(labels).to(features_ND.device)
    kept = target >= 0
    sums = features_ND.new_zeros(int(labels.max(initial=-1)) + 1, features_ND.shape[1])
    sums.index_add_(0, target[kept], features_ND[kept])
    return F.normalize(sums, dim=1)
