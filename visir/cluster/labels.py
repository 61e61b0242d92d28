"""Pseudo-labels: density clusters or modules of the graph of small Jaccard distances."""

from __future__ import annotations

from importlib import import_module
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from visir.cluster.hdbscan import hdbscan
from visir.cluster.jaccard import jaccard_graph
from visir.cluster.memory import prototypes
from visir.core.types import InputError, IntArray

Algorithm = Literal["dbscan", "hdbscan", "infomap"]
_BLOCK = 2048  # outliers compared with all clusters at once


def dbscan(graph: sparse.csr_array, min_samples: int = 4) -> IntArray:
    """DBSCAN (Ester et al., 1996) where `graph` stores exactly the pairs within eps.

    Clusters are the connected components of core points, numbered by their first core point; a
    border point joins the lowest-numbered cluster among its neighbours, as in scikit-learn.

    Args:
        graph: (N, N), symmetric, each row holding itself.
        min_samples: neighbours of a core point, itself included.

    Returns:
        (N,) labels from 0, -1 for outliers.
    """
    count = graph.shape[0]
    if count == 0:
        return np.empty(0, np.int64)
    core = np.diff(graph.indptr) >= min_samples
    row = np.repeat(np.arange(count, dtype=np.int32), np.diff(graph.indptr))
    both = core[row] & core[graph.indices]
    links = sparse.csr_array(
        (np.ones(both.sum(), np.int8), (row[both], graph.indices[both])), shape=graph.shape
    )
    component = connected_components(links, directed=False)[1]
    labels = np.full(count, -1, np.int64)
    labels[core] = _by_first(component[core])
    border = ~core[row] & core[graph.indices]
    lowest = np.full(count, count, np.int64)
    np.minimum.at(lowest, row[border], labels[graph.indices[border]])
    return np.where(core, labels, np.where(lowest < count, lowest, -1))


def infomap(graph: sparse.csr_array, min_samples: int = 4, seed: int = 0) -> IntArray:
    """Two-level Infomap (Rosvall and Bergstrom, 2008) on links of 1 - distance.

    Args:
        graph: (N, N), symmetric distances.
        min_samples: modules with fewer images become outliers.
        seed: of the search.

    Returns:
        (N,) labels from 0, numbered by their first image, -1 for outliers.

    Raises:
        InputError: the package is not installed.
    """
    try:
        package = import_module("infomap")
    except ImportError as error:
        raise InputError(
            "algorithm 'infomap' needs the package infomap; pip install infomap, or use dbscan"
        ) from error
    links = sparse.triu(graph, k=1).tocoo()
    network = package.Infomap(f"--two-level --silent --seed {seed + 1}")
    network.add_links(np.column_stack((links.row, links.col, 1 - links.data)).tolist())
    if links.nnz:
        network.run()
    modules = network.get_modules() if links.nnz else {}
    # An image without a link is not a node; it gets a module of its own.
    module = np.array([modules.get(i, -1 - i) for i in range(graph.shape[0])], np.int64)
    _, inverse, sizes = np.unique(module, return_inverse=True, return_counts=True)
    labels = np.full(len(module), -1, np.int64)
    large = sizes[inverse] >= min_samples
    labels[large] = _by_first(module[large])
    return labels


def pseudo_labels(
    features_ND: Tensor,
    eps: float,
    min_samples: int = 4,
    k1: int = 30,
    k2: int = 6,
    algorithm: Algorithm = "dbscan",
) -> IntArray:
    """Cluster images by their features: (N,) labels from 0, -1 for outliers.

    Args:
        features_ND: (N, D) float32, L2-normalised.
        eps: maximum Jaccard distance of neighbours; other algorithms treat larger distances as 1.
        min_samples: neighbours of a core point, itself included; for the other algorithms
            also the minimum number of images of a cluster.
        k1: k-reciprocal neighbourhood size, itself included.
        k2: query-expansion size, itself included.
        algorithm: the clustering algorithm.

    Raises:
        InputError: a feature is not finite or not of length 1, or a package is missing.
    """
    find = {"dbscan": dbscan, "hdbscan": hdbscan, "infomap": infomap}[algorithm]
    return find(jaccard_graph(features_ND, eps, k1, k2), min_samples)


def filled(features: Tensor, labels: IntArray, margin: float) -> IntArray:
    """Labels in which an outlier joins the nearest cluster, if no other is nearly as near.

    Args:
        features: (N, D), unit length.
        labels: (N,), -1 for outliers.
        margin: by how much the cosine to the nearest prototype must exceed that to the second; 1
            leaves all as it is.

    Returns:
        (N,) the labels.
    """
    outliers = np.flatnonzero(labels < 0)
    if margin == 1 or not len(outliers) or labels.max() < 1:
        return labels
    centres, found = prototypes(features, labels), []
    for rows in torch.split(torch.from_numpy(outliers).to(features.device), _BLOCK):
        sim = features[rows] @ centres.T
        first, second = sim.topk(2, dim=1).values.T
        found.append(torch.where(first - second >= margin, sim.argmax(dim=1), -1))
    labels = labels.copy()
    labels[outliers] = torch.cat(found).cpu()
    return labels


def _by_first(names: np.ndarray) -> IntArray:
    """Number names from 0 in the order in which they first occur."""
    _, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse].astype(np.int64)
