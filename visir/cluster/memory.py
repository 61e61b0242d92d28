"""Memories: rows that features are compared with, one per cluster or one per image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.types import IntArray

Rule = Literal["momentum", "mean", "hard"]


class Memory:
    """Prototypes of clusters (Dai et al., ACCV 2022) or one row per image, outside autograd.

    All losses of one step read the rows as they were before it; `update` is called once, after the
    step.

    Args:
        rows_CD: (C, D) L2-normalised starting values.
        momentum: weight of the old value in an update.
        temperature: divisor of the cosines.
        rule: how a batch changes a row: "momentum" blends in every sample of its label, one after
            the other; "mean" their mean, once; "hard" the sample with the lowest cosine, once.
        unit: normalise samples first; otherwise the weight of a sample grows with its norm.
    """

    def __init__(
        self,
        rows_CD: Tensor,
        momentum: float,
        temperature: float = 0.05,
        rule: Rule = "momentum",
        unit: bool = True,
    ) -> None:
        self.rows_CD = rows_CD.detach().clone()
        self.momentum = momentum
        self.temperature = temperature
        self.rule = rule
        self.unit = unit

    def logits(self, features_BD: Tensor) -> Tensor:
        """(B, C) cosines to every row, over the temperature."""
        return F.normalize(features_BD, dim=1) @ self.rows_CD.T / self.temperature

    def loss(self, features_BD: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the logits (ADCA, Eq. 2-3)."""
        return F.cross_entropy(self.logits(features_BD), labels)

    @torch.no_grad()
    def update(self, features_BD: Tensor, labels: Tensor) -> None:
        """Blend a batch into the rows of its labels.

        Args:
            features_BD: (B, D), of any norm.
            labels: (B,) row numbers.
        """
        features_BD = features_BD.detach().float()
        if self.unit:
            features_BD = F.normalize(features_BD, dim=1)
        match self.rule:
            case "momentum":
                # Order matters only within a label: blend the n-th samples of all labels together.
                for turn in _turns(labels):
                    self._blend(features_BD[turn], labels[turn])
            case "mean":
                self._blend(*_means(features_BD, labels))
            case "hard":
                cosines = (features_BD * self.rows_CD[labels]).sum(dim=1)
                hardest_first = cosines.argsort(stable=True)
                for turn in _turns(labels[hardest_first])[:1]:
                    rows = hardest_first[turn]
                    self._blend(features_BD[rows], labels[rows])
            case _:
                assert_never(self.rule)

    def _blend(self, features_BD: Tensor, labels: Tensor) -> None:
        blended = self.momentum * self.rows_CD[labels] + (1 - self.momentum) * features_BD
        self.rows_CD[labels] = F.normalize(blended, dim=1)


def rows_of(memories: Iterable[Memory]) -> dict[str, list[Tensor]]:
    """The rows of several memories, as a checkpoint keeps them."""
    return {"rows": [memory.rows_CD for memory in memories]}


def restore_rows(memories: Iterable[Memory], state: Mapping[str, Sequence[Tensor]]) -> None:
    """Give memories the rows that `rows_of` returned of the same ones, in the same order."""
    for memory, rows in zip(memories, state["rows"], strict=True):
        memory.rows_CD = rows.to(memory.rows_CD)


def _turns(labels: Tensor) -> list[Tensor]:
    """Positions of the first samples of all labels, then of the second ones, and so on."""
    order = labels.argsort(stable=True)
    ranked = labels[order]
    turn = torch.arange(len(labels), device=labels.device) - torch.searchsorted(ranked, ranked)
    return [order[turn == n] for n in range(int(turn.max()) + 1 if len(turn) else 0)]


def _means(features_BD: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean feature of each label that occurs, and these labels."""
    names, group = torch.unique(labels, return_inverse=True)
    sums = features_BD.new_zeros(len(names), features_BD.shape[1])
    sums.index_add_(0, group, features_BD)
    return sums / torch.bincount(group)[:, None], names


def prototypes(features_ND: Tensor, labels: IntArray) -> Tensor:
    """Mean feature of every cluster, L2-normalised: (C, D); outliers (-1) are ignored."""
    target = torch.from_numpy(labels).to(features_ND.device)
    kept = target >= 0
    sums = features_ND.new_zeros(int(labels.max(initial=-1)) + 1, features_ND.shape[1])
    sums.index_add_(0, target[kept], features_ND[kept])
    return F.normalize(sums, dim=1)


class Read(NamedTuple):
    """Features compared with a memory: (B, D), of any norm, and (B,) their target rows."""

    term: str
    weight: float
    memory: Memory
    features: Tensor
    labels: Tensor


def loss_of(read: Read) -> Tensor:
    """Cross-entropy towards the memory's rows."""
    return read.memory.loss(read.features, read.labels)


def released(reads: Sequence[Read]) -> list[Tensor]:
    """The losses as the public scripts differentiate them; also updates the memories.

    In these scripts every loss updates its memory in its backward pass, the last one first. All
    values are computed from the memories before the step; the gradient of each loss reads the rows
    as changed by the losses after it.
    """
    before = {id(read.memory): read.memory.rows_CD.clone() for read in reads}
    losses = []
    for read in reversed(reads):
        temperature = read.memory.temperature
        unit_BD = F.normalize(read.features, dim=1)
        cosines = (unit_BD.detach() @ before[id(read.memory)].T).requires_grad_()
        value = F.cross_entropy(cosines / temperature, read.labels)
        (pull,) = torch.autograd.grad(value, cosines)
        towards = (pull * (unit_BD @ read.memory.rows_CD.T.clone())).sum()
        losses.append(value.detach() + towards - towards.detach())
        read.memory.update(read.features, read.labels)
    return losses[::-1]
