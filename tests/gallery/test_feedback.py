"""Relevance feedback against its formula."""

import numpy as np
import pytest

from visir.core.types import InputError
from visir.gallery.feedback import NON_MATCH_WEIGHT, refine


def units(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 8))
    return np.float32(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def test_refined_is_rocchio_written_out() -> None:
    queries, hits, misses = units(2), units(3, 1), units(4, 2)
    wanted = np.zeros(8)
    for row in [*queries, *hits]:
        wanted += row / 5
    for row in misses:
        wanted -= NON_MATCH_WEIGHT * row / 4
    wanted /= np.sqrt((wanted**2).sum())
    np.testing.assert_allclose(refine(queries, hits, misses), wanted, atol=1e-6)


def test_refining_with_nothing_marked_is_the_query() -> None:
    none = np.empty((0, 8), np.float32)
    np.testing.assert_allclose(refine(units(1), none, none), units(1)[0], atol=1e-6)


def test_a_hit_draws_near_and_a_miss_pushes_away() -> None:
    query, other, none = units(1), units(1, 5), np.empty((0, 8), np.float32)
    plain = float(query[0] @ other[0])
    assert refine(query, other, none) @ other[0] > plain
    assert refine(query, none, other) @ other[0] < plain


def test_marks_that_cancel_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="the marked images cancel each other; unmark some"):
        refine(units(1), -units(1), np.empty((0, 8), np.float32))
