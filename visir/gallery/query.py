"""What a search is for: the query images, and the options that say which hits are listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from visir.core.types import FloatArray, InputError, Modality, Record, Span
from visir.data.images import read_image
from visir.data.locate import modality_by_colour, placed
from visir.data.ranges import likely
from visir.embedding.base import ImageEmbedder
from visir.evaluation.rerank import RERANKERS
from visir.gallery.store import (
    EVERYTHING,
    Filter,
    Mode,
    Store,
    Stored,
    model_of,
    require_same_model,
)

RERANK_NAMES = ("none", *RERANKERS)


@dataclass(frozen=True)
class SearchOptions:
    """Which hits a search lists.

    k: number of hits; where: the part of the gallery to search; same_modality: if `where` names no
    modality, search both; min_score: the minimum score of a hit, on the scale of the scores
    displayed; rerank: one of `RERANK_NAMES`, how the top hits are re-ordered by their neighbours;
    mode: as of `Store.nearest`.

    Raises:
        InputError: a value out of range; the message names it.
    """

    k: int = 10
    where: Filter = EVERYTHING
    same_modality: bool = False
    min_score: float | None = None
    rerank: str = "none"
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InputError(f"k: {self.k} hits cannot be listed; give 1 or more")
        if self.min_score is not None and not -1 <= self.min_score <= 1:
            raise InputError(f"min_score: {self.min_score} is not between -1 and 1")
        _require_one_of("rerank", self.rerank, RERANK_NAMES)
        _require_one_of("mode", self.mode, get_args(Mode))


class Query(NamedTuple):
    """An image of the person searched for, embedded.

    vector: (D,) of length 1; inferred: the modality was judged by the image's colours; path: its
    file; item: what the gallery knows of it, None if it is not in the gallery; span: of its camera,
    if that writes more than 8 bits a pixel.
    """

    vector: FloatArray
    modality: Modality
    inferred: bool = False
    path: Path | None = None
    item: Stored | None = None
    span: Span | None = None


def queries_of_files(
    store: Store, embedder: ImageEmbedder, paths: Sequence[Path], modality: Modality | None = None
) -> list[Query]:
    """Read and embed query images. Modality, camera and identity of a gallery image are known.

    Args:
        store: the gallery to be searched.
        embedder: the model its embeddings were made with.
        paths: image files, in the gallery or not.
        modality: of all of them; None takes it from the gallery, or judges it by the colours (all
            grey is infrared).

    Raises:
        InputError: no image, one that cannot be read, or another model's gallery.
    """
    if not paths:
        raise InputError("images: no query image was given; name at least one")
    require_same_model(store.model(), model_of(embedder), store.name)
    queries = [_unembedded(store, path, modality) for path in paths]
    for side in {query.modality for query in queries}:
        rows = [row for row, query in enumerate(queries) if query.modality is side]
        records = [Record(paths[row], None, 0, side, queries[row].span) for row in rows]
        vectors = embedder.embed(records, side)
        for row, vector in zip(rows, vectors, strict=True):
            queries[row] = queries[row]._replace(vector=vector)
    return queries


def queries_of_items(store: Store, ids: Sequence[int]) -> list[Query]:
    """Images of the gallery as queries.

    Raises:
        InputError: one is not there.
    """
    known = store.get(ids)
    for item in ids:
        if item not in known:
            raise InputError(f"items: the gallery has no image {item}; it may be deleted")
    return [
        Query(vector, known[item].modality, item=known[item])
        for item, vector in zip(ids, store.vectors(ids), strict=True)
    ]


def find_file(store: Store, path: Path) -> Stored | None:
    """What a gallery knows of an image file; None if it is not in the gallery."""
    known = store.known(list(dict.fromkeys([str(path), str(path.absolute()), str(path.resolve())])))
    found = store.get(list(known.values()))
    return next(iter(found.values()), None)


def _unembedded(store: Store, path: Path, modality: Modality | None) -> Query:
    """A query without its vector; the image is read now, so that errors come first."""
    item = find_file(store, path)
    side = modality or (None if item is None else item.modality)
    # An image of more than 8 bits is grey, whatever its range.
    span = _span(store, path, side or Modality.INFRARED, item)
    picture = read_image(path, side, span)
    judged = modality_by_colour(picture) if item is None else item.modality
    inferred = modality is None and item is None
    return Query(np.empty(0, np.float32), modality or judged, inferred, path, item, span)


def _span(store: Store, path: Path, side: Modality, item: Stored | None) -> Span | None:
    """The range of a query image: of its camera in the gallery, or by its folder's name."""
    _, folder = placed(path.absolute().parent.parts[-2:])
    return likely(store.ranges(), side, folder if item is None else item.camera)


def _require_one_of(field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(f"{field}: {value!r} is unknown; use {', '.join(known)}")
