"""Searching, refining and comparing, for the API and the page: no HTTP in here.

The search itself is `visir.gallery.searching.search`. The service reads and embeds images that
are sent, those of several requests together, remembers searches so that they can be refined and
kept, and says where each result came from.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np

from visir import __version__
from visir.core.types import FloatArray, InputError, Modality
from visir.data.pictures import look_at
from visir.data.ranges import likely
from visir.data.remarks import poor
from visir.embedding.base import ImageEmbedder
from visir.evaluation.confidence import Calibration
from visir.gallery import compare as pairs
from visir.gallery.feedback import NO_FEEDBACK, Feedback
from visir.gallery.query import Query, queries_of_items
from visir.gallery.searching import RankedList, search
from visir.gallery.store import (
    EVERYTHING,
    Filter,
    Stats,
    Store,
    model_of,
    require_same_model,
)
from visir.web.batching import Batcher
from visir.web.kept import Kept
from visir.web.originals import original
from visir.web.remembered import QueryImage, Searches
from visir.web.rendering import opened
from visir.web.schemas import (
    CompareRequest,
    GalleryFacts,
    Item,
    RefineRequest,
    SearchRecord,
    SearchRequest,
    SearchResponse,
)
from visir.web.spread import spread_of
from visir.web.uploads import Upload, read_upload
from visir.web.views import hit_views, item_of, moment_of, options_of, query_view, scale_of

AT_ONCE = 2  # requests whose images are read, compared or re-ranked
FRESH = 5.0  # seconds for which the gallery's statistics are not computed again
RARELY = 600.0  # and for which a sample of it is kept
POOR = 4096  # images of which it is remembered whether they are poor crops


class SearchService:
    """A gallery, the model its embeddings were made with, and the latest searches.

    Args:
        embedder: the model.
        store: the gallery.
        calibration: of the model; None leaves scores cosines.

    Attributes:
        searches: the latest ones.
        poor: why an image's thumbnail shows a poor crop, in words; empty if it does not.
        doubt: why images that seem too old are still there; None where there is nothing to say.

    Raises:
        InputError: the gallery holds another model's embeddings.
    """

    def __init__(
        self, embedder: ImageEmbedder, store: Store, calibration: Calibration | None
    ) -> None:
        require_same_model(store.model(), model_of(embedder), store.name)
        self.embedder, self.store, self.calibration = embedder, store, calibration
        self.searches = Searches()
        self._seats = threading.Semaphore(AT_ONCE)
        self._batcher = Batcher(embedder)
        self._stats = Kept(store.stats, FRESH)
        self._span = Kept(lambda: likely(store.ranges(), Modality.INFRARED, None), FRESH)
        self._spread = Kept(lambda: spread_of(store), RARELY)
        self.poor = lru_cache(POOR)(self._poor)
        self.doubt: str | None = None

    def prepare(self) -> None:
        """Do what only the first search would have to wait for."""
        grey = np.full((1, *self.embedder.size, 3), 128, np.uint8)
        for side in Modality:
            query = Query(self._batcher.embed(grey, side)[0], side)
            search(self.store, [query], options_of(SearchRequest()), self.calibration)

    def close(self) -> None:
        """End its thread."""
        self._batcher.close()

    @property
    def threshold(self) -> float | None:
        """The score below which there is probably no match; None if scores are cosines."""
        known = self.calibration
        return None if known is None or known.only_strangers else known.threshold

    # ---- what the gallery holds

    def stats(self) -> Stats:
        """What the gallery holds, some seconds old at most."""
        return self._stats.get()

    def changed(self) -> None:
        """Images were deleted: compute again what is known of the gallery."""
        self._stats.drop()
        self._spread.drop()

    def facts(self) -> GalleryFacts:
        """What the gallery holds, and the model that searches it."""
        stats, model = self.stats(), model_of(self.embedder)
        return GalleryFacts(
            name=self.store.name,
            images=stats.images,
            by_camera=stats.by_camera,
            by_modality=stats.by_modality,
            earliest=moment_of(stats.earliest),
            latest=moment_of(stats.latest),
            bytes_on_disk=stats.bytes_on_disk,
            version=stats.version,
            retention=stats.retention,
            engine=stats.engine,
            method=model.method,
            fingerprint=model.fingerprint,
            calibrated=self.threshold is not None,
            visir=__version__,
            doubt=self.doubt,
        )

    def item(self, item: int) -> Item | None:
        """What is known of a gallery image; None if it is not there."""
        known = self.store.get([item]).get(item)
        return None if known is None else item_of(known)

    def original(self, item: int, blur: bool) -> bytes | None:
        """An image's file as a JPEG, see `visir.web.originals`; None if the image is not there."""
        known = self.store.get([item]).get(item)
        if known is None:
            return None
        with self._seats:
            return original(self.store, known, blur)

    def _poor(self, item: int) -> str:
        known, jpeg = self.store.get([item]).get(item), self.store.thumbnail(item)
        if known is None or jpeg is None:
            return ""
        return poor(look_at(jpeg, f"image {item}", known.modality, None))

    # ---- query images

    def read(self, files: Sequence[bytes]) -> list[Upload]:
        """Read images that were sent, a few at once however many requests there are.

        Raises:
            InputError: one cannot be read.
        """
        span = self._span.get()
        with self._seats:
            return [
                read_upload(data, self.embedder.size, f"image {number}", span)
                for number, data in enumerate(files, start=1)
            ]

    def embed(self, uploads: Sequence[Upload], modality: str) -> list[QueryImage]:
        """Images that were sent, as queries; modality: "auto" judges each by its colours.

        Raises:
            BusyError: too many images are waiting for the network.
        """
        sides = [u.modality if modality == "auto" else Modality(modality) for u in uploads]
        vectors: dict[int, FloatArray] = {}
        for side in set(sides):
            rows = [row for row, one in enumerate(sides) if one is side]
            found = self._batcher.embed(np.stack([uploads[row].pixels for row in rows]), side)
            vectors.update(zip(rows, found, strict=True))
        return [
            QueryImage(Query(vectors[row], side, modality == "auto"), upload.sha256, upload.picture)
            for row, (upload, side) in enumerate(zip(uploads, sides, strict=True))
        ]

    def images_of_items(self, items: Sequence[int], pictures: bool = False) -> list[QueryImage]:
        """Images of the gallery as queries.

        Raises:
            InputError: one is not there.
        """
        found = []
        for query in queries_of_items(self.store, items):
            assert query.item is not None
            jpeg = self.store.thumbnail(query.item.id) if pictures else None
            name = f"image {query.item.id}"
            found.append(QueryImage(query, picture=None if jpeg is None else opened(jpeg, name)))
        return found

    # ---- searches

    def search(
        self,
        images: Sequence[QueryImage],
        request: SearchRequest,
        by: str,
        owner: str | None = None,
        feedback: Feedback = NO_FEEDBACK,
    ) -> SearchResponse:
        """Search for the person of the query images, and remember the search.

        Args:
            images: the query images.
            request: what to search for.
            by: the name the user gave.
            owner: whose list of recent searches it belongs to; None for no list.
            feedback: images that were marked.
        """
        began = time.perf_counter()
        options = options_of(request)
        queries = [image.query for image in images]
        with self._seats if options.rerank != "none" else contextlib.nullcontext():
            ranked = search(
                self.store, queries, options, self.calibration, feedback, count=self._count
            )
        record = self._record(images, request, by, feedback, ranked)
        spread, vectors = self._spread.get(), self.store.vectors([h.item.id for h in ranked.hits])
        response = SearchResponse(
            record,
            hit_views(ranked.hits, vectors, spread),
            no_match=bool(ranked.no_match),
            nobody=bool(ranked.no_match),
            seconds=time.perf_counter() - began,
            scale=scale_of(ranked, self.calibration, spread),
            best_score=ranked.best,
        )
        self.searches.add(response, images, owner)
        return response

    def refine(self, request: RefineRequest, by: str, owner: str | None = None) -> SearchResponse:
        """Search again with hits and misses; scores stay those against the query images.

        Raises:
            InputError: the search is forgotten, or an image is marked both ways.
        """
        feedback = Feedback(request.hits, request.misses)
        former = self.searches.recall(request.search)
        asked = request.asked or former.response.search.asked
        return self.search(former.images, asked, by, owner, feedback)

    def again(self, search: str, owner: str | None) -> SearchResponse:
        """One of the latest searches of an owner, without hits that were deleted since.

        Raises:
            InputError: it is forgotten, or somebody else's.
        """
        known = self.searches.recall(search)
        if owner is None or known.owner != owner:
            raise InputError("search: is not one of yours; search again")
        there = self.store.get([hit.item.id for hit in known.response.hits])
        hits = tuple(hit for hit in known.response.hits if hit.item.id in there)
        return replace(known.response, hits=hits)

    def compare(
        self, uploads: Sequence[Upload], request: CompareRequest
    ) -> tuple[pairs.Comparison, list[QueryImage]]:
        """Compare two images, those sent first.

        Raises:
            InputError: not two images, or one is not there.
        """
        if len(uploads) + len(request.items) != 2:
            raise InputError("images, items: give two images to compare, sent or of the gallery")
        images = [
            *self.embed(uploads, request.modality),
            *self.images_of_items(request.items, pictures=True),
        ]
        first, second = (pairs.Side(image.query, image.picture) for image in images)
        with self._seats:
            found = pairs.compare(
                self.embedder,
                first,
                second,
                calibration=self.calibration,
                searched=request.searched,
                maps=request.maps,
            )
        return found, images

    def _record(
        self,
        images: Sequence[QueryImage],
        request: SearchRequest,
        by: str,
        feedback: Feedback,
        ranked: RankedList,
    ) -> SearchRecord:
        model = model_of(self.embedder)
        return SearchRecord(
            id=secrets.token_urlsafe(12),
            time=datetime.now(UTC),
            by=by,
            asked=request,
            queries=tuple(query_view(image.query, image.sha256) for image in images),
            hits=feedback.matches,
            misses=feedback.non_matches,
            searched=ranked.searched,
            gallery=self.store.name,
            version=self.store.version(),
            method=model.method,
            fingerprint=model.fingerprint,
            threshold=self.threshold,
            visir=__version__,
            camera_means=ranked.ordering.camera_means,
        )

    def _count(self, where: Filter) -> int:
        """How many images a part has; parts by modality alone are known from the statistics."""
        if replace(where, modality=None) != EVERYTHING:
            return self.store.count(where)
        images = self.stats().by_modality
        if where.modality is None:
            return sum(images.values())
        return images.get(where.modality.value, 0)
