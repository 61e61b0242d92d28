"""Memories: rows that features are compared with, one per cluster or one per image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, assert_never

import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.device import to_device
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
        """Cross-entropy of the logits (ADCA, Eq. 2-3); `labels` (B,) on the device or the CPU."""
        return F.cross_entropy(self.logits(features_BD), to_device(labels, features_BD.device))

    @torch.no_grad()
    def update(self, features_BD: Tensor, labels: Tensor) -> None:
        """Blend a batch into the rows of its labels.

        Args:
            features_BD: (B, D), of any norm.
            labels: (B,) row numbers in the memory of the CPU, as in `Batch.host`: the program waits
                for those of another device.
        """
        features_BD, labels = features_BD.detach().float(), labels.cpu()
        if self.unit:
            features_BD = F.normalize(features_BD, dim=1)
        match self.rule:
            case "momentum":
                # Order matters only within a label: blend the n-th samples of all labels together.
                order, sizes = _turns(labels)
                rows, names = (to_device(of, features_BD.device) for of in (order, labels[order]))
                turns = zip(torch.split(rows, sizes), torch.split(names, sizes), strict=True)
                for turn, of in turns:
                    self._blend(features_BD[turn], of)
            case "mean":
                self._blend(*_means(features_BD, labels))
            case "hard":
                self._blend(*_hardest(features_BD, labels, self.rows_CD))
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


def _turns(labels: Tensor) -> tuple[Tensor, list[int]]:
    """Positions of the first samples of all labels, then of the second ones; how many each are."""
    order = labels.argsort(stable=True)
    ranked = labels[order]
    turn = torch.arange(len(labels)) - torch.searchsorted(ranked, ranked)
    return order[turn.argsort(stable=True)], turn.bincount().tolist()


def _means(features_BD: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean feature of each label that occurs, and these labels."""
    names, group = torch.unique(labels, return_inverse=True)
    return means(features_BD, group, len(names)), to_device(names, features_BD.device)


def means(features_BD: Tensor, group: Tensor, groups: int) -> Tensor:
    """(groups, D) mean feature of each group.

    Args:
        features_BD: (B, D).
        group: (B,) number of the group of each feature, in the memory of the CPU.
        groups: their number; none may be empty.
    """
    device = features_BD.device
    sums = features_BD.new_zeros(groups, features_BD.shape[1])
    sums = sums.index_add(0, to_device(group, device), features_BD)
    return sums / to_device(torch.bincount(group, minlength=groups), device)[:, None]


def _hardest(features_BD: Tensor, labels: Tensor, rows_CD: Tensor) -> tuple[Tensor, Tensor]:
    """Of each label that occurs the feature farthest from its row, and these labels.

    The device alone knows the order of the features, but where a label begins in it, the CPU does.
    """
    device, names = features_BD.device, torch.unique(labels)
    here = to_device(labels, device)
    hardest_first = (features_BD * rows_CD[here]).sum(dim=1).argsort(stable=True)
    by_label = hardest_first[here[hardest_first].argsort(stable=True)]
    first = torch.searchsorted(labels.sort().values, names)
    return features_BD[by_label[to_device(first, device)]], to_device(names, device)


def prototypes(features_ND: Tensor, labels: IntArray) -> Tensor:
    """Mean feature of every cluster, L2-normalised: (C, D); outliers (-1) are ignored."""
    target = torch.from_numpy(labels).to(features_ND.device)
    kept = target >= 0
    sums = features_ND.new_zeros(int(labels.max(initial=-1)) + 1, features_ND.shape[1])
    sums.index_add_(0, target[kept], features_ND[kept])
    return F.normalize(sums, dim=1)


def towards_all(logits_BC: Tensor, right_BC: Tensor) -> Tensor:
    """Cross-entropy towards every right column of a row, mean over these and over the rows.

    Args:
        logits_BC: (B, C); -inf for columns that are not compared.
        right_BC: (B, C) bool, at least one in a row.
    """
    likely = logits_BC.log_softmax(dim=1).masked_fill(~right_BC, 0.0)
    return -(likely.sum(dim=1) / right_BC.sum(dim=1)).mean()


class Read(NamedTuple):
    """Features compared with a memory: (B, D), of any norm, and (B,) target rows, on the CPU."""

    term: str
    weight: float
    memory: Memory
    features: Tensor
    labels: Tensor


def loss_of(read: Read) -> Tensor:
    """Cross-entropy towards the memory's rows."""
    return read.memory.loss(read.features, read.labels)


def script_losses(reads: Sequence[Read]) -> list[Tensor]:
    """The losses as the public scripts differentiate them, after which the memories are updated.

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
        value = F.cross_entropy(cosines / temperature, to_device(read.labels, cosines.device))
        (pull,) = torch.autograd.grad(value, cosines)
        towards = (pull * (unit_BD @ read.memory.rows_CD.T.clone())).sum()
        losses.append(value.detach() + towards - towards.detach())
        read.memory.update(read.features, read.labels)
    return losses[::-1]
