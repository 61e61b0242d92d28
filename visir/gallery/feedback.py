"""Relevance feedback: one query from query images, and from hits a person has marked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visir.core.types import FloatArray, InputError

NON_MATCH_WEIGHT = 0.25


class Feedback(NamedTuple):
    """Ids of gallery images: those that show the person, and those that do not."""

    matches: tuple[int, ...] = ()
    non_matches: tuple[int, ...] = ()


NO_FEEDBACK = Feedback()


def require_consistent(feedback: Feedback) -> None:
    """Refuse an image that is marked both as a match and as a non-match.

    Raises:
        InputError: which image.
    """
    both = set(feedback.matches) & set(feedback.non_matches)
    if both:
        raise InputError(f"image {min(both)} is marked both ways; mark it as a match or as wrong")


def refine(query_QD: FloatArray, matches_MD: FloatArray, non_matches_ND: FloatArray) -> FloatArray:
    """One query from query images, matches and non-matches.

    q = unit(mean(queries and matches) - 0.25 mean(non-matches)): Rocchio's relevance feedback
    (1971), with a match as heavy as a query image. The weight of non-matches is within the usual
    range; a larger one turns away from what the person shares with everybody.

    Args:
        query_QD: unit rows, at least one.
        matches_MD: unit rows of images that show the person; may be empty.
        non_matches_ND: unit rows of images that show another person; may be empty.

    Returns:
        (D,) of length 1.

    Raises:
        InputError: they cancel each other.
    """
    mean_D = np.concatenate([query_QD, matches_MD]).astype(np.float64).mean(axis=0)
    if len(non_matches_ND):
        mean_D = mean_D - NON_MATCH_WEIGHT * non_matches_ND.astype(np.float64).mean(axis=0)
    length = float(np.linalg.norm(mean_D))
    if length < 1e-6:
        raise InputError("the marked images cancel each other; unmark some")
    return np.asarray(mean_D / length, np.float32)
