"""The appearance of a point of the body: straps, open jackets, patterns, folds of cloth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from visir.synth.body import BodyPart
from visir.synth.people import DYE, PATTERN, PERIOD, PHASE, SHARE, Material, Pattern


class Spots(NamedTuple):
    """N points on bodies.

    image (N,): row of the batch; material (N,); part (N,): `BodyPart`; point (N, 3): in the solid's
    frame; side (N,): angle around the solid, 0 at the front; level (N,): height on the body; radius
    (N,): of the solid. Lengths are fractions of the person's height.
    """

    image: Tensor
    material: Tensor
    part: Tensor
    point: Tensor
    side: Tensor
    level: Tensor
    radius: Tensor


def worn_over(spots: Spots, shape: Mapping[str, np.ndarray]) -> Tensor:
    """(N,) material, with the straps of bags over the torso and the shirt under an open jacket."""
    worn = np.stack([shape[name] for name in ("backpack", "sling", "side", "open")], 1)
    columns = torch.from_numpy(worn).float().to(spots.image.device)[spots.image]
    backpack, sling, hand, opening = columns.unbind(1)
    torso, front = spots.part == BodyPart.TORSO, spots.point[:, 1] > 0
    x, level = spots.point[:, 0], spots.level
    pair = (backpack > 0) & front & ((x.abs() - 0.062).abs() < 0.011) & (level > 0.62)
    across = (sling > 0) & ((x * hand + (level - 0.665) * 0.72).abs() < 0.011) & (level > 0.5)
    gap = torso & front & (x.abs() < opening)
    material = torch.where(gap, int(Material.INNER), spots.material)
    return torch.where(torso & (pair | across), int(Material.BAG), material)


def folds(spots: Spots) -> Tensor:
    """(N,) factor of the light for the creases of cloth; 1 on skin and hair."""
    along = torch.sin(40 * spots.level + 3 * spots.side + 5 * torch.sin(21 * spots.level))
    return 1 + 0.1 * along * torch.sin(3 * spots.side) * (spots.material > Material.HAIR)


def dyes(materials: Tensor, spots: Spots) -> Tensor:
    """(N, DYE) the dye of each point, by the pattern of its material.

    Args:
        materials: (B, len(Material), FIELDS), as `Person.materials`.
        spots: N points of those B people.
    """
    own = materials.flatten(0, 1)[spots.image * len(Material) + spots.material]
    pattern_of, period, share, phase = (own[:, k] for k in (PATTERN, PERIOD, SHARE, PHASE))
    level, radius = spots.level, spots.radius
    u, v = spots.side * radius / period + phase, level / period + phase
    u_part, v_part = u - u.floor(), v - v.floor()
    torso, front = spots.part == BodyPart.TORSO, spots.point[:, 1] > 0
    x, y = spots.point[:, 0], spots.point[:, 1]
    wave = torch.sin(6.3 * u + 2 * torch.sin(4.1 * v)) + torch.sin(5.1 * v + 2 * torch.sin(3.7 * u))
    emblem = (x / 0.055) ** 2 + ((level - 0.70) / 0.045) ** 2 < 0.6 + share
    rules = {
        Pattern.HORIZONTAL: v_part < share,
        Pattern.VERTICAL: u_part < share,
        Pattern.CHECKS: (u_part < share) ^ (v_part < share),
        Pattern.HALVES: level > 0.60 + 0.18 * phase,
        Pattern.CHEST_BAND: (level - 0.66 - 0.08 * phase).abs() < 0.02 + 0.05 * share,
        Pattern.LOGO: torso & ((phase < 0.35) ^ front) & emblem,
        Pattern.DOTS: (u_part - 0.5) ** 2 + (v_part - 0.5) ** 2 < 0.3 * share,
        Pattern.CAMOUFLAGE: wave > 0.2,
        Pattern.SLEEVES: spots.part == BodyPart.SLEEVE,
        Pattern.SIDE_STRIPE: (x.abs() > 0.8 * radius) & (y.abs() < 0.5 * radius),
    }
    second = torch.zeros_like(torso)
    for pattern, rule in rules.items():
        second |= (pattern_of == int(pattern)) & rule
    return torch.where(second[:, None], own[:, DYE : 2 * DYE], own[:, :DYE])
