"""Bars that tell how many images there are, of what and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from visir.gallery.store import Stats, Store, Where

BINS = 48


class Bar(NamedTuple):
    """A bar: what it counts, how many there are, its length in percent of the longest."""

    name: str
    images: int
    share: float


def bars(counts: Mapping[str, int]) -> list[Bar]:
    """A bar for each name, in their order."""
    return _drawn(list(counts.items()))


def over_time(store: Store, stats: Stats) -> list[Bar]:
    """How many images were taken in each of equal parts of the time the gallery spans."""
    if stats.earliest is None or stats.latest is None or stats.latest <= stats.earliest:
        return []
    step = (stats.latest - stats.earliest) / BINS
    starts = [stats.earliest + step * place for place in range(BINS)]
    ends = [math.nextafter(start, -math.inf) for start in starts[1:]]
    counts = [
        store.count(Where(since=start, until=end))
        for start, end in zip(starts, [*ends, stats.latest], strict=True)
    ]
    return _drawn(
        [(_named(start, step), count) for start, count in zip(starts, counts, strict=True)]
    )


def _drawn(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    most = max([count for _, count in counts] + [1])
    return [Bar(name, count, round(100 * count / most, 2)) for name, count in counts]


def _named(start: float, step: float) -> str:
    try:
        ends = (datetime.fromtimestamp(at) for at in (start, start + step))
        return " to ".join(end.strftime("%Y-%m-%d %H:%M") for end in ends)
    except (OverflowError, ValueError, OSError):
        return "out of all calendars"
