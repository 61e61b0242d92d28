"""From several images of a person, and from what somebody says of the hits, to one query."""

from __future__ import annotations

import numpy as np

from visir.core.types import FloatArray, InputError

MISSES_WEIGH = 0.25


def refined(query_QD: FloatArray, hits_HD: FloatArray, misses_MD: FloatArray) -> FloatArray:
    """One query from query images, hits and misses.

    q = unit(mean(queries and hits) - 0.25 mean(misses)): Rocchio's relevance feedback (1971), a
    hit counting as much as a query image. The weight of misses is within what is usual for it; a
    larger one turns away from what the person shares with everybody.

    Args:
        query_QD: unit rows, at least one.
        hits_HD: unit rows of images said to show the person; may be empty.
        misses_MD: unit rows of images said to show somebody else; may be empty.

    Returns:
        (D,) of length 1.

    Raises:
        InputError: they cancel each other.
    """
    wanted = np.concatenate([query_QD, hits_HD]).astype(np.float64).mean(axis=0)
    if len(misses_MD):
        wanted = wanted - MISSES_WEIGH * misses_MD.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(wanted))
    if length < 1e-6:
        raise InputError("hits, misses: they cancel each other; unmark some")
    return np.asarray(wanted / length, np.float32)
