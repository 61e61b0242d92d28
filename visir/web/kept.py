"""A value that is computed again only when it is old."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """A value that may be some seconds old.

    Args:
        make: computes it.
        seconds: how old it may be.
    """

    def __init__(self, make: Callable[[], T], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._known: tuple[float, T] | None = None

    def get(self) -> T:
        """The value."""
        known = self._known
        if known is None or time.monotonic() - known[0] > self._seconds:
            known = self._known = (time.monotonic(), self._make())
        return known[1]

    def drop(self) -> None:
        """Compute it again the next time it is needed."""
        self._known = None
