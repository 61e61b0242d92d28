"""Track people through the frames of a video: join their boxes into tracks.

The next box of a track is predicted from its velocity; boxes are assigned to tracks so that the sum
of their overlaps is largest, as in SORT (Bewley et al., 2016), with a mean velocity in place of a
Kalman filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment

_MIN_OVERLAP = 0.3  # intersection over union, as in SORT
_MAX_OVERLAP = 0.5  # of the boxes of two people
_MIN_FIRST_OVERLAP = 0.1  # for a track with one box, which has no velocity yet
_SAME = 1e-3  # seconds; times are compared up to rounding
_MEMORY = 5  # last boxes, from which the velocity is computed
_BORDER = 2.0  # pixels; a person nearer to the frame's edge may be cut off
PATIENCE = 1.0
"""Seconds for which a person may be hidden inside one track."""


class Box(NamedTuple):
    """A person in a frame: edges in pixels, and the detector's score, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float

    @property
    def area(self) -> float:
        """Square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)

    def overlap(self, other: Box) -> float:
        """Intersection over union with another box, 0 to 1."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        shared = max(0.0, across) * max(0.0, down)
        return shared / (self.area + other.area - shared)

    def moved(self, right: float, down: float) -> Box:
        """The box shifted by pixels."""
        left, top = self.left + right, self.top + down
        return Box(left, top, self.right + right, self.bottom + down, self.score)


def best_apart(boxes: Iterable[Box]) -> list[Box]:
    """The boxes by falling score, without those that a better one overlaps by half."""
    kept: list[Box] = []
    for box in sorted(boxes, key=lambda box: -box.score):
        if all(box.overlap(other) <= _MAX_OVERLAP for other in kept):
            kept.append(box)
    return kept


class Sight(NamedTuple):
    """One box of a track: the frame and the box."""

    frame: int
    box: Box


Track = tuple[Sight, ...]
"""The sights of one person, by rising frame."""


def tracks(frames: Sequence[Sequence[Box]], times: Sequence[float], patience: float) -> list[Track]:
    """Join the boxes of a video's frames into tracks; every box is in exactly one track.

    Args:
        frames: the boxes of each frame.
        times: of the frames, in seconds, rising.
        patience: maximum number of seconds between two boxes of one track.

    Returns:
        Tracks sorted by first frame, then by position among the boxes of that frame.
    """
    found: list[list[Sight]] = []
    live: list[list[Sight]] = []
    for row, (boxes, now) in enumerate(zip(frames, times, strict=True)):
        live = [track for track in live if now - times[track[-1].frame] <= patience + _SAME]
        owners = _owners(live, times, now, boxes)
        for place, box in enumerate(boxes):
            if place in owners:
                live[owners[place]].append(Sight(row, box))
            else:
                found.append([Sight(row, box)])
        live += found[len(found) - len(boxes) + len(owners) :]
    return [tuple(track) for track in found]


def picks(track: Track, size: tuple[int, int], count: int | None) -> list[Sight]:
    """Choose the best sights of a track, spread over its time; all of them without a count.

    The best sight of each of `count` equal time spans, by score times area, among those that do
    not touch the frame's border. If all touch it: the best of all.

    Args:
        track: one person.
        size: (height, width) of the frames, in pixels.
        count: maximum number of sights.
    """
    if count is None:
        return [*track]
    first, last = track[0].frame, track[-1].frame
    best: dict[int, Sight] = {}
    for sight in track:
        span = (sight.frame - first) * count // (last - first + 1)
        if not _touches(sight.box, size) and _value(sight) > _value(best.get(span)):
            best[span] = sight
    return [best[span] for span in sorted(best)] or [max(track, key=_value)]


def _expected(track: Sequence[Sight], times: Sequence[float], now: float) -> Box:
    """The predicted box of a track at the time `now`, by the mean velocity of its centre."""
    old, new = track[-_MEMORY:][0], track[-1]
    since = times[new.frame] - times[old.frame]
    ahead = (now - times[new.frame]) / since if since > 0 else 0.0
    right = (new.box.left + new.box.right - old.box.left - old.box.right) / 2
    down = (new.box.top + new.box.bottom - old.box.top - old.box.bottom) / 2
    return new.box.moved(right * ahead, down * ahead)


def _owners(
    live: Sequence[Sequence[Sight]], times: Sequence[float], now: float, boxes: Sequence[Box]
) -> dict[int, int]:
    """{row of a box: row of its track}, by the largest sum of overlaps."""
    if not live or not boxes:
        return {}
    expected = [_expected(track, times, now) for track in live]
    a, b = np.array(boxes)[:, None, :4], np.array(expected)[None, :, :4]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(0).prod(axis=-1)
    area_a, area_b = ((of[..., 2:] - of[..., :2]).prod(axis=-1) for of in (a, b))
    overlap = shared / (area_a + area_b - shared)
    minimum = [_MIN_OVERLAP if len(track) > 1 else _MIN_FIRST_OVERLAP for track in live]
    overlap[overlap < minimum] = 0
    pairs = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
    return {int(box): int(track) for box, track in pairs if overlap[box, track]}


def _touches(box: Box, size: tuple[int, int]) -> bool:
    height, width = size
    near = min(box.left, box.top, width - box.right, height - box.bottom)
    return near < _BORDER


def _value(sight: Sight | None) -> float:
    return sight.box.score * sight.box.area if sight else 0.0
