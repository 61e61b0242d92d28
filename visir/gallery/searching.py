"""Search a store for one person: the search of the command line, the page, the API and the demo.

A search has one or more query images, all of the same person. Its rules, in this order:

1. Searched is the part of the gallery the options name; if they name no modality, the modality that
   the query images are not of (both modalities if there are query images of both).
2. A hit's cosine is the mean of its cosines with the query images. With a calibration its score is
   the confidence, otherwise the cosine.
3. A query image is never its own hit.
4. There is "no match" if the best score is below the calibrated threshold. The best score is that
   of all images searched but those marked as wrong, in whatever order the hits are listed.
5. Hits below the minimum score are left out.
6. Feedback and re-ranking change the order of the hits, never their scores. The ranked list says
   which of them were used (`RankedList.ordering`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visir.core.types import FloatArray, InputError, Modality, Span
from visir.data.ranges import name_of
from visir.embedding.base import ImageEmbedder
from visir.evaluation.confidence import Calibration
from visir.gallery.feedback import NO_FEEDBACK, Feedback, refine, require_consistent
from visir.gallery.ordering import Ordering
from visir.gallery.query import Query, SearchOptions, queries_of_files
from visir.gallery.reranking import reranked
from visir.gallery.store import Filter, Store, Stored

_DEPTH = 200  # candidates that are re-ranked, or ten times the number of hits


class Hit(NamedTuple):
    """A gallery image found.

    cosine: the mean over the query images; confidence: how likely it shows the same person, 0 to 1,
    None without a calibration; correct: whether it does, None if an identity is unknown; marked: it
    was given as a match; id: None if it does not last (`Store.permanent`); thumbnail: a small JPEG,
    only if it was asked for; span: of its camera, if that writes more than 8 bits a pixel.
    """

    rank: int
    item: Stored
    cosine: float
    confidence: float | None = None
    correct: bool | None = None
    marked: bool = False
    id: int | None = None
    thumbnail: bytes | None = None
    span: Span | None = None

    @property
    def score(self) -> float:
        """What is displayed: the confidence if the run is calibrated, otherwise the cosine."""
        return self.cosine if self.confidence is None else self.confidence

    @property
    def path(self) -> Path:
        """The image's source as a path."""
        return Path(self.item.source)

    @property
    def camera(self) -> str:
        """The camera that took it."""
        return self.item.camera

    @property
    def modality(self) -> Modality:
        """The modality of its camera."""
        return self.item.modality

    @property
    def pid(self) -> int | None:
        """Its identity, if it is known."""
        return self.item.pid

    @property
    def time(self) -> float | None:
        """When it was taken, seconds since 1970."""
        return self.item.time


class RankedList(NamedTuple):
    """The hits of one search, best first.

    queries: the query images, all of one person; searched: how many images were searched; no_match:
    the best score is below the calibrated threshold, None without a calibration; best: the highest
    score (`Hit.score`) of the images searched, which need not be among the hits if they were
    re-ranked or refined, None without an image; ordering: whether and how they were.
    """

    queries: tuple[Query, ...]
    hits: tuple[Hit, ...]
    searched: int
    no_match: bool | None
    best: float | None = None
    ordering: Ordering = Ordering()

    @property
    def query(self) -> Path:
        """The first query image's file."""
        return self.queries[0].path or Path()

    @property
    def others(self) -> tuple[Path, ...]:
        """The files of the other query images."""
        return tuple(query.path for query in self.queries[1:] if query.path)

    @property
    def modality(self) -> Modality:
        """The first query image's modality."""
        return self.queries[0].modality

    @property
    def inferred(self) -> bool:
        """Whether that modality was judged by colours."""
        return self.queries[0].inferred

    @property
    def camera(self) -> str:
        """The first query image's camera; empty if it is unknown."""
        item = self.queries[0].item
        return "" if item is None else item.camera

    @property
    def pid(self) -> int | None:
        """The first query image's identity, if it is known."""
        item = self.queries[0].item
        return None if item is None else item.pid


def search(
    store: Store,
    queries: Sequence[Query],
    options: SearchOptions,
    calibration: Calibration | None = None,
    feedback: Feedback = NO_FEEDBACK,
    count: Callable[[Filter], int] | None = None,
) -> RankedList:
    """Rank a gallery's images by how likely they show the person of the query images.

    Args:
        store: the gallery.
        queries: one or more images, all of one person.
        options: which hits are listed.
        calibration: of the model; None leaves scores cosines.
        feedback: gallery images marked by a person. Non-matches are left out.
        count: how many images a filter selects; `store.count` if omitted.

    Raises:
        InputError: an image is marked both ways, or the marked images cancel each other.
    """
    require_consistent(feedback)
    where = _part(queries, options)
    mean_D = np.stack([query.vector for query in queries]).astype(np.float64).mean(axis=0)
    order_D = _ordering(store, queries, mean_D, feedback)
    items, cosines = _candidates(
        store,
        queries,
        order_D=order_D,
        mean_D=mean_D,
        where=where,
        options=options,
        feedback=feedback,
    )
    if feedback != NO_FEEDBACK:  # the nearest to a refined vector may all be far from the queries
        _, highest = _nearest(store, queries, mean_D, 1, where, options, feedback)
        cosines = np.append(cosines, highest)
    searched = (count or store.count)(where)
    confidences = None if calibration is None else calibration.displayed(cosines, searched)
    scores = cosines if confidences is None else confidences
    no_match = None if calibration is None else calibration.no_match(cosines, searched)
    ordering = Ordering(options.rerank, None, len(feedback.matches), len(feedback.non_matches))
    rows = [
        row for row in range(len(items))
        if options.min_score is None or scores[row] >= options.min_score
    ]  # fmt: skip
    if options.rerank != "none" and rows:
        found = [items[row] for row in rows]
        order, means = reranked(store, queries, order_D, found, options.rerank)
        rows, ordering = [rows[place] for place in order], ordering._replace(camera_means=means)
    hits = [
        _hit(store, queries[0], rank, items[row], float(cosines[row]),
             None if confidences is None else float(confidences[row]), feedback)
        for rank, row in enumerate(rows[: options.k], start=1)
    ]  # fmt: skip
    best = float(scores.max()) if len(scores) else None
    spanned = _with_spans(store, hits)
    return RankedList(tuple(queries), spanned, searched, no_match, best, ordering)


def search_files(
    store: Store,
    embedder: ImageEmbedder,
    paths: Sequence[Path],
    options: SearchOptions,
    *,
    modality: Modality | None = None,
    together: bool = False,
    calibration: Calibration | None = None,
    feedback: Feedback = NO_FEEDBACK,
) -> list[RankedList]:
    """Search with image files, one search for each or one for all; hits have thumbnails.

    Args:
        store: the gallery.
        embedder: the model its embeddings were made with.
        paths: the query images.
        options: which hits are listed.
        modality: as of `queries_of_files`.
        together: all images show one person; search once.
        calibration: as of `search`.
        feedback: as of `search`; of one person, so several images need `together`.

    Raises:
        InputError: as `queries_of_files` and `search`.
    """
    queries = queries_of_files(store, embedder, paths, modality)
    people = [queries] if together else [[query] for query in queries]
    if feedback != NO_FEEDBACK and len(people) > 1:
        raise InputError(
            f"images: feedback is about one person, and {len(people)} images were given; search "
            "with one image, or with all of them together"
        )
    lists = [search(store, person, options, calibration, feedback) for person in people]
    return [_with_thumbnails(store, ranked) for ranked in lists] if store.permanent else lists


def require_candidates(store: Store, lists: Sequence[RankedList], options: SearchOptions) -> None:
    """Refuse a search that could find nothing because the gallery has one modality only.

    Raises:
        InputError: which modality.
    """
    for ranked in lists:
        own = Filter(modality=ranked.modality)
        searches_other = _part(ranked.queries, options).modality is ranked.modality.other
        if ranked.searched or options.where.modality is not None or not searches_other:
            continue
        images = store.count()
        if images and store.count(own) == images:
            kind = ranked.modality.value
            raise InputError(
                f"{store.name}: holds {kind} images only and the query is {kind}; add images of "
                "the other modality, or search the same modality too (--same-modality)"
            )


def _with_spans(store: Store, hits: Sequence[Hit]) -> tuple[Hit, ...]:
    ranges = store.ranges()
    if not ranges:
        return tuple(hits)
    spans = [ranges.get(name_of(hit.modality, hit.camera)) for hit in hits]
    return tuple(hit._replace(span=span) for hit, span in zip(hits, spans, strict=True))


def _with_thumbnails(store: Store, ranked: RankedList) -> RankedList:
    hits = (hit._replace(thumbnail=store.thumbnail(hit.item.id)) for hit in ranked.hits)
    return ranked._replace(hits=tuple(hits))


def _part(queries: Sequence[Query], options: SearchOptions) -> Filter:
    """The part of the gallery that is searched."""
    modalities = {query.modality for query in queries}
    if options.where.modality is not None or options.same_modality or len(modalities) > 1:
        return options.where
    return replace(options.where, modality=modalities.pop().other)


def _ordering(
    store: Store, queries: Sequence[Query], mean_D: FloatArray, feedback: Feedback
) -> FloatArray:
    """(D,) the vector that the gallery's images are ordered by.

    Without feedback it is the mean, which is not scaled to length 1, so that a cosine with it is
    the mean of the cosines.
    """
    if feedback == NO_FEEDBACK:
        return np.asarray(mean_D, np.float32)
    marked = [
        store.vectors(ids).reshape(len(ids), len(mean_D))
        for ids in (feedback.matches, feedback.non_matches)
    ]
    there = [vectors[(vectors != 0).any(axis=1)] for vectors in marked]  # some may be deleted
    return refine(np.stack([query.vector for query in queries]), *there)


def _candidates(
    store: Store, queries: Sequence[Query], order_D: FloatArray, mean_D: FloatArray,
    where: Filter, options: SearchOptions, feedback: Feedback,
) -> tuple[list[Stored], FloatArray]:  # fmt: skip
    """Images from which hits are taken, in the order of `order_D`, and their cosines."""
    depth = options.k if options.rerank == "none" else max(_DEPTH, 10 * options.k)
    items, cosines = _nearest(store, queries, order_D, depth, where, options, feedback)
    if feedback == NO_FEEDBACK:
        return items, cosines
    vectors = store.vectors([item.id for item in items]).reshape(len(items), len(mean_D))
    return items, np.asarray(vectors.astype(np.float64) @ mean_D, np.float32)


def _nearest(
    store: Store, queries: Sequence[Query], vector_D: FloatArray, least: int, where: Filter,
    options: SearchOptions, feedback: Feedback,
) -> tuple[list[Stored], FloatArray]:  # fmt: skip
    """At least so many images, if there are, nearest to a vector, and their cosines with it.

    Query images and those marked as wrong are not among them.
    """
    left_out = {*feedback.non_matches, *(query.item.id for query in queries if query.item)}
    files = {query.path.resolve() for query in queries if query.path}
    count = least + len(left_out) + len(files)
    found = store.nearest(np.asarray(vector_D, np.float32), count, where, options.mode)
    known = store.get(found.ids.tolist())
    rows = [
        row for row, item in enumerate(found.ids.tolist())
        if item in known and item not in left_out and not _is_one_of(known[item], files)
    ]  # fmt: skip
    return [known[int(found.ids[row])] for row in rows], found.scores[rows]


def _is_one_of(item: Stored, files: Collection[Path]) -> bool:
    return bool(files) and Path(item.source).resolve() in files


def _hit(
    store: Store, query: Query, rank: int, item: Stored, cosine: float, confidence: float | None,
    feedback: Feedback,
) -> Hit:  # fmt: skip
    correct = None
    if query.item is not None and query.item.pid is not None and item.pid is not None:
        correct = (query.item.pid, query.item.group) == (item.pid, item.group)
    return Hit(
        rank,
        item,
        cosine=cosine,
        confidence=confidence,
        correct=correct,
        marked=item.id in feedback.matches,
        id=item.id if store.permanent else None,
    )
