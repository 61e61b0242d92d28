"""The kept hits of a case over cameras and time, as places in a drawing.

One row a camera, in the order in which the cameras saw somebody first. Hits of one camera that
would cover each other share a marker.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from visir.web.rendering import score
from visir.web.schemas import Case, Item

LEFT, WIDTH, RIGHT = 150, 640, 44  # units of the drawing: names of cameras, the time, a margin
TOP, ROW, BOTTOM = 12, 44, 34
APART = 60.0  # units between two markers
TICKS = 6  # at most
_STEPS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        1, 5, 15, 30, 60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
        2_592_000, 7_776_000, 31_536_000, 157_680_000, 1_576_800_000, 63_072_000_000,
    )
)  # fmt: skip


class Mention(NamedTuple):
    """A kept hit: its number in the case, and which search found it with which score."""

    number: int
    words: str


class Seen(NamedTuple):
    """An image of a case, and the hits that were kept of it, the first one first."""

    item: Item
    hits: tuple[Mention, ...]


class Marker(NamedTuple):
    """One or more images at one place; x: of its middle, in units from the left; width: of it.

    label: the number of the first hit, and how many images there are besides.
    """

    x: float
    width: float
    label: str
    seen: tuple[Seen, ...]


class Row(NamedTuple):
    """A camera; y: of the middle of its row, in units from the top."""

    camera: str
    y: float
    markers: tuple[Marker, ...]


class Tick(NamedTuple):
    """A moment on the axis; text: the time, and the date in a second line where it is another."""

    x: float
    text: str
    date: str


class Timeline(NamedTuple):
    """Who was where when: all images in the order of time, and the drawing of those with a time."""

    seen: tuple[Seen, ...]
    rows: tuple[Row, ...]
    ticks: tuple[Tick, ...]
    width: int
    height: int


def timeline(case: Case) -> Timeline:
    """The images of a case over cameras and time, by this machine's clock."""
    seen = _seen(case)
    timed = [one for one in seen if one.item.time is not None]
    if not timed:
        return Timeline(seen, (), (), 0, 0)
    first, last = _local(timed[0]), _local(timed[-1])
    cameras = list(dict.fromkeys(one.item.camera for one in timed))
    rows = []
    for place, camera in enumerate(cameras):
        own = [(_x(_local(one), first, last), one) for one in timed if one.item.camera == camera]
        rows.append(Row(camera, TOP + ROW * (place + 0.5), _markers(own)))
    height = TOP + ROW * len(rows) + BOTTOM
    return Timeline(seen, tuple(rows), _ticks(first, last), LEFT + WIDTH + RIGHT, height)


def _seen(case: Case) -> tuple[Seen, ...]:
    """Each image once, by time; those without one last."""
    searches = {one.id: (number, one.calibrated) for number, one in enumerate(case.searches, 1)}
    found: dict[int, Seen] = {}
    for hit in sorted(case.kept, key=lambda hit: hit.number):
        number, calibrated = searches[hit.search]
        mention = Mention(hit.number, f"search {number}, {score(hit.score, calibrated)}")
        former = found.get(hit.item.id, Seen(hit.item, ()))
        found[hit.item.id] = Seen(former.item, (*former.hits, mention))
    timed = [one for one in found.values() if one.item.time is not None]
    timed.sort(key=_local)
    return (*timed, *(one for one in found.values() if one.item.time is None))


def _local(seen: Seen) -> datetime:
    assert seen.item.time is not None
    return seen.item.time.astimezone()


def _x(moment: datetime, first: datetime, last: datetime) -> float:
    """Where a moment is; the middle if all are the same."""
    span = (last - first).total_seconds()
    share = (moment - first).total_seconds() / span if span else 0.5
    return round(LEFT + WIDTH * share, 1)


def _markers(places: Sequence[tuple[float, Seen]]) -> tuple[Marker, ...]:
    """Markers from left to right; each takes in what is nearer to its first image than `APART`."""
    found: list[tuple[float, list[Seen]]] = []
    for x, seen in places:
        if found and x - found[-1][0] < APART:
            found[-1][1].append(seen)
        else:
            found.append((x, [seen]))
    labels = [_label(some) for _, some in found]
    return tuple(
        Marker(x, 18 + 8 * len(label), label, tuple(some))
        for (x, some), label in zip(found, labels, strict=True)
    )


def _label(seen: Sequence[Seen]) -> str:
    """The number of the first image; of more how many there are besides."""
    more = f" +{len(seen) - 1}" if len(seen) > 1 else ""
    return f"{seen[0].hits[0].number}{more}"


def _ticks(first: datetime, last: datetime) -> tuple[Tick, ...]:
    """Round moments of the time between two, or the only moment there is."""
    if first == last:
        return (_tick(first, "", first, last),)
    step = next((step for step in _STEPS if (last - first) / step <= TICKS - 1), _STEPS[-1])
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    before = -(-(first - midnight) // step)
    offsets = (step * (before + number) for number in range(TICKS))
    moments = [midnight + offset for offset in offsets if offset <= last - midnight]
    dates = ["", *(moment.astimezone().strftime("%Y-%m-%d") for moment in moments)]
    found = [_tick(*one, first, last) for one in zip(moments, dates, strict=False)]
    return tuple(found) or (_tick(first, "", first, last),)


def _tick(moment: datetime, before: str, first: datetime, last: datetime) -> Tick:
    """before: the date of the tick before it."""
    x, moment = _x(moment, first, last), moment.astimezone()
    date = moment.strftime("%Y-%m-%d")
    clock = "%H:%M" if moment.second == 0 else "%H:%M:%S"
    return Tick(x, moment.strftime(clock), "" if date == before else date)
