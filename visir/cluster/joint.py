"""One clustering of both modalities, as an association of clusters.

In a common clustering the neighbours of an image are mostly of its own modality. Here half of them
are of each: the modality-aware Jaccard distance of BMIL (Wang et al., AAAI 2026), from the formula.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from visir.cluster.jaccard import jaccard_graph
from visir.cluster.labels import dbscan
from visir.cluster.matches import Association, Side
from visir.cluster.neighbors import nearest, nearest_across
from visir.core.types import IntArray


def balanced_neighbours(vis_VD: Tensor, ir_ID: Tensor, k: int) -> IntArray:
    """Neighbours of every image, alternately of its own modality and of the other one.

    Args:
        vis_VD: (V, D) float32 features of length 1.
        ir_ID: (I, D), the same.
        k: neighbours, the image itself included; fewer if a modality has less than half as many.

    Returns:
        (V + I, k) rows of both together, the image itself first.
    """
    half = min((k + 1) // 2, len(vis_VD), len(ir_ID))
    shift = len(vis_VD)
    own = [nearest(vis_VD, half), nearest(ir_ID, half) + shift]
    other = [nearest_across(vis_VD, ir_ID, half) + shift, nearest_across(ir_ID, vis_VD, half)]
    turns = [np.stack(of, axis=2).reshape(-1, 2 * half) for of in zip(own, other, strict=True)]
    return np.concatenate(turns)[:, :k]


def joint(
    vis: Side, ir: Side, eps: float, min_samples: int = 4, k1: int = 30, k2: int = 6
) -> Association:
    """Match clusters whose images one clustering of both modalities puts together.

    The weight of a match is how likely an image of the one cluster is in a common cluster with an
    image of the other, drawn from the common cluster's images of that modality.

    Args:
        vis: the visible images.
        ir: the infrared images.
        eps: maximum Jaccard distance of neighbours, for DBSCAN.
        min_samples: neighbours of a core point, itself included.
        k1: k-reciprocal neighbourhood size, half of each modality.
        k2: query-expansion size, half of each modality.
    """
    ranks_NK = balanced_neighbours(vis.features, ir.features, k1)
    features = torch.cat([vis.features, ir.features])
    common = dbscan(jaccard_graph(features, eps, ranks_NK.shape[1], k2, ranks_NK), min_samples)
    count, sides = int(common.max(initial=-1)) + 1, (vis, ir)
    parts = np.split(common, [len(vis.labels)])
    shared = [_counts(side, part, count) for side, part in zip(sides, parts, strict=True)]
    within = [table / np.maximum(table.sum(axis=0), 1) for table in shared]
    outward = [table / _sizes(side)[:, None] for table, side in zip(shared, sides, strict=True)]
    return Association(
        (outward[0] @ within[1].T).astype(np.float32),
        (outward[1] @ within[0].T).astype(np.float32),
    )


def _counts(side: Side, common: IntArray, number: int) -> np.ndarray:
    """(C, number) images of each cluster that are in each common cluster."""
    table = np.zeros((side.clusters, number))
    both = (side.labels >= 0) & (common >= 0)
    np.add.at(table, (side.labels[both], common[both]), 1)
    return table


def _sizes(side: Side) -> IntArray:
    return np.bincount(side.labels[side.labels >= 0], minlength=side.clusters)
