"""Pseudo-labels: DBSCAN on a graph that holds only the pairs within its radius."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from visir.cluster.jaccard import jaccard_graph
from visir.types import IntArray


def dbscan(graph: sparse.csr_array, min_samples: int = 4) -> IntArray:
    """DBSCAN (Ester et al., 1996) where `graph` stores exactly the pairs within eps.

    Clusters are the connected components of core points, numbered by their first core point; a
    border point joins the lowest-numbered cluster it touches, as in scikit-learn.

    Args:
        graph: (N, N), symmetric, each row holding itself.
        min_samples: neighbours, itself included, that make a core point.

    Returns:
        (N,) labels from 0, -1 for outliers.
    """
    count = graph.shape[0]
    core = np.diff(graph.indptr) >= min_samples
    row = np.repeat(np.arange(count), np.diff(graph.indptr))
    both = core[row] & core[graph.indices]
    links = sparse.csr_array(
        (np.ones(both.sum(), np.int8), (row[both], graph.indices[both])), shape=graph.shape
    )
    component = connected_components(links, directed=False)[1]
    labels = np.full(count, -1, np.int64)
    first = np.unique(component[core], return_index=True)
    number = np.full(component.max(initial=-1) + 1, -1, np.int64)
    number[first[0][np.argsort(first[1])]] = np.arange(len(first[0]))
    labels[core] = number[component[core]]
    border = ~core[row] & core[graph.indices]
    lowest = np.full(count, count, np.int64)
    np.minimum.at(lowest, row[border], labels[graph.indices[border]])
    return np.where(core, labels, np.where(lowest < count, lowest, -1))


def pseudo_labels(
    features_ND: Tensor, eps: float, min_samples: int = 4, k1: int = 30, k2: int = 6
) -> IntArray:
    """Cluster images by their features: (N,) labels from 0, -1 for outliers.

    Args:
        features_ND: (N, D) float32, L2-normalised.
        eps: largest Jaccard distance of neighbours.
        min_samples: neighbours that make a core point, itself included.
        k1: k-reciprocal neighbourhood size, itself included.
        k2: query-expansion size, itself included.
    """
    return dbscan(jaccard_graph(features_ND, eps, k1, k2), min_samples)
