"""Neighbour lists of different lengths, and the loss that pulls images towards them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from visir.core.device import to_device


class Lists(NamedTuple):
    """Neighbours of every image, all lists concatenated, in the memory of the CPU.

    columns: the neighbours; starts, counts: (N,) start and length of each image's list.
    """

    columns: Tensor
    starts: Tensor
    counts: Tensor

    @classmethod
    def of(cls, neighbours: sparse.csr_array) -> Lists:
        """From an (N, M) boolean matrix, row i the neighbours of i."""
        indptr = torch.from_numpy(neighbours.indptr.astype(np.int64))
        columns = torch.from_numpy(neighbours.indices.astype(np.int64))
        return cls(columns, indptr[:-1], indptr.diff())

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """All neighbours of the rows, on the CPU: (P,) positions in `rows`, (P,) columns."""
        counts = self.counts[rows]
        places = torch.repeat_interleave(torch.arange(len(rows)), counts)
        before = counts.cumsum(0) - counts
        inside = torch.arange(len(places)) - before[places]
        return places, self.columns[self.starts[rows][places] + inside]


def neighbour_loss(logits_BN: Tensor, places: Tensor, columns: Tensor) -> Tensor:
    """Mean cross-entropy towards every neighbour of every image (TokenMatcher, Sec. 3.3).

    Args:
        logits_BN: (B, N) cosines to all images over the temperature.
        places: (P,) row of the logits of each pair of an image and a neighbour.
        columns: (P,) the neighbour. Without any pair the loss is 0. Both may be on the CPU.
    """
    places, columns = (to_device(of, logits_BN.device) for of in (places, columns))
    towards = logits_BN.logsumexp(dim=1)[places] - logits_BN[places, columns]
    return towards.sum() / max(len(places), 1)


def agreed_loss(logits_BN: Tensor, agreed_BN: Tensor) -> Tensor:
    """Mean over images of the cross-entropy towards a table of neighbours (SDCL, Sec. 3.3).

    Args:
        logits_BN: (B, N) cosines to all images over the temperature.
        agreed_BN: (B, N) bool, the neighbours; an image without any adds 0.
    """
    log_p = logits_BN.log_softmax(dim=1).clamp(min=float(np.log(1e-8)))
    towards = -(log_p * agreed_BN).sum(dim=1)
    return (towards / (1 + agreed_BN.sum(dim=1))).mean()
