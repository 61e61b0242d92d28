"""Hits that probably show one person at one time: of one camera, less than a minute apart, alike.

Where both images are of tracks (`visir.sources`), the track decides, however long it is. Otherwise
their embeddings must be as near as `visir.web.spread.Spread.alike` says. Each hit is compared with
the best hit of a group only, so that no chain of similar people becomes one group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from visir.core.types import FloatArray, Modality
from visir.gallery.store import Stored
from visir.web.spread import MOST_ALIKE

MINUTE = 60.0
_TRACK = re.compile(r"(?P<file>.*?)::(?P<stream>.*?)track (?P<track>.+?)(?P<moment> @ .*)?", re.S)


def groups(
    items: Sequence[Stored], vectors_ND: FloatArray, alike: Mapping[Modality, float]
) -> list[int]:
    """For each hit, best first, the position of the best hit of its group.

    Args:
        items: the hits.
        vectors_ND: (N, D) their embeddings.
        alike: the cosine from which two images of one camera show one person, by modality.
    """
    tracks = [track_of(item.source) for item in items]
    heads: dict[tuple[str, Modality], list[int]] = {}
    found = []
    for row, item in enumerate(items):
        before = heads.setdefault((item.camera, item.modality), [])
        least = alike.get(item.modality, MOST_ALIKE)
        for head in before:
            if tracks[row] is not None and tracks[head] is not None:
                same = tracks[row] == tracks[head]
            else:
                near = _within_a_minute(item, items[head])
                same = near and float(vectors_ND[row] @ vectors_ND[head]) >= least
            if same:
                found.append(head)
                break
        else:
            before.append(row)
            found.append(row)
    return found


def track_of(source: str) -> tuple[str, str] | None:
    """The track of an image, by its name: of which video or folder of frames, and which one."""
    match = _TRACK.fullmatch(source)
    if match is None:
        return None
    file = match["file"] if match["moment"] else match["file"].rpartition("/")[0]
    return f"{file}::{match['stream']}", match["track"]


def _within_a_minute(one: Stored, other: Stored) -> bool:
    if one.time is None or other.time is None:
        return False
    return abs(one.time - other.time) < MINUTE
