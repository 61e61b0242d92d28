"""Ranked lists: as a table, as plain values, as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visir.run import atomic_write, write_json
from visir.sheet import HIT, MISS, QUERY, UNKNOWN, Tile, contact_sheet
from visir.types import Modality

if TYPE_CHECKING:
    from PIL import Image


class Hit(NamedTuple):
    """A gallery image found for a query; ``correct`` is None where an identity is unknown."""

    rank: int
    path: Path
    camera: str
    modality: Modality
    score: float
    pid: int | None
    correct: bool | None


class RankedList(NamedTuple):
    """The hits of one query, best first; ``inferred``: its modality was judged by its colours."""

    query: Path
    modality: Modality
    inferred: bool
    camera: str
    pid: int | None
    hits: tuple[Hit, ...]


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
        if isinstance(value, Path):
            return str(value)
        return value.value if isinstance(value, Modality) else value

    return {name: plain(value) for name, value in values.items() if name != "hits"}


def _block(ranked: RankedList) -> str:
    how = ", judged by its colours" if ranked.inferred else ""
    who = "" if ranked.pid is None else f", identity {ranked.pid}"
    marks = {True: "yes", False: "no", None: "?"}
    lines = [
        f"{ranked.query}  ({ranked.modality.value}{how}{who})",
        f"{'rank':>4}  {'score':>6}  {'camera':<10} {'modality':<9} {'same':<4}  image",
    ]
    lines += [
        f"{hit.rank:>4}  {hit.score:>6.3f}  {hit.camera:<10} {hit.modality.value:<9} "
        f"{marks[hit.correct]:<4}  {hit.path}"
        for hit in ranked.hits
    ]
    return "\n".join(lines)


def _tiles(ranked: RankedList) -> list[Tile]:
    frames = {True: HIT, False: MISS, None: UNKNOWN}
    how = "by its colours" if ranked.inferred else ranked.camera
    query = Tile(ranked.query, QUERY, ("query", ranked.modality.value, how, *_who(ranked.pid)))
    hits = [
        Tile(
            hit.path,
            frames[hit.correct],
            (f"{hit.rank}.  {hit.score:.3f}", hit.modality.value, hit.camera, *_who(hit.pid)),
        )
        for hit in ranked.hits
    ]
    return [query, *hits]


def _who(pid: int | None) -> tuple[str, ...]:
    return () if pid is None else (f"identity {pid}",)


def write(result: SearchResult, out: Path) -> None:
    """Write search.json and search.png into a folder."""
    write_json(out / "search.json", result.as_json())
    with atomic_write(out / "search.png") as file:
        result.contact_sheet().save(file, format="PNG")
