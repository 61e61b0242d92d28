"""Which visible cluster and which infrared cluster are one person."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visir.types import IntArray


def count_priority(
    vis_ND: Tensor, ir_MD: Tensor, vis_labels: IntArray, ir_labels: IntArray,
    threshold: float = 0.5, block: int = 4096,
) -> IntArray:  # fmt: skip
    """Count-priority selection (ADCA, Sec. 3.3): one-to-one, by how many image pairs agree.

    Image pairs with a cosine of at least `threshold` vote for their pair of clusters; pairs of
    clusters are accepted by falling votes while neither side is taken. Ties go to the lower
    visible, then the lower infrared label.

    Args:
        vis_ND: (N, D) features of visible images.
        ir_MD: (M, D) features of infrared images.
        vis_labels: (N,) pseudo-labels, -1 for outliers, which do not vote.
        ir_labels: (M,) the same for infrared images.
        threshold: least cosine of a vote.
        block: visible rows compared at once.

    Returns:
        (number of visible clusters,) infrared partner of each, -1 where there is none.
    """
    vis_count, ir_count = vis_labels.max(initial=-1) + 1, ir_labels.max(initial=-1) + 1
    votes = torch.zeros(vis_count, ir_count, device=vis_ND.device)
    kept_ir = torch.from_numpy(np.flatnonzero(ir_labels >= 0)).to(vis_ND.device)
    target_ir = torch.from_numpy(ir_labels).to(vis_ND.device)[kept_ir]
    kept_vis = np.flatnonzero(vis_labels >= 0)
    for start in range(0, len(kept_vis), block):
        rows = torch.from_numpy(kept_vis[start : start + block]).to(vis_ND.device)
        agree = (vis_ND[rows] @ ir_MD[kept_ir].T >= threshold).float()
        per_cluster = votes.new_zeros(len(rows), ir_count).index_add_(1, target_ir, agree)
        target_vis = torch.from_numpy(vis_labels).to(vis_ND.device)[rows]
        votes.index_add_(0, target_vis, per_cluster)
    return _by_falling_votes(votes.cpu().numpy())


def _by_falling_votes(votes: np.ndarray) -> IntArray:
    partner = np.full(votes.shape[0], -1, np.int64)
    taken = np.zeros(votes.shape[1], bool)
    vis, ir = np.nonzero(votes)
    for pair in np.argsort(-votes[vis, ir], kind="stable"):
        if partner[vis[pair]] < 0 and not taken[ir[pair]]:
            partner[vis[pair]] = ir[pair]
            taken[ir[pair]] = True
    return partner
