"""Re-ranking: similarities that also use the neighbours of images. Applied only on request.

Its gain depends on how many images of each person the gallery holds, so a result must always say
that it was used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from visir.core.types import FloatArray, InputError
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


def _together(query_QD: FloatArray, gallery_GD: FloatArray) -> FloatArray:
    if not len(query_QD) or not len(gallery_GD):
        raise InputError("re-ranking: no query or no gallery image; give at least one of each")
    features = np.concatenate([query_QD, gallery_GD]).astype(np.float32, copy=False)
    if not np.isfinite(features).all():
        raise InputError("re-ranking: a feature is not a finite number; check them for NaN")
    return features


RERANKERS: dict[str, Callable[[FloatArray, FloatArray], FloatArray]] = {
    "k-reciprocal": k_reciprocal,
    "random-walk": random_walk,
}
