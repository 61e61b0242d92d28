"""Cameras: features without their camera's mean, clusters inside each camera, neighbour lists.

Images of one camera look alike, so features tell cameras apart as well as people. Inside one camera
this does no harm: clusters found there are reliable, and correct neighbour lists that were found
across cameras. Source: the camera stage and filter of TokenMatcher (AAAI 2025).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.labels import pseudo_labels
from visir.core.types import InputError, IntArray


def centred(features_ND: Tensor, cams: IntArray, deviation: bool = False) -> Tensor:
    """Features minus the mean of their camera, normalised again.

    An image that equals its camera's mean, such as the only one of a camera, is left unchanged.

    Args:
        features_ND: (N, D) features.
        cams: (N,) camera of each image.
        deviation: also divide every dimension by its standard deviation in the camera.
    """
    centred_ND = features_ND.clone()
    for cam in np.unique(cams):
        rows = torch.from_numpy(np.flatnonzero(cams == cam)).to(features_ND.device)
        centred_ND[rows] -= features_ND[rows].mean(dim=0)
        if deviation:
            spread = centred_ND[rows].square().mean(dim=0).sqrt()
            centred_ND[rows] /= spread.clamp_min(1e-6)
    rest = centred_ND.norm(dim=1, keepdim=True)
    return F.normalize(torch.where(rest > 1e-5, centred_ND, features_ND), dim=1)


def cluster_cameras(
    features_ND: Tensor,
    cams: IntArray,
    eps: float | Mapping[int, float] = 0.6,
    min_samples: int = 4,
    k1: int = 30,
    k2: int = 6,
) -> IntArray:
    """DBSCAN on the Jaccard distance inside every camera (CMAG, Eq. 29).

    Args:
        features_ND: (N, D) unit features.
        cams: (N,) camera of each image.
        eps: radius, or one for each camera.
        min_samples: neighbours of a core point, itself included.
        k1: k-reciprocal neighbourhood size, itself included.
        k2: query-expansion size, itself included.

    Returns:
        (N,) labels that no two cameras share, numbered camera by camera; -1 for outliers.

    Raises:
        InputError: a camera has no radius, or a feature is not finite or not of length 1.
    """
    present = np.unique(cams).tolist()
    radii = eps if isinstance(eps, Mapping) else dict.fromkeys(present, eps)
    lacking = [cam for cam in present if cam not in radii]
    if lacking:
        raise InputError(f"eps has no radius for camera {lacking[0]}; give one for every camera")
    labels, count = np.full(len(cams), -1, np.int64), 0
    for cam in present:
        rows = np.flatnonzero(cams == cam)
        own = pseudo_labels(features_ND[torch.from_numpy(rows)], radii[cam], min_samples, k1, k2)
        labels[rows] = np.where(own >= 0, own + count, -1)
        count += int(own.max(initial=-1)) + 1
    return labels


def camera_filter(
    neighbours: sparse.csr_array, cams: IntArray, local: IntArray, skipping: bool = False
) -> sparse.csr_array:
    """Drop neighbours that the image's own camera puts into another cluster (TokenMatcher).

    Of the neighbours of i from i's camera, those with another local label than i are dropped. Those
    without a label are kept, as are all from other cameras. If i has no label, all are kept.

    Args:
        neighbours: (N, N) bool, row i the neighbours of i.
        cams: (N,) cameras.
        local: (N,) clusters inside the cameras, -1 for outliers.
        skipping: keep every second one of a run of dropped neighbours, as the public script does.
    """
    i, j = neighbours.nonzero()
    apart = (local[i] >= 0) & (local[j] >= 0) & (local[i] != local[j])
    dropped = apart & (cams[i] == cams[j])
    if skipping:
        dropped &= _place_in_run(dropped, i) % 2 == 0
    return select_entries(neighbours.shape, i, j, ~dropped)


def _place_in_run(flags: np.ndarray, rows: np.ndarray) -> IntArray:
    """For every entry, how many set entries of its row directly precede it."""
    places = np.arange(len(flags))
    starts = np.ones(len(flags), bool)
    starts[1:] = ~flags[:-1] | (rows[1:] != rows[:-1])
    first: IntArray = np.maximum.accumulate(np.where(starts, places, 0))
    return places - first


def select_entries(
    shape: tuple[int, int], i: np.ndarray, j: np.ndarray, kept: np.ndarray
) -> sparse.csr_array:
    """A boolean matrix of the entries (i, j) for which `kept` is set."""
    return sparse.csr_array((np.ones(int(kept.sum()), bool), (i[kept], j[kept])), shape=shape)
