"""What the hits of a search are ordered by, where that is not their scores."""

from __future__ import annotations

from typing import NamedTuple

_MEANS = {
    True: ", with the means of the gallery's cameras",
    False: ", without the means of the gallery's cameras (too few images)",
    None: "",
}


class Ordering(NamedTuple):
    """What changed the order of the hits; scores are never changed.

    re_ranking: a key of `visir.evaluation.rerank.RERANKERS`, or "none"; camera_means: whether it
    subtracted the means of the gallery's cameras, None if it knows no cameras' means; matches,
    non_matches: how many images were marked as right and as wrong.
    """

    re_ranking: str = "none"
    camera_means: bool | None = None
    matches: int = 0
    non_matches: int = 0

    @property
    def refined(self) -> bool:
        """Whether images were marked."""
        return bool(self.matches or self.non_matches)

    @property
    def sentence(self) -> str:
        """What the order is, for people; empty if it is that of the scores."""
        done = []
        if self.refined:
            hits = "1 hit" if self.matches == 1 else f"{self.matches} hits"
            done.append(f"refined by {hits} and {self.non_matches} marked wrong")
        if self.re_ranking != "none":
            done.append(f"re-ranked by {self.re_ranking}{_MEANS[self.camera_means]}")
        if not done:
            return ""
        how = "; ".join(done)
        return f"{how[0].upper()}{how[1:]}: the order is not that of the scores."
