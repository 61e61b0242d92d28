"""Tests of matches by their margin: by how much the best match is more similar than the second.

Where a person is missing in the other modality, the person's cluster still has a best match there:
somebody else's, with a margin that is due to chance. If the tail of a cluster's similarities
s1 >= s2 >= s3 ... is exponential, i (s_i - s_i+1) has one distribution for all i (Rényi, 1953). So
2 (s2 - s3) of all clusters together is a sample of what the margin s1 - s2 is by chance.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from visir.core.types import FloatArray, Modality

VIS, IR = Modality.VISIBLE, Modality.INFRARED
_ONE_PERSON = 0.6  # two clusters of a modality with this cosine may show one person
_LAMBDA = 0.3  # p-values above it are thought to be of margins by chance only (Storey's lambda)
_NEXT = 64  # largest similarities of a cluster among which those of three people are looked for
_BLOCK = 512  # clusters compared at once with all of the other modality


def compared(
    visible: Tensor, infrared: Tensor, modality: Modality
) -> Iterator[tuple[slice, slice, FloatArray]]:
    """Cosines of all clusters, block by block, so that memory holds one block of them.

    Args:
        visible: (V, D) unit prototypes.
        infrared: (I, D) unit prototypes.
        modality: whose clusters are in blocks; those of the other one are all in every block.

    Yields:
        The visible clusters of a block, its infrared ones, and (visible, infrared) cosines.
    """
    for start in range(0, len(visible if modality is VIS else infrared), _BLOCK):
        part, rest = slice(start, start + _BLOCK), slice(None)
        vis, ir = (part, rest) if modality is VIS else (rest, part)
        yield vis, ir, np.asarray((visible[vis] @ infrared[ir].T).cpu(), np.float32)


def p_values(visible: Tensor, infrared: Tensor) -> dict[Modality, FloatArray]:
    """The p-value of each cluster's margin: how probable one as large is by chance.

    Clusters of the other modality that are similar to a better one are passed over, since they may
    show the same person. 1 for a cluster with fewer than three different ones there.

    Args:
        visible: (V, D) unit prototypes.
        infrared: (I, D) unit prototypes.

    Returns:
        (V,) and (I,), by modality.
    """
    found = {}
    for modality, others in {VIS: infrared, IR: visible}.items():
        blocks = compared(visible, infrared, modality)
        sims = (of if modality is VIS else of.T for *_, of in blocks)
        spacings = [_spacings(of, others) for of in sims]
        found[modality] = _p_values(np.concatenate([np.empty((0, 2), np.float32), *spacings]))
    return found


def _p_values(spacings: FloatArray) -> FloatArray:
    """(C,) by the margins and the margins by chance of (C, 2); one null for all rows."""
    by_chance = np.sort(spacings[np.isfinite(spacings[:, 1]), 1])
    smaller = np.searchsorted(by_chance, spacings[:, 0])  # NaN is behind all
    p_value = (len(by_chance) - smaller + 1) / (len(by_chance) + 1)
    return np.where(np.isnan(spacings[:, 0]), 1.0, p_value).astype(np.float32)


def _spacings(sims: FloatArray, others: Tensor) -> FloatArray:
    """Margins and margins by chance: s1 - s2 and 2 (s2 - s3) of different people.

    Args:
        sims: (C, P) cosines of clusters to those of the other modality.
        others: (P, D) unit prototypes there.

    Returns:
        (C, 2), NaN for a cluster without three different people among its most similar.
    """
    if not sims.shape[1]:
        return np.full((len(sims), 2), np.nan, np.float32)
    most, rows = min(_NEXT, sims.shape[1]), np.arange(len(sims))
    nearest = np.argpartition(-np.ascontiguousarray(sims), most - 1, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(sims, nearest, axis=1), axis=1, kind="stable")
    nearest = np.take_along_axis(nearest, order, axis=1)
    units = others[torch.from_numpy(nearest).to(others.device)]
    different = np.ones(nearest.shape, bool)
    places = [np.zeros(len(sims), np.int64)]
    for _ in range(2):  # the first that differs from the best, then from the second too
        person = units[rows, places[-1]]
        different &= (units @ person[:, :, None])[:, :, 0].cpu().numpy() < _ONE_PERSON
        different[rows, places[-1]] = False  # a prototype of zeros is not like itself
        places.append(different.argmax(axis=1))
    first, second, third = (sims[rows, nearest[rows, place]] for place in places)
    spacings = np.stack([first - second, 2 * (second - third)], axis=1)
    spacings[~different.any(axis=1)] = np.nan
    return spacings


def share_by_chance(values: FloatArray, weights: np.ndarray | None = None) -> float:
    """Estimated share of clusters whose margin is due to chance (Storey, JRSS B 2002, Eq. 7).

    An upper limit: where similarities tell little, the margins of right matches are small too.

    Args:
        values: (C,) p-values.
        weights: (C,) of the clusters, such as their sizes; equal ones if omitted.
    """
    if not len(values):
        return 1.0
    weights = np.ones(len(values)) if weights is None else weights
    above = weights[values > _LAMBDA].sum() / weights.sum()
    return min(1.0, float(above / (1 - _LAMBDA)))


def q_values(values: FloatArray) -> FloatArray:
    """The share of margins by chance among those whose p-value is no larger, estimated.

    Storey, JRSS B 2002.

    Args:
        values: (C,) p-values.

    Returns:
        (C,).
    """
    order = np.argsort(values, kind="stable")
    rank = np.arange(1, len(order) + 1)
    rate = share_by_chance(values) * values[order] * len(order) / rank
    found = np.empty_like(values)
    found[order] = np.minimum.accumulate(rate[::-1])[::-1]
    return found
