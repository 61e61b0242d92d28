"""Nearest neighbours of every row, exactly and block by block."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visir.types import IntArray


def nearest(features_ND: Tensor, k: int, block: int = 4096) -> IntArray:
    """The k rows most similar to each row, itself first.

    Args:
        features_ND: (N, D) float32, L2-normalised.
        k: neighbours asked for, the row itself included; at most N are given.
        block: rows compared at once; memory is block x N.

    Returns:
        (N, min(k, N)) row numbers, by falling cosine, equal ones by rising row.
    """
    count = len(features_ND)
    k = min(k, count)
    found = np.empty((count, k), np.int64)
    for start in range(0, count, block):
        rows = torch.arange(start, min(start + block, count), device=features_ND.device)
        sim_BN = features_ND[rows] @ features_ND.T
        itself = torch.arange(len(rows), device=rows.device), rows
        sim_BN[itself] = torch.inf  # first, whatever the rounding
        top = sim_BN.topk(k, dim=1)
        # topk leaves ties in any order: sort by row first, then stably by similarity.
        index, order = top.indices.sort(dim=1)
        order = top.values.gather(1, order).argsort(dim=1, descending=True, stable=True)
        index = index.gather(1, order)
        tied = (sim_BN >= top.values[:, -1:]).sum(dim=1) > k  # equals were left out: which ones?
        if tied.any():
            index[tied] = sim_BN[tied].argsort(dim=1, descending=True, stable=True)[:, :k]
        found[rows.cpu().numpy()] = index.cpu().numpy()
    return found
