"""Search an indexed gallery for the people on some query images, across modalities."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from visir.core.types import FloatArray, InputError, Modality
from visir.data.images import read_image
from visir.data.locate import modality_by_colour, modality_named
from visir.embedding.base import Embeds
from visir.evaluation.confidence import Calibration
from visir.evaluation.rerank import RERANKERS
from visir.gallery.open import model_of, open_gallery
from visir.gallery.results import Hit, RankedList, SearchResult, calibrated
from visir.gallery.store import Mode, Store, Stored, Where, require_fitting

Rerank = Literal["none", "k-reciprocal", "random-walk"]
EVERYTHING = Where()
_DEPTH = 200  # hits that re-ranking looks at, or ten times as many as asked for


class Wanted(NamedTuple):
    """What a search asks for beside the query.

    k: hits; where: the part of the gallery; same_modality: not only the other modality, where
    `where` names none; least: cosine below which nothing is listed; rerank: how the best are put
    in order anew, by their neighbours among themselves; mode: as of `Store.nearest`.
    """

    k: int = 10
    where: Where = EVERYTHING
    same_modality: bool = False
    least: float = -1.0
    rerank: Rerank = "none"
    mode: Mode = "auto"


def ask(
    store: Store,
    embedder: Embeds,
    images: Sequence[Path],
    wanted: Wanted,
    modality: Modality | None = None,
    together: bool = False,
    calibration: Calibration | None = None,
) -> SearchResult:
    """Rank a gallery's images by how likely they show the person of each query image.

    Args:
        store: the gallery.
        embedder: the one its vectors are of.
        images: the query images; one that is in the gallery is never its own hit.
        wanted: what is asked for.
        modality: of all queries; None judges each by its colours (all grey is infrared).
        together: all images show one person, who is looked for once, by the mean of their scores.
        calibration: what tells the confidence of hits.

    Raises:
        InputError: k < 1, no query, one that cannot be read, or another model's gallery.
    """
    if wanted.k < 1:
        raise InputError(f"k: {wanted.k} hits cannot be listed; give 1 or more")
    if not images:
        raise InputError("images: no query image was given; name at least one")
    require_fitting(store.model(), model_of(embedder), store.name)
    queries = [_query(Path(path), modality) for path in images]
    vectors = np.concatenate([embedder.embed([query.query], query.modality) for query in queries])
    if together:
        kinds = {query.modality for query in queries}
        if len(kinds) > 1 and wanted.where.modality is None and not wanted.same_modality:
            raise InputError(
                "images: of one person asked for together some are visible and some infrared; name "
                "the modality to search, or search the same modality too"
            )
        queries = [queries[0]._replace(others=tuple(query.query for query in queries[1:]))]
        vectors = fused(vectors)[None]
    lists = []
    for query, vector in zip(queries, vectors, strict=True):
        shown = (query.query, *query.others)
        sources = {str(name) for path in shown for name in (path, path.resolve())}
        hits, searched = look_up(store, vector, query.modality, wanted, sources)
        lists.append(calibrated(query._replace(hits=tuple(hits)), calibration, searched))
    return SearchResult(tuple(lists))


def ask_run(
    run: Path, gallery: str, images: Sequence[Path], wanted: Wanted,
    modality: str | None = None, together: bool = False, device: str = "cpu",
) -> SearchResult:  # fmt: skip
    """`ask` with a run folder or a weights file, and a gallery's address.

    Raises:
        InputError: as `ask`, or the run or the gallery cannot be opened.
    """
    from visir.embedding.pytorch import load  # late: PyTorch takes its time

    embedder = load(run, device)
    store = open_gallery(gallery)
    calibration = Calibration.of(run, embedder.fingerprint)
    kind = modality_named(modality, "modality")
    return ask(store, embedder, images, wanted, kind, together, calibration)


def look_up(
    store: Store, vector_D: FloatArray, modality: Modality, wanted: Wanted,
    but: Collection[str] = (),
) -> tuple[list[Hit], int]:  # fmt: skip
    """The hits of one descriptor, best first, and how many images were searched.

    Args:
        store: the gallery.
        vector_D: (D,) descriptor of the query, of length 1 at most.
        modality: the query's.
        wanted: what is asked for.
        but: sources that are no hits.
    """
    where = wanted.where
    if where.modality is None and not wanted.same_modality:
        where = replace(where, modality=modality.other)
    depth = wanted.k if wanted.rerank == "none" else max(_DEPTH, 10 * wanted.k)
    found = store.nearest(vector_D, depth + len(but), where, wanted.mode)
    items = store.get(found.ids.tolist())
    kept = [
        (items[item], float(score))
        for item, score in zip(found.ids.tolist(), found.scores, strict=True)
        if item in items and items[item].source not in but and score >= wanted.least
    ]
    if wanted.rerank != "none" and kept:
        vectors = store.vectors([item.id for item, _ in kept])
        order = np.argsort(-RERANKERS[wanted.rerank](vector_D[None], vectors)[0], kind="stable")
        kept = [kept[row] for row in order]
    hits = [_hit(store, rank, *of) for rank, of in enumerate(kept[: wanted.k], start=1)]
    return hits, store.count(where)


def fused(vectors_ND: FloatArray) -> FloatArray:
    """One query of several images of a person: (D,) their mean.

    It is not stretched to length 1, so a score is the mean of the images' cosines: that of a
    stretched mean is higher the more images there are, for strangers too.
    """
    return np.asarray(vectors_ND.mean(axis=0), np.float32)


def _query(path: Path, given: Modality | None) -> RankedList:
    modality = given or modality_by_colour(read_image(path))
    return RankedList(path, modality, given is None, "", None, ())


def _hit(store: Store, rank: int, item: Stored, score: float) -> Hit:
    return Hit(
        rank, Path(item.source), item.camera, item.modality, score, id=item.id, time=item.time,
        thumbnail=store.thumbnail(item.id),
    )  # fmt: skip
