"""What a search found: as a table, as JSON, as a picture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visir.core.names import printable
from visir.core.run import atomic_write, write_json
from visir.core.types import Record
from visir.data.pictures import look
from visir.data.remarks import poor
from visir.gallery.contact_sheet import HIT, MISS, QUERY, UNKNOWN, Tile, contact_sheet
from visir.gallery.searching import Hit, RankedList

if TYPE_CHECKING:
    from PIL import Image

_UNCALIBRATED = (
    "Scores are plain cosines, not probabilities: this run is not calibrated. To calibrate it, run "
    "visir calibrate RUN."
)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A ranked list for every search, in the order the queries were given.

    Attributes:
        lists: the ranked lists.
        json: print JSON instead of a table.
    """

    lists: tuple[RankedList, ...]
    json: bool = False

    def __str__(self) -> str:
        return json.dumps(self.as_json(), indent=1) if self.json else self.table()

    def table(self) -> str:
        """The ranked lists as text, a block per search; hits that are poor crops are marked.

        A line below the hits of a search says so if they were re-ranked or refined.
        """
        blocks = [_block(ranked) for ranked in self.lists]
        if any(ranked.hits and ranked.no_match is None for ranked in self.lists):
            blocks.append(_UNCALIBRATED)
        return "\n\n".join(blocks)

    def as_json(self) -> dict[str, Any]:
        """The ranked lists as plain values.

        A hit's "score" repeats its "cosine" until version 1.0; its "confidence" is null without a
        calibration. "nobody" repeats "no_match" until version 1.0. "best_score" is the highest
        confidence of the images searched, or the highest cosine without a calibration.
        "re_ranking", "camera_means" and "marked" are those of `visir.gallery.ordering.Ordering`.
        """
        return {
            "score": "cosine similarity, -1 to 1",
            "queries": [_plain_list(ranked) for ranked in self.lists],
        }

    def contact_sheet(self) -> Image.Image:
        """A picture: a row per search, the query at the left, its hits in order beside it.

        A green frame is a hit of the same identity, a red one of another, grey is unknown. Below
        the query stands how its hits were re-ranked.
        """
        return contact_sheet([_tiles(ranked) for ranked in self.lists])

    def write(self, out: Path) -> None:
        """Write search.json and search.png into a folder."""
        write_json(out / "search.json", self.as_json())
        with atomic_write(out / "search.png") as file:
            self.contact_sheet().save(file, format="PNG")


def _plain_list(ranked: RankedList) -> dict[str, Any]:
    return {
        "query": str(ranked.query),
        "modality": ranked.modality.value,
        "inferred": ranked.inferred,
        "camera": ranked.camera,
        "pid": ranked.pid,
        "others": [str(path) for path in ranked.others],
        "searched": ranked.searched,
        "no_match": ranked.no_match,
        "nobody": ranked.no_match,
        "best_score": ranked.best,
        "re_ranking": ranked.ordering.re_ranking,
        "camera_means": ranked.ordering.camera_means,
        "marked": {
            "matches": ranked.ordering.matches,
            "non_matches": ranked.ordering.non_matches,
        },
        "hits": [_plain_hit(hit) for hit in ranked.hits],
    }


def _plain_hit(hit: Hit) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "path": str(hit.path),
        "camera": hit.camera,
        "modality": hit.modality.value,
        "score": hit.cosine,
        "cosine": hit.cosine,
        "pid": hit.pid,
        "correct": hit.correct,
        "confidence": hit.confidence,
        "id": hit.id,
        "time": hit.time,
    }


def _block(ranked: RankedList) -> str:
    how = ", judged by its colours" if ranked.inferred else ""
    who = "" if ranked.pid is None else f", identity {ranked.pid}"
    same = {True: "yes", False: "no", None: "?"}
    names = ", ".join(map(str, (ranked.query, *ranked.others)))
    calibrated = all(hit.confidence is not None for hit in ranked.hits) and (
        ranked.no_match is not None
    )
    score = "score  cosine" if calibrated else " score"
    lines = [
        f"{names}  ({ranked.modality.value}{how}{who})",
        f"{'rank':>4}  {score}  {'camera':<10} {'modality':<9} {'same':<4}  image",
    ]
    for hit in ranked.hits:
        cosine = f"{hit.cosine:>6.3f}"
        score = cosine if hit.confidence is None else f"{hit.confidence:>5.0%}  {cosine}"
        lines.append(
            f"{hit.rank:>4}  {score}  {hit.camera:<10} {hit.modality.value:<9} "
            f"{same[hit.correct]:<4}  {hit.path}{_poor(hit)}"
        )
    if ranked.hits and ranked.ordering.sentence:
        lines.append(f"{ranked.ordering.sentence} {_best(ranked)}")
    if ranked.no_match:
        why = "below the calibrated threshold" if calibrated else "no better than of strangers"
        lines.append(f"Probably no match: the best score is {why}.")
    return "\n".join(map(printable, lines))


def _best(ranked: RankedList) -> str:
    assert ranked.best is not None  # there are hits
    calibrated = ranked.hits[0].confidence is not None
    best = f"{ranked.best:.0%}" if calibrated else f"{ranked.best:.3f}"
    return f"Best score of the {ranked.searched:,} images searched: {best}."


def _poor(hit: Hit) -> str:
    """A mark behind the path of a hit that is a poor crop, if its file is here."""
    if not hit.path.is_file():
        return ""
    words = poor(look(hit.path, hit.modality, hit.span))
    return f"  (poor crop: {words})" if words else ""


def _tiles(ranked: RankedList) -> list[Tile]:
    frames = {True: HIT, False: MISS, None: UNKNOWN}
    how = "by its colours" if ranked.inferred else printable(ranked.camera)
    asked = Record(ranked.query, None, 0, ranked.modality, ranked.queries[0].span)
    order = ranked.ordering
    changed = ["refined"] if order.refined else []
    changed += ["re-ranked by", order.re_ranking] if order.re_ranking != "none" else []
    captions = ("query", ranked.modality.value, how, *_who(ranked.pid), *changed)
    query = Tile(asked, QUERY, captions)
    hits = [
        Tile(
            hit.thumbnail
            if hit.thumbnail and not hit.path.is_file()
            else Record(hit.path, None, 0, hit.modality, hit.span),
            frames[hit.correct],
            (_rank_and_score(hit), hit.modality.value, printable(hit.camera), *_who(hit.pid)),
        )
        for hit in ranked.hits
    ]
    return [query, *hits]


def _rank_and_score(hit: Hit) -> str:
    confidence = "" if hit.confidence is None else f"  {hit.confidence:.0%}"
    return f"{hit.rank}.  {hit.cosine:.3f}{confidence}"


def _who(pid: int | None) -> tuple[str, ...]:
    return () if pid is None else (f"identity {pid}",)
