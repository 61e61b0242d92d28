"""Where the time of a training goes: the seconds of its parts, if they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TypeVar

import torch

from visir.core.device import wait_for

T = TypeVar("T")


class Timing:
    """The seconds of each part, without those of the parts within it.

    A GPU computes beside the program, so it is waited for where a part begins and ends. That takes
    time itself: the program does not prepare what the GPU computes next.

    Args:
        device: of the network.

    Attributes:
        seconds: by the name of the part.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done within it."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Give the time since the last turn to the innermost part that is open."""
        wait_for(self.device)
        now = time.perf_counter()
        if self._open:
            name = self._open[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now

    def shares(self, seconds: float) -> dict[str, float]:
        """The parts' shares of so many seconds, and as "other" what is left."""
        found = {name: of / seconds for name, of in self.seconds.items()}
        return {**found, "other": max(0.0, 1 - sum(found.values()))}


_asked: ContextVar[Timing | None] = ContextVar("timing", default=None)


@contextmanager
def timing(asked: Timing | None) -> Iterator[None]:
    """Within it `part` gives times to `asked`; None for none."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def part(name: str) -> AbstractContextManager[None]:
    """Time what is done within it as a part of the training, if times are asked for."""
    asked = _asked.get()
    return nullcontext() if asked is None else asked.part(name)


def each(found: Iterable[T], name: str) -> Iterator[T]:
    """What an iterable gives; the time it takes to give it counts as this part."""
    left, nothing = iter(found), object()
    while True:
        with part(name):
            one = next(left, nothing)
        if one is nothing:
            return
        yield one  # type: ignore[misc]
