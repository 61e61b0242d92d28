"""How many images show people without a counterpart in the other modality, without labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visir.cluster.margins import IR, VIS, p_values, share_by_chance
from visir.cluster.matches import Side, mutual
from visir.cluster.memory import prototypes
from visir.core.types import IntArray, Modality

_SCALED, _ONE_SIDED = 5, 0.1  # as the method `pairs` matches
_MAY_BE_ONE = 0.5  # cosine of two clusters of a modality above which both may show one person


class Between(NamedTuple):
    """Two shares, 0 to 1; the truth is thought to lie between them."""

    least: float
    most: float


def unpaired(vis: Side, ir: Side) -> dict[Modality, Between]:
    """Estimate the share of clustered images that show people of one modality only.

    At least those in clusters without a match, be it mutual or of one side (`matches.mutual`), that
    no matched cluster of their modality is like: that one may show the same person. At most the
    estimated share of clusters whose margin is due to chance (`margins.share_by_chance`).

    Args:
        vis: the visible images.
        ir: the infrared images.
    """
    matches = mutual(vis, ir, _SCALED, _ONE_SIDED)
    matched = {VIS: matches.vis_to_ir.nonzero()[0], IR: matches.ir_to_vis.nonzero()[0]}
    centres = {VIS: prototypes(*vis), IR: prototypes(*ir)}
    values = p_values(centres[VIS], centres[IR])
    found = {}
    for modality, side in {VIS: vis, IR: ir}.items():
        sizes = np.bincount(side.labels[side.labels >= 0], minlength=side.clusters)
        alone = _unlike(centres[modality], matched[modality])
        least = float(sizes[alone].sum() / max(1, sizes.sum()))
        most = share_by_chance(values[modality], sizes)
        found[modality] = Between(least, max(least, most))
    return found


def _unlike(centres: Tensor, matched: IntArray) -> IntArray:
    """Numbers of the clusters without a match that no matched one is like.

    Args:
        centres: (C, D) unit prototypes of a modality.
        matched: numbers of those with a match.
    """
    alone = np.setdiff1d(np.arange(len(centres)), matched)
    like = centres[torch.from_numpy(alone)] @ centres[torch.from_numpy(matched)].T >= _MAY_BE_ONE
    unlike: IntArray = alone[~like.any(dim=1).cpu().numpy()]
    return unlike
