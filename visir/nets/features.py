"""The output of every network, and the use of two stems."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from visir.core.device import to_device


class Features(NamedTuple):
    """The output of every network, in training and in evaluation.

    embedding: (B, N * dim), the concatenated tokens after their bottlenecks, not normalised;
    tokens: (B, N, dim), the tokens before their bottlenecks (features of strips have none);
    maps: (B, C, rows, columns), the last map of a ResNet; None for a transformer.
    """

    embedding: Tensor
    tokens: Tensor
    maps: Tensor | None = None


def by_stem(vis_stem: nn.Module, ir_stem: nn.Module, images: Tensor, infrared: Tensor) -> Tensor:
    """Pass each image of a mixed batch through the stem of its modality, keeping the order.

    Args:
        vis_stem: for visible images.
        ir_stem: for infrared images.
        images: (B, 3, H, W), normalised.
        infrared: (B,) bool; in the memory of the CPU, as the program waits for another device.
    """
    if infrared.all():
        return ir_stem(images)  # type: ignore[no-any-return]
    if not infrared.any():
        return vis_stem(images)  # type: ignore[no-any-return]
    vis_rows, ir_rows = (
        to_device(chosen.nonzero()[:, 0], images.device) for chosen in (~infrared, infrared)
    )
    vis, ir = vis_stem(images[vis_rows]), ir_stem(images[ir_rows])
    mixed = torch.cat([vis.detach(), ir.detach()])  # to be filled; keeps the order in memory
    mixed[vis_rows], mixed[ir_rows] = vis, ir
    return mixed
