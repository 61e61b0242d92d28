"""A training set small enough to plan and train on in a second."""

import numpy as np
import pytest

from visir.data.dataset import TrainingSet


@pytest.fixture(scope="session")
def patterns():
    """Read only: 48 noisy images of four patterns, every other one infrared, from four cameras."""
    rng = np.random.default_rng(0)
    looks = np.kron(rng.integers(0, 256, (4, 2, 2, 3)), np.ones((1, 8, 4, 1)))
    pixels = np.clip(looks.repeat(12, axis=0) + rng.normal(0, 9, (48, 16, 8, 3)), 0, 255)
    return TrainingSet(pixels.astype(np.uint8), np.arange(48) % 2 == 1, np.arange(48) % 4)
