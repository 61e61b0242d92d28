"""What every network returns, and what networks of two stems have in common."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Features(NamedTuple):
    """What every network returns, in training and in evaluation.

    embedding: (B, N * dim), the bottlenecked tokens side by side, not normalised;
    tokens: (B, N, dim), the same before their bottlenecks (embeddings of strips have none);
    maps: (B, C, rows, columns), a ResNet's last map; None of a transformer.
    """

    embedding: Tensor
    tokens: Tensor
    maps: Tensor | None = None


def by_stem(vis_stem: nn.Module, ir_stem: nn.Module, images: Tensor, infrared: Tensor) -> Tensor:
    """A mixed batch through the stem of each image's modality, in the order given.

    Args:
        vis_stem: for visible images.
        ir_stem: for infrared images.
        images: (B, 3, H, W), normalised.
        infrared: (B,) bool.
    """
    if infrared.all():
        return ir_stem(images)  # type: ignore[no-any-return]
    if not infrared.any():
        return vis_stem(images)  # type: ignore[no-any-return]
    vis, ir = vis_stem(images[~infrared]), ir_stem(images[infrared])
    mixed: Tensor = vis.new_empty(len(images), *vis.shape[1:])
    mixed[~infrared], mixed[infrared] = vis, ir
    return mixed
