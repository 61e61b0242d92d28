"""What the search takes and finds, as the API names it."""

from __future__ import annotations

from datetime import UTC, datetime

from visir.core.types import InputError, Modality
from visir.gallery.query import Query, SearchOptions
from visir.gallery.store import Filter, Stored
from visir.web.schemas import Item, QueryView, SearchRequest


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
