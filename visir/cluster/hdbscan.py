"""HDBSCAN on a sparse graph (Campello et al., PAKDD 2013): clusters of differing density."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from visir.core.types import IntArray

_FAR = 1.0  # distance of two images whose pair is not stored
_CLOSEST = 1e-6  # equal images are this far apart, so that densities stay finite


class _Tree(NamedTuple):
    """Single-linkage tree; node n < N is row n, the others are merges in rising distance.

    parent: of every node, itself for the root; cluster: the cluster that a merge belongs to, -1
    for fewer rows than a cluster needs; chosen: clusters more stable than those inside them.
    """

    parent: list[int]
    cluster: list[int]
    chosen: list[bool]


def hdbscan(graph: sparse.csr_array, min_samples: int = 4) -> IntArray:
    """Clusters by excess of mass; the whole is never one cluster, as in scikit-learn.

    Args:
        graph: (N, N), symmetric distances in [0, 1], each row holding itself; pairs that are not
            stored have distance 1.
        min_samples: the distance to this neighbour, itself included, is a row's density; also the
            minimum size of a cluster (2 or more).

    Returns:
        (N,) labels from 0, numbered by their first row, -1 for outliers.
    """
    count = graph.shape[0]
    if count < 2:
        return np.full(count, -1, np.int64)
    tree = _grow(*_spanning_edges(graph, min_samples), max(2, min_samples))
    inside = [-1] * len(tree.parent)  # the chosen cluster around every node
    for node in range(len(tree.parent) - 2, -1, -1):  # the root is never chosen
        inside[node] = inside[tree.parent[node]]
        own = tree.cluster[node]
        if inside[node] < 0 <= own and own != tree.cluster[-1] and tree.chosen[own]:
            inside[node] = own
    labels = np.array(inside[:count])
    found, first, label = np.unique(labels[labels >= 0], return_index=True, return_inverse=True)
    number = np.empty(len(found), np.int64)
    number[first.argsort()] = np.arange(len(found))
    labels[labels >= 0] = number[label]
    return labels


def _spanning_edges(
    graph: sparse.csr_array, min_samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Minimum spanning tree of the mutual reachability, by rising distance: two ends, distance."""
    count = graph.shape[0]
    sizes = np.diff(graph.indptr)
    row = np.repeat(np.arange(count), sizes)
    order = np.lexsort((graph.data, row))
    core = np.full(count, _FAR, np.float64)
    dense = sizes >= min_samples
    core[dense] = graph.data[order[graph.indptr[:-1][dense] + min_samples - 1]]
    reach = np.maximum(np.maximum(core[row], core[graph.indices]), graph.data).clip(_CLOSEST)
    links = sparse.csr_array((reach, graph.indices, graph.indptr), shape=graph.shape)
    forest = minimum_spanning_tree(links).tocoo()
    one_of_each = np.unique(connected_components(links, directed=False)[1], return_index=True)[1]
    left = np.concatenate((forest.row, one_of_each[:-1]))
    right = np.concatenate((forest.col, one_of_each[1:]))
    distance = np.concatenate((forest.data, np.full(len(one_of_each) - 1, _FAR)))
    order = distance.argsort(kind="stable")
    return left[order], right[order], distance[order]


def _grow(left: np.ndarray, right: np.ndarray, distance: np.ndarray, min_size: int) -> _Tree:
    """Merge along the edges, weighing every cluster once it ends in a larger one.

    A cluster's stability is the sum over its rows of (density at which the row leaves it - density
    at which it was born); `leaving` holds the first sum.
    """
    count = len(left) + 1
    parent, cluster = list(range(2 * count - 1)), [-1] * (2 * count - 1)
    above = parent.copy()  # shortened on the way, which `parent` must not be
    size = [1] * count
    leaving: list[float] = []
    inner: list[float] = []  # the best that can be chosen inside each cluster
    chosen: list[bool] = []
    for a, b, density in zip(left.tolist(), right.tolist(), (1 / distance).tolist(), strict=True):
        ends = [_root(above, a), _root(above, b)]
        node = len(size)
        size.append(size[ends[0]] + size[ends[1]])
        for end in ends:
            parent[end] = above[end] = node
        grown = [end for end in ends if cluster[end] >= 0]
        if len(grown) == 1:  # the few others leave it here
            cluster[node] = cluster[grown[0]]
            leaving[cluster[node]] += (size[node] - size[grown[0]]) * density
        elif size[node] >= min_size:
            best = 0.0
            for end in grown:
                c = cluster[end]
                stability = leaving[c] - size[end] * density
                chosen[c] = stability >= inner[c]
                best += max(stability, inner[c])
            cluster[node] = len(leaving)
            leaving.append(size[node] * density)
            inner.append(best)
            chosen.append(False)
    return _Tree(parent, cluster, chosen)


def _root(above: list[int], node: int) -> int:
    while above[node] != node:
        above[node] = above[above[node]]
        node = above[node]
    return node
