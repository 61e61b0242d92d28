"""Ranked lists: as a table, as plain values, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visir.core.run import atomic_write, write_json
from visir.core.types import Modality
from visir.evaluation.confidence import Calibration
from visir.gallery.contact_sheet import HIT, MISS, QUERY, UNKNOWN, Tile, contact_sheet

if TYPE_CHECKING:
    from PIL import Image


class Hit(NamedTuple):
    """A gallery image found for a query; ``correct`` is None where an identity is unknown.

    confidence: how likely it is the same person, None without a calibration; id, time: those of a
    gallery that was indexed; thumbnail: what to show where the image itself is gone.
    """

    rank: int
    path: Path
    camera: str
    modality: Modality
    score: float
    pid: int | None = None
    correct: bool | None = None
    confidence: float | None = None
    id: int | None = None
    time: float | None = None
    thumbnail: bytes | None = None


class RankedList(NamedTuple):
    """The hits of one query, best first; ``inferred``: its modality was judged by its colours.

    others: more images of the same person, asked for together; nobody: the best hit is less likely
    than the calibration's threshold, None without one.
    """

    query: Path
    modality: Modality
    inferred: bool
    camera: str
    pid: int | None
    hits: tuple[Hit, ...]
    others: tuple[Path, ...] = ()
    nobody: bool | None = None


def calibrated(ranked: RankedList, calibration: Calibration | None, images: int) -> RankedList:
    """A ranked list with the confidence of each hit; `images`: how many were searched."""
    if calibration is None:
        return ranked
    sure = calibration.confidence(np.array([hit.score for hit in ranked.hits]), images)
    hits = [hit._replace(confidence=float(of)) for hit, of in zip(ranked.hits, sure, strict=True)]
    nobody = not len(sure) or bool(sure.max() < calibration.threshold)
    return ranked._replace(hits=tuple(hits), nobody=nobody)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A ranked list for every query image, in the order the queries were given."""

    lists: tuple[RankedList, ...]

    def table(self) -> str:
        """The ranked lists as text, a block per query."""
        return "\n\n".join(_block(ranked) for ranked in self.lists)

    def as_json(self) -> dict[str, Any]:
        """The ranked lists as plain values: paths and modalities as text, scores as floats."""
        return {
            "score": "cosine similarity, -1 to 1",
            "queries": [
                {
                    **_plain(ranked._asdict()),
                    "hits": [_plain(hit._asdict()) for hit in ranked.hits],
                }
                for ranked in self.lists
            ],
        }

    def contact_sheet(self) -> Image.Image:
        """A picture: a row per query, the query at the left, its hits in order beside it.

        A green frame is a hit of the same identity, a red one of another, grey is unknown.
        """
        return contact_sheet([_tiles(ranked) for ranked in self.lists])


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    def plain(value: object) -> object:
        if isinstance(value, tuple):
            return [plain(one) for one in value]
        if isinstance(value, Path):
            return str(value)
        return value.value if isinstance(value, Modality) else value

    left_out = ("hits", "thumbnail")
    return {name: plain(value) for name, value in values.items() if name not in left_out}


def _block(ranked: RankedList) -> str:
    how = ", judged by its colours" if ranked.inferred else ""
    who = "" if ranked.pid is None else f", identity {ranked.pid}"
    marks = {True: "yes", False: "no", None: "?"}
    names = ", ".join(map(str, (ranked.query, *ranked.others)))
    sure = ranked.nobody is not None
    lines = [
        f"{names}  ({ranked.modality.value}{how}{who})",
        f"{'rank':>4}  {'score':>6}  {'sure  ' if sure else ''}{'camera':<10} {'modality':<9} "
        f"{'same':<4}  image",
    ]
    lines += [
        f"{hit.rank:>4}  {hit.score:>6.3f}  {f'{hit.confidence:>4.0%}  ' if sure else ''}"
        f"{hit.camera:<10} {hit.modality.value:<9} {marks[hit.correct]:<4}  {hit.path}"
        for hit in ranked.hits
    ]
    if ranked.nobody:
        lines.append("probably nobody here: the best hit is no better than a stranger's often is")
    return "\n".join(lines)


def _tiles(ranked: RankedList) -> list[Tile]:
    frames = {True: HIT, False: MISS, None: UNKNOWN}
    how = "by its colours" if ranked.inferred else ranked.camera
    query = Tile(ranked.query, QUERY, ("query", ranked.modality.value, how, *_who(ranked.pid)))
    hits = [
        Tile(
            hit.thumbnail if hit.thumbnail and not hit.path.is_file() else hit.path,
            frames[hit.correct],
            (_worth(hit), hit.modality.value, hit.camera, *_who(hit.pid)),
        )
        for hit in ranked.hits
    ]
    return [query, *hits]


def _worth(hit: Hit) -> str:
    sure = "" if hit.confidence is None else f"  {hit.confidence:.0%}"
    return f"{hit.rank}.  {hit.score:.3f}{sure}"


def _who(pid: int | None) -> tuple[str, ...]:
    return () if pid is None else (f"identity {pid}",)


def write(result: SearchResult, out: Path) -> None:
    """Write search.json and search.png into a folder."""
    write_json(out / "search.json", result.as_json())
    with atomic_write(out / "search.png") as file:
        result.contact_sheet().save(file, format="PNG")
