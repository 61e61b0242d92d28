"""Random numbers that depend on their key only, not on the order of the calls.

Augmentation and sampling draw from (seed, epoch, step, row), so a resumed run, another number of
workers or another order of evaluation cannot change them. SplitMix64 (Steele et al., 2014).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def key(*parts: int) -> int:
    """One 64-bit key from several whole numbers, depending on their order."""
    state = np.zeros(1, np.uint64)
    for part in parts:
        state = _mix(state ^ np.uint64(part & 0xFFFFFFFFFFFFFFFF))
    return int(state[0])


def uniforms(stream: int, rows: npt.ArrayLike, count: int) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1): (len(rows), count); equal rows of one stream get equal numbers."""
    base = _mix(np.asarray(rows).astype(np.uint64) ^ np.uint64(stream))
    columns = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
    bits = _mix(base[:, None] + columns[None, :])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generator(*parts: int) -> np.random.Generator:
    """A new numpy generator for this key."""
    return np.random.default_rng(key(*parts))


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
