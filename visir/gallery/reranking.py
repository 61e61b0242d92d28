"""Order the top hits of a search anew, by their neighbours or without their cameras' means."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from visir.core.types import FloatArray, InputError, IntArray, Modality
from visir.evaluation.rerank import RERANKERS, neighbour_graph, without
from visir.gallery.query import Query
from visir.gallery.store import Filter, Store, Stored

_SAMPLE = 500  # images whose mean is a camera's mean, at most: those that were added first
_LEAST = 8  # images of a camera or modality that a mean needs


class TooFewError(InputError):
    """A modality has too few images for a mean."""


def reranked(
    store: Store, queries: Sequence[Query], order_D: FloatArray, items: Sequence[Stored], name: str
) -> tuple[IntArray, bool | None]:
    """The places of the hits in their new order, and whether cameras' means were subtracted.

    The second is None for a re-ranking that knows none, and False for `camera-graph` where the
    gallery has too few images of a modality.

    Args:
        store: the gallery.
        queries: what is searched with.
        order_D: (D,) the vector that the hits were ordered by.
        items: the hits.
        name: a key of `visir.evaluation.rerank.RERANKERS`.

    Raises:
        TooFewError: `camera-means`, and the gallery has too few images of a modality.
    """
    vectors_ND = store.vectors([item.id for item in items])
    _, cams = np.unique([item.camera for item in items], return_inverse=True)
    apart = np.array([-1])  # the query is of no camera of the gallery
    rerank = RERANKERS[name]
    means: bool | None = None
    if name in ("camera-means", "camera-graph"):
        # The means are those of the gallery, not of the hits, which are all alike.
        rerank = _cosines if name == "camera-means" else neighbour_graph
        try:
            order_D, vectors_ND = _without_means(store, queries, order_D, items, vectors_ND)
            means = True
        except TooFewError:
            if name == "camera-means":
                raise
            means = False
    scores = rerank(order_D[None], vectors_ND, apart, cams)[0]
    return np.argsort(-scores, kind="stable"), means


def _cosines(query_QD: FloatArray, gallery_GD: FloatArray, *cams: IntArray) -> FloatArray:
    return query_QD @ gallery_GD.T


def _without_means(
    store: Store, queries: Sequence[Query], order_D: FloatArray, items: Sequence[Stored],
    vectors_ND: FloatArray,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """(D,) and (N, D): what the hits are ordered by, and their vectors, without cameras' means.

    A query image that is not in the gallery has the mean of its modality.

    Raises:
        TooFewError: a modality has too few images.
    """

    @cache
    def mean(modality: Modality, camera: str) -> FloatArray:
        """Of a camera, or of the modality where there is none or it has too few images."""
        where = Filter(modality=modality, cameras=(camera,) if camera else ())
        ids = [item.id for item in store.select(where, limit=_SAMPLE)]
        if len(ids) >= _LEAST:
            return np.asarray(store.vectors(ids).mean(axis=0))
        if camera:
            return mean(modality, "")
        raise TooFewError(
            f"{store.name}: has {len(ids)} {modality.value} images, and re-ranking by camera-means "
            f"needs {_LEAST} of each modality; add images, or choose another re-ranking"
        )

    of_queries = [mean(each.modality, each.item.camera if each.item else "") for each in queries]
    of_items = np.stack([mean(item.modality, item.camera) for item in items])
    unit_D = order_D / np.linalg.norm(order_D)
    query_D = without(unit_D[None], np.mean(of_queries, axis=0)[None])[0]
    return query_D, without(vectors_ND, of_items)
