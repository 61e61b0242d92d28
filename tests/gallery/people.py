"""Vectors that look like those of people: around a centre each, near a low-dimensional plane."""

import numpy as np

from visir.core.types import Modality
from visir.gallery.store import ModelId
from visir.sources.crop import Entry

WIDTH = 48
MODEL = ModelId("a" * 64, "adca", WIDTH, (64, 32), True)
SIDES = (Modality.VISIBLE, Modality.INFRARED)


def vectors(count: int, seed: int = 0, width: int = WIDTH, people: int = 40) -> np.ndarray:
    """(count, width) unit rows; the same people for every seed."""
    plane = np.random.default_rng(1).normal(size=(12, width))
    centres = np.random.default_rng(2).normal(size=(people, 12))
    rng = np.random.default_rng(seed)
    rows = (centres[rng.integers(people, size=count)] + 0.6 * rng.normal(size=(count, 12))) @ plane
    rows += 0.05 * rng.normal(size=rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def entries(count: int, start: int = 0) -> list[Entry]:
    """Sources, cameras, modalities, times and tags in turn; every tenth has no time."""
    return [
        Entry(
            f"crops/{n}.jpg", f"cam{n % 4}", SIDES[n % 2], None if n % 10 == 9 else 1000.0 + n,
            ("gate",) if n % 3 == 0 else (), b"jpeg %d" % n if n % 2 else None,
        )
        for n in range(start, start + count)
    ]  # fmt: skip


def two_clouds(
    count: int, cosine: float, seed: int = 0, copies: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows of two modalities in turns, each around a centre of its own, and queries of both.

    Args:
        count: images.
        cosine: of the two centres.
        seed: of the images; people and queries are the same for every seed.
        copies: each modality is noisy copies of one vector of each person.

    Returns:
        (count, WIDTH) images and (20, WIDTH) queries.
    """
    world = np.random.default_rng(3)
    plane = np.linalg.qr(world.normal(size=(WIDTH, 12)))[0].T
    one, other = np.linalg.qr(world.normal(size=(WIDTH, 2)))[0].T
    angle = np.arccos(cosine) / 2
    centres = np.cos(angle) * one + np.sin(angle) * other * np.array([[1], [-1]])
    people = world.normal(size=(40, 12)) / 12**0.5
    looks = 0.7 * world.normal(size=(2, 40, 12)) / 12**0.5

    def drawn(number: int, rng: np.random.Generator) -> np.ndarray:
        side, who = np.arange(number) % 2, rng.integers(40, size=number)
        own = looks[side, who] if copies else 0.5 * rng.normal(size=(number, 12)) / 12**0.5
        rows = (people[who] + own) @ plane + centres[side]
        rows += 0.15 * rng.normal(size=rows.shape) / WIDTH**0.5
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    return drawn(count, np.random.default_rng(seed)), drawn(20, np.random.default_rng(10**6))
