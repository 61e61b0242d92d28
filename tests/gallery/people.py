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
