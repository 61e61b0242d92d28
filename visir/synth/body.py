"""A walking body as quadric solids: ellipsoids and truncated cones, batched over people.

The body frame has x to one side, y up from the ground, z forward; lengths are fractions of the
person's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from visir.synth.people import Material

Array = npt.NDArray[np.float64]
_Row = tuple[npt.ArrayLike, ...]
UP = np.array([0.0, 1.0, 0.0])
FRONT = np.array([0.0, 0.0, 1.0])


class BodyPart:
    """The body part a solid belongs to; patterns and straps are drawn by it."""

    LIMB, TORSO, SLEEVE = 0, 1, 2


class Solids(NamedTuple):
    """B people of P solids each: m₀x² + m₁y² + m₂z² + 2kz = 1 in the solid's own frame.

    centre (B, P, 3); axes (B, P, 3, 3): the rows are the solid's axes in the body frame; squares
    (B, P, 3): m; slope (B, P): k; clip (B, P, 2): bounds of the solid's z; extent (B, P, 3): half
    sizes of its bounding box; height (B, P): the zero of a pattern's height; on (B, P): whether the
    solid exists; material (P,); part (P,).
    """

    centre: Array
    axes: Array
    squares: Array
    slope: Array
    clip: Array
    extent: Array
    height: Array
    on: npt.NDArray[np.bool_]
    material: npt.NDArray[np.int64]
    part: npt.NDArray[np.int64]


class _Assembly:
    """Collects solids for a batch of `count` people, and makes all their frames at once."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.rows: tuple[list[_Row], list[_Row]] = ([], [])  # balls, cones
        self.tags: list[tuple[int, int, int]] = []  # whether it is a cone, material, part

    def ball(
        self,
        centre: Array,
        radii: Sequence[npt.ArrayLike],
        material: int,
        on: npt.ArrayLike = 1.0,
        axis: Array = UP,
        front: Array = FRONT,
        above: float = -1.1,
        part: int = BodyPart.LIMB,
    ) -> None:
        """Add an ellipsoid with radii (side, front, along the axis), cut below `above`·radius."""
        self.rows[0].append((centre, axis, front, *radii, on, above))
        self.tags.append((0, int(material), part))

    def cone(
        self,
        start: Array,
        end: Array,
        radii: tuple[npt.ArrayLike, npt.ArrayLike],
        material: int,
        on: npt.ArrayLike = 1.0,
        flat: npt.ArrayLike = 1.0,
        front: Array = FRONT,
        height: npt.ArrayLike | None = None,
        part: int = BodyPart.LIMB,
    ) -> None:
        """Add a truncated cone between two points; `flat` is its depth divided by its width."""
        height = (start[:, 1] + end[:, 1]) / 2 if height is None else height
        self.rows[1].append((start, end, front, *radii, flat, on, height))
        self.tags.append((1, int(material), part))

    def solids(self, ground: Array) -> Solids:
        """Return all solids, shifted so that the height `ground` (B,) becomes 0."""
        cone, material, part = np.array(self.tags, np.int64).T
        order = np.argsort(np.argsort(cone, kind="stable"))  # from balls and cones to as added
        pairs = zip(self._ellipsoids(), self._truncated_cones(), strict=True)
        columns = [np.concatenate(pair)[order].swapaxes(0, 1) for pair in pairs]
        centre, axes, squares, slope, clip, extent, height, on = columns
        centre[..., 1] -= ground[:, None]
        return Solids(centre, axes, squares, slope, clip, extent, height, on > 0, material, part)

    def _ellipsoids(self) -> tuple[Array, ...]:
        """(K, B, ...) the float fields of `Solids`, of the K ellipsoids."""
        centre, axis, front, *radii, on, above = _columns(self.rows[0], self.count)
        size = np.maximum(np.stack(radii, -1), 1e-4)
        clip, axes = np.stack([above, 0 * above + 1.1], -1) * size[..., 2:], _frame(axis, front)
        return centre, axes, size**-2, np.zeros_like(on), clip, size, centre[..., 1], on

    def _truncated_cones(self) -> tuple[Array, ...]:
        """(K, B, ...) the float fields of `Solids`, of the K cones."""
        start, end, front, first, last, flat, on, height = _columns(self.rows[1], self.count)
        first, last = np.maximum(first, 1e-4), np.maximum(last, 1e-4)
        along, wide = end - start, np.maximum(first, last)
        half = np.maximum(np.linalg.norm(along, axis=-1) / 2, 1e-4)
        middle, taper = (first + last) / 2, (last - first) / (first + last) / half
        squares = np.stack([middle**-2, (middle * flat) ** -2, -(taper**2)], -1)
        extent, clip = np.stack([wide, wide * flat, half], -1), np.stack([-half, half], -1)
        return start + along / 2, _frame(along, front), squares, -taper, clip, extent, height, on


def _columns(rows: Sequence[_Row], count: int) -> list[Array]:
    """Stack what was added: three columns (K, B, 3) of vectors, then columns (K, B)."""
    shape = (len(rows), count)
    columns = [np.empty((*shape, 3) if k < 3 else shape) for k in range(len(rows[0]))]
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        for k, value in enumerate(values):
            column[k] = value
    return columns


def _unit(vector: Array) -> Array:
    scaled: Array = vector / np.maximum(np.linalg.norm(vector, axis=-1, keepdims=True), 1e-9)
    return scaled


def _frame(axis: Array, front: Array) -> Array:
    """(..., 3, 3) rows side, front, axis: an orthonormal frame around `axis` (..., 3)."""
    along = _unit(axis)
    side = _unit(np.cross(front, along))
    return np.stack([side, np.cross(along, side), along], -2)


def _swing(angle: Array) -> Array:
    """(B, 3) direction of a hanging limb swung forward by `angle` radians."""
    return np.stack([np.zeros_like(angle), -np.cos(angle), np.sin(angle)], -1)


def build(shape: Mapping[str, Array], pose: Mapping[str, Array]) -> Solids:
    """Build the solids of B people.

    Args:
        shape: the columns of `Person.shape`, each (B,).
        pose: `phase` of the gait (radians), `stride` (1 = brisk walk), `lean` (radians), each (B,).
    """
    body = _Assembly(len(pose["phase"]))
    pelvis = np.zeros((body.count, 3))
    pelvis[:, 1] = shape["leg"] + 0.04
    ground = np.full(body.count, np.inf)
    for sign in (-1.0, 1.0):
        ground = np.minimum(ground, _leg(body, shape, pose, pelvis, sign))
    up = _unit(UP + np.stack([0 * pose["lean"], 0 * pose["lean"], np.sin(pose["lean"])], -1))
    shoulders = pelvis + (0.80 - pelvis[:, 1:2]) * up / up[:, 1:2]
    _torso(body, shape, pelvis, shoulders, up)
    _skirts(body, shape, pose, pelvis)
    _head(body, shape, shoulders, up)
    for sign in (-1.0, 1.0):
        _arm(body, shape, pose, shoulders, sign)
    _carried(body, shape, shoulders, pelvis)
    return body.solids(ground)


def _torso(
    body: _Assembly, shape: Mapping[str, Array], pelvis: Array, shoulders: Array, up: Array
) -> None:
    loose = 1 + 0.28 * (shape["loose"] - 1)
    flat = shape["depth"] / shape["waist"]
    waist = pelvis + 0.09 * up
    width, hip, middle = shape["shoulder"], shape["hip"], shape["waist"]
    body.cone(
        waist,
        shoulders,
        (middle * loose, width * loose * 0.95),
        flat=flat * 0.9,
        material=Material.UPPER,
        part=BodyPart.TORSO,
    )
    body.ball(
        shoulders - 0.004 * up,
        (width * loose * 0.98, shape["depth"] * 0.95 * loose, 0.042),
        axis=up,
        material=Material.UPPER,
        part=BodyPart.TORSO,
    )
    body.cone(
        pelvis - 0.02 * UP,
        waist + 0.01 * up,
        (hip * loose * 1.02, middle * loose * 1.01),
        flat=flat * 0.95,
        material=Material.UPPER,
        part=BodyPart.TORSO,
    )
    body.ball(pelvis - 0.02 * UP, (hip, shape["depth"] * 1.02, 0.07), Material.LOWER)
    seat = pelvis - 0.035 * UP - 0.016 * FRONT
    body.ball(seat, (hip * 0.92, shape["depth"] * 0.98, 0.055), Material.LOWER)


def _skirts(
    body: _Assembly, shape: Mapping[str, Array], pose: Mapping[str, Array], pelvis: Array
) -> None:
    """Add what hangs from the waist around both legs: the hem of a coat or shirt, a skirt."""
    loose = 1 + 0.28 * (shape["loose"] - 1)
    flat = np.clip(shape["depth"] / shape["waist"] * 1.15, 0.75, 1.0)
    spread = 0.5 * np.abs(np.sin(pose["phase"])) * pose["stride"]  # of the legs, per length
    drop = pelvis[:, 1] - 0.02 - shape["hem"]
    end = pelvis * (1, 0, 1) + shape["hem"][:, None] * UP
    wide = shape["hip"] * loose * 1.03
    body.cone(
        pelvis - 0.01 * UP,
        end,
        (wide, np.maximum(wide * (1 + 0.5 * drop), 0.05 + 0.8 * spread * drop)),
        Material.UPPER,
        on=drop > 0.005,
        flat=flat,
        part=BodyPart.TORSO,
    )
    reach = pelvis[:, 1] - shape["skirt"]
    hem = pelvis * (1, 0, 1) + shape["skirt"][:, None] * UP
    natural = shape["hip"] * (1 + (shape["flare"] - 1) * np.minimum(1, reach * 3))
    body.cone(
        pelvis + 0.02 * UP,
        hem,
        (shape["hip"], np.maximum(natural, 0.045 + spread * reach)),
        Material.LOWER,
        on=shape["skirt"] > 0,
        flat=np.clip(flat * 1.1, 0.85, 1.0),
    )


def _head(body: _Assembly, shape: Mapping[str, Array], shoulders: Array, up: Array) -> None:
    size = shape["head"]
    top = shoulders + 0.01 * UP
    centre = shoulders + (0.2 - size)[:, None] * UP + 0.012 * FRONT + (up - UP) * 0.1
    body.cone(
        top - 0.02 * UP, centre, (0.034 * shape["limb"], 0.031 * shape["limb"]), Material.SKIN
    )
    body.ball(centre, (size * 0.74, size * 0.9, size), Material.SKIN)
    thick = shape["volume"]
    hair = np.array([0.0, 0.93, -0.37])
    body.ball(
        centre + 0.004 * UP,
        (size * 0.77 * thick, size * 0.99 * thick, size * 0.97 * thick),
        Material.HAIR,
        on=1 - shape["bald"],
        axis=hair,
        above=-0.12,
    )
    back = centre - size[:, None] * (0.5 * FRONT)
    length = size * (0.9 + shape["long"])
    body.ball(
        back - (length * 0.55)[:, None] * UP,
        (size * 0.8 * thick, size * 0.5, length),
        Material.HAIR,
        on=shape["long"] > 0,
    )
    bun = centre + size[:, None] * (0.62 * UP - 0.85 * FRONT)
    body.ball(bun, (size * 0.42, size * 0.42, size * 0.42), Material.HAIR, on=shape["bun"])
    tail = size * 0.95 * shape["tail"]
    hang = centre - size[:, None] * (1.08 * FRONT + 0.45 * UP)
    body.ball(hang, (size * 0.28, size * 0.28, tail), Material.HAIR, on=shape["tail"] > 0)
    wide = np.where(shape["hat"] == 2, 1.55, 0.85) * size
    body.ball(
        centre + 0.3 * size[:, None] * UP,
        (size * 0.9, size * 1.06, size * 0.95),
        Material.HAT,
        on=shape["hat"] > 0,
        above=-0.02,
    )
    peak = np.where(shape["hat"] == 2, 0.0, 0.75) * size
    body.ball(
        centre + (0.32 * size)[:, None] * UP + peak[:, None] * FRONT,
        (wide, wide, size * 0.09),
        Material.HAT,
        on=shape["hat"] > 0,
    )
    body.ball(top + 0.012 * UP, (0.055, 0.055, 0.032), Material.SCARF, on=shape["scarf"])
    hood = shoulders - 0.045 * FRONT + 0.022 * UP
    body.ball(hood, (0.062, 0.042, 0.042), Material.UPPER, on=shape["hood"])


def _arm(
    body: _Assembly,
    shape: Mapping[str, Array],
    pose: Mapping[str, Array],
    shoulders: Array,
    sign: float,
) -> None:
    carrying = (shape["handbag"] + shape["case"]) * (shape["side"] == sign)
    amount = pose["stride"] * (1 - 0.75 * carrying)
    swing = 0.55 * amount * np.sin(pose["phase"] + (np.pi if sign > 0 else 0.0))
    bend = (0.18 + 0.35 * np.maximum(0, swing) + 0.15 * amount) * (1 - 0.7 * carrying)
    out = np.array([sign, 0.0, 0.0]) * (0.10 + 0.03 * shape["girth"])[:, None]
    thick = shape["limb"]
    start = shoulders + np.array([sign, 0, 0]) * (shape["shoulder"] * 0.93)[:, None] - 0.018 * UP
    elbow = start + 0.168 * _unit(_swing(swing) + out)
    wrist = elbow + 0.150 * _unit(_swing(swing + bend) + 0.3 * out)
    hand = wrist + 0.035 * _unit(wrist - elbow)
    radii = (0.0275 * thick, 0.024 * thick, 0.018 * thick)
    loose = np.minimum(shape["loose"], 1 + 0.9 * (shape["loose"] - 1))
    body.ball(start, (0.031 * thick * loose,) * 3, Material.UPPER, part=BodyPart.SLEEVE)
    body.cone(start, elbow, radii[:2], Material.SKIN)
    body.ball(elbow, (0.0235 * thick,) * 3, Material.SKIN)
    body.cone(elbow, wrist, radii[1:], Material.SKIN)
    body.ball(hand, (0.016, 0.026, 0.042), Material.SKIN, axis=wrist - elbow)
    share = np.clip(shape["sleeve"] / 0.53, 0, 1)
    end = start + share[:, None] * (elbow - start)
    tip = loose * (radii[0] * (1 - share) + radii[1] * share) + 0.004
    level = start[:, 1]
    upper = (0.032 * thick * loose, tip)
    sleeve = BodyPart.SLEEVE
    body.cone(start, end, upper, Material.UPPER, height=level - 0.084 * share, part=sleeve)
    below = np.clip((shape["sleeve"] - 0.53) / 0.47, 0, 1)
    body.ball(elbow, (tip,) * 3, Material.UPPER, on=below > 0, part=sleeve)
    cuff = elbow + below[:, None] * (wrist - elbow)
    cuffs = (tip, loose * radii[2] * 1.15 + 0.003)
    low = level - 0.168 - 0.075 * below
    body.cone(elbow, cuff, cuffs, Material.UPPER, on=below > 0, height=low, part=sleeve)
    held = hand - 0.02 * UP
    size = shape["bag_size"]
    mine = shape["side"] == sign
    bag = held - (0.085 * size)[:, None] * UP
    on = shape["handbag"] * mine
    body.ball(bag, (0.028 * size, 0.085 * size, 0.065 * size), Material.BAG, on=on)
    body.cone(
        held - 0.05 * UP,
        held + 0.02 * UP,
        (0.03, 0.008),
        Material.BAG,
        on=on,
        flat=0.25,
        front=np.array([1.0, 0, 0]),
    )
    case = held - (0.12 * size)[:, None] * UP
    on = shape["case"] * mine
    body.ball(case, (0.035, 0.12 * size, 0.095 * size), Material.BAG, on=on)


def _leg(
    body: _Assembly,
    shape: Mapping[str, Array],
    pose: Mapping[str, Array],
    pelvis: Array,
    sign: float,
) -> Array:
    """Add one leg; return (B,) the height of its sole."""
    phase = pose["phase"] + (0.0 if sign > 0 else np.pi)
    swing = 0.42 * pose["stride"] * np.sin(phase) + 0.04
    bend = 0.08 + pose["stride"] * (0.75 * np.maximum(0, np.cos(phase)) ** 1.5 + 0.05)
    long, thick = shape["leg"] / 2, shape["limb"]
    start = pelvis + np.array([sign, 0, 0]) * (shape["hip"] * 0.5)[:, None] - 0.02 * UP
    knee = start + (long - 0.02)[:, None] * _swing(swing)
    ankle = knee + long[:, None] * _swing(swing - bend)
    thigh, joint, end = 0.052 * thick, 0.034 * thick, 0.021 * thick
    body.cone(start, knee, (thigh * 0.95, joint), Material.SKIN)
    body.ball(knee, (joint,) * 3, Material.SKIN)
    body.cone(knee, ankle, (joint, end), Material.SKIN)
    wide, share = shape["wide"], shape["trouser"]
    upper = np.clip(share / 0.5, 0, 1)
    high = start + upper[:, None] * (knee - start)
    tip = (joint * upper + thigh * (1 - upper)) * (1 + 0.5 * (wide - 1)) + 0.004
    level = start[:, 1]
    middle = level - long * upper / 2
    body.cone(start, high, (thigh * 1.05, tip), Material.LOWER, on=share > 0, height=middle)
    lower = np.clip((share - 0.5) / 0.5, 0, 1)
    body.ball(knee, (tip,) * 3, Material.LOWER, on=lower > 0.3)
    low = knee + (0.97 * lower)[:, None] * (ankle - knee)
    cuff = (joint * (1 - lower) + end * 1.25 * lower) * wide + 0.003
    middle = level - long * (1 + lower / 2)
    body.cone(knee, low, (tip, cuff), Material.LOWER, on=lower > 0, height=middle)
    for material, reach, over in ((Material.SOCKS, "sock", 1.06), (Material.SHOES, "boot", 1.3)):
        part = shape[reach] / long
        size = (end * over + 0.001, (end + (joint - end) * part) * over + 0.001)
        top = ankle + part[:, None] * (knee - ankle)
        body.cone(ankle, top, size, material, on=part > 0)
    toes = _swing(swing * 0.5 - 0.55 * bend + np.pi / 2)
    sole = shape["sole"]
    shoe = ankle + 0.026 * toes - 0.014 * UP
    radii = (0.027 * sole, 0.026 * sole, 0.068 * sole**0.3)
    body.ball(shoe, radii, Material.SHOES, axis=toes, front=UP)
    heel: Array = ankle[:, 1] - 0.04 - 0.02 * np.maximum(0, -toes[:, 1])
    return heel


def _carried(body: _Assembly, shape: Mapping[str, Array], shoulders: Array, pelvis: Array) -> None:
    size = shape["bag_size"]
    back = shape["depth"] + 0.035 * size
    pack = (shoulders + pelvis) / 2 - back[:, None] * FRONT + 0.035 * UP
    body.ball(pack, (0.085 * size, 0.055 * size, 0.12 * size), Material.BAG, on=shape["backpack"])
    pocket = pack - (0.035 * size)[:, None] * FRONT - (0.045 * size)[:, None] * UP
    body.ball(pocket, (0.06 * size, 0.04 * size, 0.05 * size), Material.BAG, on=shape["backpack"])
    hip = pelvis + (shape["side"] * (shape["hip"] + 0.035))[:, None] * np.array([1.0, 0, 0])
    bag = (0.032 * size, 0.085 * size, 0.065 * size)
    body.ball(hip - 0.01 * UP, bag, Material.BAG, on=shape["sling"])
