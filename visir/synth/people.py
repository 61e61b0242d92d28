"""Identities: a body, clothes and carried items, each with materials for every sensor.

A material is a row of `FIELDS` numbers: two dyes (visible colour, near-infrared reflectance,
warmth), the pattern they form, and how wide it is open at the front. All lengths are fractions of
the person's height.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

from visir.core.types import FloatArray

PERSON, CAMERA, IMAGE, SCENE, LAYOUT = range(1, 6)  # the use of a random stream


class Material(IntEnum):
    """Rows of `Person.materials`."""

    SKIN = 0
    HAIR = 1
    UPPER = 2
    INNER = 3
    LOWER = 4
    SHOES = 5
    SOCKS = 6
    BAG = 7
    HAT = 8
    SCARF = 9


class Pattern(IntEnum):
    """The pattern of a material's second dye on its first."""

    PLAIN = 0
    HORIZONTAL = 1
    VERTICAL = 2
    CHECKS = 3
    HALVES = 4
    CHEST_BAND = 5
    LOGO = 6
    DOTS = 7
    CAMOUFLAGE = 8
    SLEEVES = 9
    SIDE_STRIPE = 10


# one dye: red, green, blue albedo (linear), near-infrared reflectance, warmth (0 air .. 1 skin)
DYE = 5
FIELDS = 2 * DYE + 5  # two dyes, then: pattern, period, share of dye 2, phase, open front
PATTERN, PERIOD, SHARE, PHASE, OPEN = range(2 * DYE, FIELDS)
_WARMTH, _MILD = 4, 0.45  # column of a dye; warmth of common clothes

_NEUTRAL = np.array(
    [
        (0.02, 0.02, 0.02),
        (0.06, 0.06, 0.065),
        (0.16, 0.16, 0.17),
        (0.36, 0.36, 0.36),
        (0.75, 0.75, 0.73),
        (0.02, 0.03, 0.10),
        (0.08, 0.13, 0.26),
        (0.45, 0.37, 0.24),
        (0.14, 0.08, 0.04),
    ]
)
_SKIN = np.array([(0.62, 0.42, 0.32), (0.48, 0.29, 0.19), (0.28, 0.15, 0.09), (0.12, 0.06, 0.04)])
_HAIR = np.array(
    [
        (0.01, 0.01, 0.01),
        (0.04, 0.025, 0.015),
        (0.12, 0.06, 0.03),
        (0.4, 0.3, 0.14),
        (0.4, 0.4, 0.4),
    ]
)
_UPPER_PATTERNS = (0.34, 0.11, 0.06, 0.08, 0.09, 0.08, 0.07, 0.04, 0.04, 0.09, 0.0)
_LOWER_PATTERNS = (0.68, 0.02, 0.04, 0.06, 0.0, 0.0, 0.0, 0.02, 0.06, 0.0, 0.12)
_PERIODS = {
    Pattern.HORIZONTAL: (0.035, 0.10),
    Pattern.VERTICAL: (0.025, 0.07),
    Pattern.CHECKS: (0.04, 0.09),
    Pattern.DOTS: (0.04, 0.08),
    Pattern.CAMOUFLAGE: (0.05, 0.10),
}


@dataclass(frozen=True, slots=True)
class Person:
    """One identity: the numbers of the body's shape, and (len(Material), FIELDS) materials."""

    shape: Mapping[str, float]
    materials: FloatArray


@lru_cache(maxsize=2048)
def person(seed: int, pid: int, nir_follows: float, warmth: float = 1.0) -> Person:
    """Make the identity `pid` of the world `seed`; its appearance depends on nothing else.

    Args:
        seed: seed of the data set.
        pid: number of the identity.
        nir_follows: share of near-infrared brightness that follows visible brightness, 0..1.
        warmth: factor of the differences in temperature between clothes.
    """
    rng = np.random.default_rng([seed, PERSON, pid])
    shape = _body(rng) | _hair(rng) | _clothes(rng) | _carried(rng)
    materials = _materials(rng, shape, nir_follows)
    if warmth != 1:
        clothes = [m for m in Material if m not in (Material.SKIN, Material.HAIR)]
        for column in (_WARMTH, DYE + _WARMTH):
            worn = materials[clothes, column]
            materials[clothes, column] = _MILD + warmth * (worn - _MILD)
    return Person(shape, materials)


def _body(rng: np.random.Generator) -> dict[str, float]:
    height = float(np.clip(rng.normal(1.72, 0.10), 1.48, 1.98))
    girth = float(np.clip(rng.lognormal(0.0, 0.15), 0.8, 1.55))
    return {
        "height": height,
        "girth": girth,
        "shoulder": float(rng.normal(0.112, 0.008)) * girth**0.25,
        "hip": float(rng.normal(0.082, 0.006)) * girth**0.4,
        "waist": float(rng.normal(0.072, 0.005)) * girth**0.6,
        "depth": float(rng.normal(0.060, 0.004)) * girth**0.7,
        "limb": float(rng.normal(1.0, 0.07)) * girth**0.4,
        "head": 0.066 * (1.72 / height) ** 0.6 * float(rng.normal(1.0, 0.03)),
        "leg": float(rng.normal(0.485, 0.012)),
    }


def _hair(rng: np.random.Generator) -> dict[str, float]:
    style = rng.choice(5, p=(0.1, 0.36, 0.26, 0.12, 0.16))  # bald short long bun ponytail
    return {
        "bald": float(style == 0),
        "long": float(style == 2) * rng.uniform(0.6, 1.35),
        "bun": float(style == 3),
        "tail": float(style == 4) * rng.uniform(0.7, 1.2),
        "volume": rng.uniform(1.03, 1.18),
    }


def _clothes(rng: np.random.Generator) -> dict[str, float]:
    upper = rng.choice(5, p=(0.28, 0.17, 0.17, 0.2, 0.18))  # T-shirt shirt hoodie jacket coat
    lower = rng.choice(5, p=(0.3, 0.26, 0.17, 0.15, 0.12))  # slim wide shorts skirt long skirt
    sleeve = (
        rng.uniform(0.16, 0.42) if upper == 0 else (1.0, rng.uniform(0.5, 0.6))[rng.random() < 0.15]
    )
    loose = (1.15, 1.15, 1.35, 1.35, 1.45)[upper] * rng.uniform(0.93, 1.12)
    hem = rng.uniform(0.30, 0.40) if upper == 4 else rng.uniform(0.46, 0.53)
    if upper == 4 and rng.random() < 0.35:
        hem = rng.uniform(0.20, 0.28)
    return {
        "upper": float(upper),
        "sleeve": float(sleeve),
        "loose": float(loose),
        "hem": float(hem),
        "hood": float(upper == 2 or (upper >= 3 and rng.random() < 0.25)),
        "open": float(rng.uniform(0.03, 0.07)) * float(upper >= 3 and rng.random() < 0.6),
        "trouser": float((1.0, 1.0, rng.uniform(0.42, 0.58), 0.0, 0.0)[lower]),
        "wide": float((rng.uniform(0.95, 1.1), rng.uniform(1.3, 1.75), 1.45, 1.0, 1.0)[lower]),
        "skirt": float((0, 0, 0, rng.uniform(0.26, 0.36), rng.uniform(0.07, 0.16))[lower]),
        "flare": float(rng.uniform(1.1, 1.7)),
        "boot": float(rng.random() < 0.22) * float(rng.uniform(0.08, 0.2)),
        "sock": float(rng.choice((0.0, 0.06, 0.14))),
        "sole": float(rng.uniform(0.9, 1.25)),
    }


def _carried(rng: np.random.Generator) -> dict[str, float]:
    carried = rng.choice(5, p=(0.34, 0.22, 0.18, 0.16, 0.10))  # none backpack shoulder hand case
    side = rng.choice((-1.0, 1.0))
    return {
        "backpack": float(carried == 1),
        "sling": float(carried == 2),
        "handbag": float(carried == 3),
        "case": float(carried == 4),
        "side": float(side),
        "bag_size": float(rng.uniform(0.75, 1.35)),
        "hat": float(rng.choice((0.0, 1.0, 2.0), p=(0.8, 0.12, 0.08))),  # none, cap, brim
        "scarf": float(rng.random() < 0.12),
    }


def _dye(
    rng: np.random.Generator, rgb: FloatArray, warmth: float, nir_follows: float
) -> FloatArray:
    brightness = float(np.sqrt(rgb @ (0.2126, 0.7152, 0.0722)))
    nir = nir_follows * brightness + (1 - nir_follows) * rng.uniform(0.05, 1.0)
    return np.array([*rgb, nir**2, warmth], np.float32)


def _cloth_colour(rng: np.random.Generator) -> FloatArray:
    """Draw a linear RGB albedo; half of all clothes are black, grey, white, blue or brown."""
    if rng.random() < 0.5:
        base = _NEUTRAL[rng.integers(len(_NEUTRAL))] * rng.uniform(0.8, 1.25)
    else:
        hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.1, 0.6), rng.uniform(0.25, 1.0)
        wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
        base = (value * (1 - saturation + saturation * wheel)) ** 2
    albedo: FloatArray = np.clip(base * rng.uniform(0.9, 1.1, 3), 0.012, 0.85).astype(np.float32)
    return albedo


def _materials(
    rng: np.random.Generator, shape: Mapping[str, float], nir_follows: float
) -> FloatArray:
    table = np.zeros((len(Material), FIELDS), np.float32)
    upper_warmth = (0.66, 0.6, 0.5, 0.42, 0.34)[int(shape["upper"])] + rng.normal(0, 0.05)
    warmths = {
        Material.UPPER: upper_warmth,
        Material.INNER: upper_warmth + 0.2,
        Material.LOWER: rng.uniform(0.42, 0.66),
        Material.SHOES: rng.uniform(0.28, 0.42),
        Material.SOCKS: 0.6,
        Material.BAG: rng.uniform(0.16, 0.26),
        Material.HAT: rng.uniform(0.38, 0.5),
        Material.SCARF: rng.uniform(0.4, 0.5),
    }
    for material, warmth in warmths.items():
        first = _dye(rng, _cloth_colour(rng), warmth, nir_follows)
        second = _dye(rng, _cloth_colour(rng), warmth + rng.normal(0, 0.05), nir_follows)
        table[material, : 2 * DYE] = np.concatenate([first, second])
    skin = _SKIN[rng.integers(len(_SKIN))] * rng.uniform(0.85, 1.15)
    table[Material.SKIN, :DYE] = [*skin, rng.uniform(0.5, 0.6), rng.uniform(0.92, 1.0)]
    hair = _HAIR[rng.choice(len(_HAIR), p=(0.35, 0.25, 0.18, 0.12, 0.1))] * rng.uniform(0.8, 1.2)
    table[Material.HAIR, :DYE] = [*hair, rng.uniform(0.06, 0.3), rng.uniform(0.5, 0.62)]
    table[Material.UPPER, PATTERN:] = _pattern(rng, _UPPER_PATTERNS, shape["open"])
    table[Material.LOWER, PATTERN:] = _pattern(rng, _LOWER_PATTERNS, 0.0)
    table[Material.INNER, PATTERN:] = _pattern(rng, _UPPER_PATTERNS, 0.0)
    if rng.random() < 0.3:
        table[Material.SCARF, PATTERN:] = (Pattern.HORIZONTAL, 0.04, 0.5, 0.0, 0.0)
    return table


def _pattern(
    rng: np.random.Generator, chances: tuple[float, ...], opening: float
) -> tuple[float, ...]:
    pattern = Pattern(int(rng.choice(len(chances), p=chances)))
    period = rng.uniform(*_PERIODS.get(pattern, (0.06, 0.1)))
    return (float(pattern), period, rng.uniform(0.3, 0.6), rng.uniform(0, 1), opening)
