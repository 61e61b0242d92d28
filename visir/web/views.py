"""What the search takes and finds, as the API names it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from visir.core.types import FloatArray, InputError, Modality
from visir.evaluation.confidence import Calibration
from visir.gallery.query import Query, SearchOptions
from visir.gallery.searching import Hit, RankedList
from visir.gallery.store import Filter, Stored
from visir.web.schemas import HitView, Item, QueryView, Scale, SearchRequest, SearchResponse
from visir.web.sightings import groups
from visir.web.spread import Spread

_REQUEST = TypeAdapter(SearchRequest)


def options_of(request: SearchRequest) -> SearchOptions:
    """A request as the search takes it; raises InputError for a time out of range."""
    named = None if request.within in ("other", "any") else Modality(request.within)
    where = Filter(
        cameras=request.cameras,
        modality=named,
        since=_seconds(request.since, "since"),
        until=_seconds(request.until, "until"),
        tags=request.tags,
    )
    return SearchOptions(
        k=request.k,
        where=where,
        same_modality=request.within == "any",
        min_score=request.min_score,
        rerank=request.rerank,
    )


def query_view(query: Query, sha256: str | None) -> QueryView:
    """A query image as the API shows it; sha256: of the file that was sent, if it was."""
    item = None if query.item is None else query.item.id
    return QueryView(query.modality.value, query.inferred, sha256, item)


def _seconds(moment: datetime | None, field: str) -> float | None:
    try:
        return None if moment is None else moment.timestamp()
    except (OverflowError, ValueError, OSError):
        raise InputError(f"{field}: {moment} is out of range") from None


def moment_of(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time in UTC; None for one out of range."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def item_of(stored: Stored) -> Item:
    """A gallery image as the API shows it."""
    return Item(
        id=stored.id,
        source=stored.source,
        camera=stored.camera,
        modality=stored.modality.value,
        time=moment_of(stored.time),
        tags=stored.tags,
        added=moment_of(stored.added),
    )


def hit_views(hits: Sequence[Hit], vectors_ND: FloatArray, spread: Spread) -> tuple[HitView, ...]:
    """Hits as the API shows them; vectors_ND: (N, D) their embeddings."""
    heads = groups([hit.item for hit in hits], vectors_ND, spread.alike)
    hubs = np.zeros(len(hits), bool)
    for side in {hit.modality for hit in hits}:
        rows = np.array([hit.modality is side for hit in hits])
        hubs[rows] = spread.hubs(vectors_ND[rows], side)
    return tuple(
        HitView(
            hit.rank,
            item_of(hit.item),
            score=hit.score,
            cosine=hit.cosine,
            mark="hit" if hit.marked else None,
            group=hits[head].rank,
            hub=bool(hub),
        )
        for hit, head, hub in zip(hits, heads, hubs, strict=True)
    )


def scale_of(ranked: RankedList, known: Calibration | None, spread: Spread) -> Scale | None:
    """What the scores of a search are drawn between; None without a hit."""
    if not ranked.hits or ranked.best is None:
        return None
    if known is not None and not known.only_strangers:
        return Scale(0.0, 1.0, typical=False, mark=known.threshold)
    high = ranked.best
    sides = {hit.modality for hit in ranked.hits}
    mean_D = np.stack([query.vector for query in ranked.queries]).mean(axis=0)
    stranger = spread.stranger(mean_D, sides.pop() if len(sides) == 1 else None)
    typical = stranger is not None and stranger < high
    low = stranger if stranger is not None and typical else min(0.0, high)
    mark = None if known is None else known.limit(ranked.searched)
    return Scale(low, high, typical, mark if mark is not None and low <= mark <= high else None)


def logged(response: SearchResponse) -> dict[str, Any]:
    """What the audit log holds of a search."""
    search = response.search
    return {
        "search": search.id,
        "queries": [query.sha256 or query.item for query in search.queries],
        "modalities": [query.modality for query in search.queries],
        "asked": as_json(search.asked, exclude_defaults=True),
        "hits": search.hits,
        "misses": search.misses,
        "searched": search.searched,
        "found": [hit.item.id for hit in response.hits],
    }


def as_json(asked: SearchRequest, exclude_defaults: bool = False) -> Any:  # noqa: ANN401
    """A request as values that JSON has."""
    return _REQUEST.dump_python(asked, mode="json", exclude_defaults=exclude_defaults)
