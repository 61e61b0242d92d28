"""How many images show people without a counterpart in the other modality, without labels."""

from __future__ import annotations

import numpy as np

from visir.cluster.margins import IR, VIS, Between, p_values, share_by_chance
from visir.cluster.matches import Side, mutual, similarity
from visir.core.types import Modality

_SCALED, _ONE_SIDED = 5, 0.1  # as the method `pairs` matches


def unpaired(vis: Side, ir: Side) -> dict[Modality, Between]:
    """Estimate the share of clustered images that show people of one modality only.

    At least those in clusters without a match, be it mutual or of one side (`matches.mutual`). At
    most the estimated share of clusters whose margin is due to chance (`margins.share_by_chance`).

    Args:
        vis: the visible images.
        ir: the infrared images.
    """
    matches = mutual(vis, ir, _SCALED, _ONE_SIDED)
    matched = {VIS: matches.vis_to_ir.any(axis=1), IR: matches.ir_to_vis.any(axis=1)}
    values = p_values(similarity(vis, ir), similarity(vis, vis), similarity(ir, ir))
    found = {}
    for modality, side in {VIS: vis, IR: ir}.items():
        sizes = np.bincount(side.labels[side.labels >= 0], minlength=side.clusters)
        least = float(sizes[~matched[modality]].sum() / max(1, sizes.sum()))
        most = share_by_chance(values[modality], sizes)
        found[modality] = Between(least, max(least, most))
    return found
