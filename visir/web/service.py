"""Searching, refining and comparing: what the API and the page both ask for."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from visir import __version__
from visir.core.types import FloatArray, InputError, Modality
from visir.embedding.base import Embeds
from visir.evaluation.confidence import Calibration
from visir.gallery.open import model_of
from visir.gallery.store import Stats, Store, Stored, Where, require_fitting
from visir.web.queries import refined
from visir.web.schemas import Asked, Found, Hit, Item, Query, Refinement, Search
from visir.web.uploads import Upload, read_upload

REMEMBERED = 256  # searches that can be refined and kept
AT_ONCE = 2  # requests whose images are read or embedded
FRESH = 5.0  # seconds for which what a gallery holds is not counted anew


class Look(NamedTuple):
    """A query image as the gallery's model sees it."""

    query: Query
    vector: FloatArray


class _Remembered(NamedTuple):
    found: Found
    vectors: FloatArray


class Finder:
    """A gallery, the model its vectors are of, and the searches somebody may go on with.

    Args:
        embedder: the model.
        store: the gallery.
        calibration: of the model; None where scores stay cosines.

    Raises:
        InputError: the gallery holds another model's vectors.
    """

    def __init__(self, embedder: Embeds, store: Store, calibration: Calibration | None) -> None:
        require_fitting(store.model(), model_of(embedder), store.name)
        self.embedder, self.store, self.calibration = embedder, store, calibration
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._lock = threading.Lock()
        self._seats = threading.Semaphore(AT_ONCE)
        self._stats: tuple[float, Stats] | None = None

    def stats(self) -> Stats:
        """What the gallery holds, some seconds old at most."""
        known = self._stats
        if known is None or time.monotonic() - known[0] > FRESH:
            known = self._stats = (time.monotonic(), self.store.stats())
        return known[1]

    def changed(self) -> None:
        """Count anew what the gallery holds, the next time somebody asks."""
        self._stats = None

    def read(self, files: Sequence[bytes]) -> list[Upload]:
        """Read images that were sent, a few at once whatever is asked at the same time.

        Raises:
            InputError: one cannot be read.
        """
        with self._seats:
            return [
                read_upload(data, self.embedder.size, f"image {number}")
                for number, data in enumerate(files, start=1)
            ]

    def look_at(self, uploads: Sequence[Upload], judged: str) -> list[Look]:
        """Embed images that were sent."""
        kinds = [u.modality if judged == "auto" else Modality(judged) for u in uploads]
        found: dict[int, FloatArray] = {}
        with self._seats:
            for kind in set(kinds):
                rows = [row for row, one in enumerate(kinds) if one is kind]
                vectors = self.embedder.embed([uploads[row].pixels for row in rows], kind)
                found.update(zip(rows, vectors, strict=True))
        return [
            Look(Query(kind.value, judged == "auto", sha256=upload.sha256), found[row])
            for row, (upload, kind) in enumerate(zip(uploads, kinds, strict=True))
        ]

    def look_up(self, items: Sequence[int]) -> list[Look]:
        """Images of the gallery as queries.

        Raises:
            InputError: one is not there.
        """
        known = self.store.get(list(items))
        for item in items:
            if item not in known:
                raise InputError(f"items: the gallery has no image {item}; it may be deleted")
        return [
            Look(Query(known[item].modality.value, False, item=item), vector)
            for item, vector in zip(items, self.store.vectors(list(items)), strict=True)
        ]

    def search(self, looks: Sequence[Look], asked: Asked, by: str) -> Found:
        """Rank the gallery's images by how likely they show the person of the query images."""
        queries = tuple(look.query for look in looks)
        vectors_QD = np.stack([look.vector for look in looks])
        return self._ranked(queries, vectors_QD, asked, by, (), ())

    def refine(self, wanted: Refinement, by: str) -> Found:
        """Search again with hits and misses; scores stay those against the query images.

        Raises:
            InputError: the search is forgotten, or an image is marked both ways.
        """
        if both := set(wanted.hits) & set(wanted.misses):
            raise InputError(f"hits, misses: image {min(both)} is marked both ways; choose one")
        former = self.recall(wanted.search)
        return self._ranked(
            former.found.search.queries, former.vectors,
            wanted.asked or former.found.search.asked, by, wanted.hits, wanted.misses,
        )  # fmt: skip

    def recall(self, search: str) -> _Remembered:
        """A search made lately.

        Raises:
            InputError: it is forgotten.
        """
        with self._lock:
            known = self._remembered.get(search)
        if known is None:
            raise InputError("search: is not remembered any more; search again")
        return known

    def score(self, cosines: FloatArray, searched: int) -> FloatArray:
        """The scores to show: confidences where the model is calibrated, else the cosines."""
        return (
            cosines if self.calibration is None else self.calibration.confidence(cosines, searched)
        )

    @property
    def threshold(self) -> float | None:
        """The score below which probably nobody is found; None without calibration."""
        return None if self.calibration is None else self.calibration.threshold

    def _ranked(
        self, queries: tuple[Query, ...], vectors_QD: FloatArray, asked: Asked, by: str,
        hits: tuple[int, ...], misses: tuple[int, ...],
    ) -> Found:  # fmt: skip
        began = time.perf_counter()
        where = _where(asked, queries)
        query_D = refined(vectors_QD, self._marked(hits), self._marked(misses))
        apart = {*misses, *(query.item for query in queries if query.item is not None)}
        ids = self.store.nearest(query_D, asked.k + len(apart), where).ids.tolist()
        ids = [item for item in ids if item not in apart][: asked.k]
        known = self.store.get(ids)
        ids = [item for item in ids if item in known]  # it may be deleted meanwhile
        mean_D = vectors_QD.astype(np.float64).mean(axis=0)
        cosines = np.asarray(self._vectors(ids).astype(np.float64) @ mean_D, np.float32)
        searched = self._many(where)
        scores = self.score(cosines, searched)
        least = -np.inf if asked.min_score is None else asked.min_score
        rows = [row for row in range(len(ids)) if scores[row] >= least]
        ranked = tuple(
            Hit(rank, item_of(known[ids[row]]), float(scores[row]), float(cosines[row]),
                "hit" if ids[row] in hits else None)
            for rank, row in enumerate(rows, start=1)
        )  # fmt: skip
        model = model_of(self.embedder)
        search = Search(
            secrets.token_urlsafe(12), datetime.now(UTC), by, asked, queries, hits, misses,
            searched, self.store.name, self.store.version(), model.method, model.fingerprint,
            self.threshold, __version__,
        )  # fmt: skip
        best = float(scores.max()) if len(scores) else -np.inf
        nobody = self.threshold is not None and best < self.threshold
        found = Found(search, ranked, nobody, time.perf_counter() - began)
        self._remember(found, vectors_QD)
        return found

    def _marked(self, items: Sequence[int]) -> FloatArray:
        """Vectors of marked images, as far as they are still there."""
        vectors = self._vectors(items)
        there: FloatArray = vectors[(vectors != 0).any(axis=1)]
        return there

    def _vectors(self, items: Sequence[int]) -> FloatArray:
        """Vectors of the gallery, which has no width itself before its first image."""
        return self.store.vectors(list(items)).reshape(len(items), self.embedder.width)

    def _many(self, where: Where) -> int:
        """How many images are searched."""
        if replace(where, modality=None) != Where():
            return self.store.count(where)
        kinds = self.stats().by_modality
        return sum(kinds.values()) if where.modality is None else kinds.get(where.modality.value, 0)

    def _remember(self, found: Found, vectors_QD: FloatArray) -> None:
        with self._lock:
            self._remembered[found.search.id] = _Remembered(found, vectors_QD)
            while len(self._remembered) > REMEMBERED:
                self._remembered.popitem(last=False)


def _where(asked: Asked, queries: Sequence[Query]) -> Where:
    """The part of the gallery that is asked for."""
    within = asked.within
    if within == "other":
        kinds = {Modality(query.modality) for query in queries}
        modality = kinds.pop().other if len(kinds) == 1 else None
    else:
        modality = None if within == "any" else Modality(within)
    return Where(
        cameras=asked.cameras,
        modality=modality,
        since=_seconds(asked.since, "since"),
        until=_seconds(asked.until, "until"),
        tags=asked.tags,
    )


def _seconds(moment: datetime | None, field: str) -> float | None:
    try:
        return None if moment is None else moment.timestamp()
    except (OverflowError, ValueError, OSError):
        raise InputError(f"{field}: {moment} is no time a camera lived in") from None


def moment_of(seconds: float | None) -> datetime | None:
    """Seconds since 1970 as a time in UTC; None for one outside of all calendars."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def item_of(stored: Stored) -> Item:
    """A kept image as the API tells of it."""
    return Item(
        stored.id,
        stored.source,
        stored.camera,
        stored.modality.value,
        moment_of(stored.time),
        stored.tags,
        moment_of(stored.added),
    )
