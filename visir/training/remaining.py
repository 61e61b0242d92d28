"""How long a running training will take, from what it has taken."""

from __future__ import annotations

from collections.abc import Sequence

FIRST = 5
"""Batches after which the first estimate is made."""


class Remaining:
    """Estimates the time left.

    Batches of the epochs to come take as long as the last ones; what else an epoch takes
    (embedding, clustering, scores, saving) as long as in the last epoch.

    Args:
        steps: number of batches of each epoch; None where only the plan knows, which then counts as
            many as the last epoch.
    """

    def __init__(self, steps: Sequence[int | None]) -> None:
        self.steps = steps
        self.batch = 0.0
        self.other = 0.0
        self.last = 0

    def planned(self, steps: int, seconds: float) -> None:
        """An epoch was planned: its number of batches, and how long that took."""
        self.last, self.other = steps, seconds

    def trained(self, batches: int, seconds: float) -> None:
        """So many batches of the current epoch took so long together."""
        self.batch = seconds / max(batches, 1)

    def finished(self, seconds: float) -> None:
        """An epoch has ended: what it took beside its batches."""
        self.other = seconds

    def seconds(self, epoch: int, done: int) -> float:
        """Seconds left when `done` batches of an epoch, counted from 0, are trained."""
        later = [self.last if of is None else of for of in self.steps[epoch + 1 :]]
        return self.batch * (self.last - done + sum(later)) + self.other * len(later)
