"""Re-ranking: similarities that also use the neighbours of images. Applied only on request.

Its gain depends on how many images of each person the gallery holds, so a result must always say
that it was used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from visir.core.types import FloatArray, InputError, IntArray
from visir.evaluation.ranking import best

_BLOCK = 2**21  # distances in memory at once


def k_reciprocal(
    query_QD: FloatArray, gallery_GD: FloatArray, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> FloatArray:
    """k-reciprocal encoding (Zhong et al., CVPR 2017), in float32 and sparse.

    Queries and gallery are ranked together by squared distance, each row divided by its largest;
    codes of expanded reciprocal neighbours are compared by Jaccard distance, to which a share of
    the distance itself is added.

    Args:
        query_QD: (Q, D) features.
        gallery_GD: (G, D) features of the same kind.
        k1: neighbours of a neighbourhood, the image itself not counted.
        k2: neighbours whose codes are averaged, the image itself counted.
        weight: of the distance itself.

    Returns:
        (Q, G) similarities: minus the distance.

    Raises:
        InputError: a feature is not finite, or there is no query or no gallery image.
    """
    from visir.cluster.jaccard import encode, overlaps  # late: numba and torch load slowly

    features_ND = _together(query_QD, gallery_GD)
    count, total = len(query_QD), len(features_ND)
    square = np.einsum("nd,nd->n", features_ND, features_ND)
    ranks = np.empty((total, min(k1 + 1, total)), np.int32)
    scale = np.empty(total, np.float32)
    found = np.empty((count, total - count), np.float32)
    step = max(1, _BLOCK // total)
    for start in range(0, total, step):
        rows = slice(start, start + step)
        apart = square[rows, None] + square - 2 * (features_ND[rows] @ features_ND.T)
        np.maximum(apart, 0, out=apart)
        scale[rows] = 1 / np.maximum(apart.max(axis=1), np.finfo(np.float32).tiny)
        ranks[rows] = best(-apart, ranks.shape[1])[0]
        queries = max(0, min(count - start, len(apart)))
        found[start : start + queries] = apart[:queries, count:] * scale[rows][:queries, None]
    codes = encode(ranks, features_ND, square_N=square, scale_N=scale, k1=k1, k2=k2)
    near = overlaps(codes[:count], codes[count:], 1.0).tocoo()
    found *= -weight
    found -= 1 - weight
    found[near.row, near.col] += (1 - weight) * (1 - near.data)
    return found


def random_walk(query_QD: FloatArray, gallery_GD: FloatArray, stay: float = 0.95) -> FloatArray:
    """Similarities after a walk through the gallery, to its limit (Shen et al., CVPR 2018).

    S' = S_qg [(1 - a)(I - a A)^-1]^T, A the row softmax of the gallery's own similarities with a
    zero diagonal.

    Args:
        query_QD: (Q, D) features.
        gallery_GD: (G, D) features of the same kind.
        stay: a, how far the walk goes.

    Returns:
        (Q, G) similarities.

    Raises:
        InputError: a feature is not finite, or there is no query or no gallery image.
    """
    import torch  # late, as above

    features = torch.from_numpy(_together(query_QD, gallery_GD))
    query, gallery = features[: len(query_QD)], features[len(query_QD) :]
    steps = (gallery @ gallery.T).fill_diagonal_(0).softmax(dim=1)
    steps.mul_(-stay).diagonal().add_(1)
    found = torch.linalg.solve(steps, (1 - stay) * (gallery @ query.T))
    return np.ascontiguousarray(found.numpy().T, np.float32)


def camera_graph(
    query_QD: FloatArray,
    gallery_GD: FloatArray,
    query_cams: IntArray,
    gallery_cams: IntArray,
    neighbours: int = 4,
    rounds: int = 2,
    keep: float = 0.3,
) -> FloatArray:
    """Features without the means of cameras, averaged over neighbours in every camera.

    visir's own formula: `neighbour_graph` of the features that `camera_means` compares.

    Args:
        query_QD: (Q, D) features.
        gallery_GD: (G, D) features of the same kind.
        query_cams: (Q,) camera of each query.
        gallery_cams: (G,) camera of each gallery image, of the same numbering.
        neighbours: as of `neighbour_graph`.
        rounds: as there.
        keep: as there.

    Returns:
        (Q, G) similarities.

    Raises:
        InputError: a feature is not finite, or there is no query or no gallery image.
    """
    rest_ND = _without_means(query_QD, gallery_GD, np.concatenate([query_cams, gallery_cams]))
    query, gallery = np.split(rest_ND, [len(query_QD)])
    return neighbour_graph(query, gallery, query_cams, gallery_cams, neighbours, rounds, keep)


def neighbour_graph(
    query_QD: FloatArray,
    gallery_GD: FloatArray,
    query_cams: IntArray,
    gallery_cams: IntArray,
    neighbours: int = 4,
    rounds: int = 2,
    keep: float = 0.3,
) -> FloatArray:
    """Features averaged over neighbours in every camera, then compared.

    Images of one camera look alike, so the nearest neighbours of an image are mostly of its own
    camera and say little about other ones. Here every image, of queries and gallery, has the same
    number of neighbours in each camera. Two images are linked if each is a neighbour of the other;
    the weight is their cosine, 0 if negative. In each round a feature becomes keep * itself +
    (1 - keep) * the weighted mean of its neighbours' features of the round before, of length 1. The
    idea of neighbours chosen by camera is that of CEIL (TCSVT 2025).

    Args:
        query_QD: (Q, D) features.
        gallery_GD: (G, D) features of the same kind.
        query_cams: (Q,) camera of each query.
        gallery_cams: (G,) camera of each gallery image, of the same numbering.
        neighbours: of an image in each camera.
        rounds: how often features are averaged.
        keep: weight of an image's own feature.

    Returns:
        (Q, G) similarities.

    Raises:
        InputError: a feature is not finite, or there is no query or no gallery image.
    """
    own_ND = _unit(_together(query_QD, gallery_GD))
    near = _in_every_camera(own_ND, np.concatenate([query_cams, gallery_cams]), neighbours)
    linked = near.minimum(near.T)
    total = np.maximum(np.asarray(linked.sum(axis=1)), np.finfo(np.float32).tiny).reshape(-1, 1)
    moved_ND = own_ND
    for _ in range(rounds):
        moved_ND = _unit(keep * own_ND + (1 - keep) * (linked @ moved_ND) / total)
    count = len(query_QD)
    return np.ascontiguousarray(moved_ND[:count] @ moved_ND[count:].T)


def camera_means(
    query_QD: FloatArray, gallery_GD: FloatArray, query_cams: IntArray, gallery_cams: IntArray
) -> FloatArray:
    """Cosines of features without the mean of their camera, over queries and gallery together.

    What all images of a camera share is its own look, not a person. A feature that equals its
    camera's mean, such as the only one of a camera, is left as it is.

    Args:
        query_QD: (Q, D) features.
        gallery_GD: (G, D) features of the same kind.
        query_cams: (Q,) camera of each query.
        gallery_cams: (G,) camera of each gallery image, of the same numbering.

    Returns:
        (Q, G) similarities.

    Raises:
        InputError: a feature is not finite, or there is no query or no gallery image.
    """
    rest_ND = _without_means(query_QD, gallery_GD, np.concatenate([query_cams, gallery_cams]))
    count = len(query_QD)
    return np.ascontiguousarray(rest_ND[:count] @ rest_ND[count:].T)


def _without_means(query_QD: FloatArray, gallery_GD: FloatArray, cams: IntArray) -> FloatArray:
    """(Q + G, D) features of length 1 less the mean of their camera."""
    own_ND = _unit(_together(query_QD, gallery_GD))
    means_ND = np.empty_like(own_ND)
    for cam in np.unique(cams):
        means_ND[cams == cam] = own_ND[cams == cam].mean(axis=0)
    return without(own_ND, means_ND)


def without(features_ND: FloatArray, means_ND: FloatArray) -> FloatArray:
    """Features less the mean of their camera, of length 1; those that equal it are left.

    Args:
        features_ND: (N, D) of length 1.
        means_ND: (N, D) mean of each one's camera.
    """
    rest_ND = features_ND - means_ND
    there = np.linalg.norm(rest_ND, axis=1, keepdims=True) > 1e-5
    return _unit(np.where(there, rest_ND, features_ND))


def _in_every_camera(features_ND: FloatArray, cams: IntArray, count: int) -> sparse.csr_array:
    """(N, N) cosines of each row with its nearest others in every camera; 0 elsewhere."""
    total = len(features_ND)
    rows, columns, values = [], [], []
    members = [np.flatnonzero(cams == cam) for cam in np.unique(cams)]
    step = max(1, _BLOCK // total)
    for start in range(0, total, step):
        sim = features_ND[start : start + step] @ features_ND.T
        these = np.arange(start, start + len(sim))
        sim[these - start, these] = -1  # nobody is its own neighbour
        for of in members:
            nearest, cosines = best(sim[:, of], min(count, len(of)))
            rows.append(np.repeat(these, nearest.shape[1]))
            columns.append(of[nearest.ravel()])
            values.append(np.maximum(cosines.ravel(), 0))
    found = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(found, shape=(total, total))


def _unit(features_ND: np.ndarray) -> FloatArray:
    lengths = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return np.asarray(features_ND / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


def _together(query_QD: FloatArray, gallery_GD: FloatArray) -> FloatArray:
    if not len(query_QD) or not len(gallery_GD):
        raise InputError("re-ranking: no query or no gallery image; give at least one of each")
    features = np.concatenate([query_QD, gallery_GD]).astype(np.float32, copy=False)
    if not np.isfinite(features).all():
        raise InputError("re-ranking: a feature is not a finite number; check them for NaN")
    return features


RERANKERS: dict[str, Callable[[FloatArray, FloatArray, IntArray, IntArray], FloatArray]] = {
    "k-reciprocal": lambda query, gallery, *cams: k_reciprocal(query, gallery),
    "random-walk": lambda query, gallery, *cams: random_walk(query, gallery),
    "camera-graph": camera_graph,
    "camera-means": camera_means,
}
"""Similarities (Q, G) from features and cameras of queries and gallery."""
