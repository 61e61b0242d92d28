"""How the embeddings of a gallery are spread, by a sample: what the cosines of strangers are.

Nearly all pairs of images show two people, so quantiles of a sample's cosines are those of
strangers. Thresholds are ours, and relative to the sample, since cosines of two networks differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from visir.core.types import BoolArray, FloatArray, Modality
from visir.gallery.store import Filter, Store

SAMPLE = 256  # images of each modality
PLACES = 32  # that they are taken from
LOOKS = 256  # places in which the modality is looked at
LISTED = 4096  # highest id of a gallery that is listed as a whole
FEW = 64  # images of a modality below which nothing is said
ALIKE = 3.3
"""Standard deviations above the median of strangers' cosines, see `Spread.alike`. Of 30 synthetic
people under four visible and two infrared cameras, embedded by the ready model, that joins 54 % of
the pairs of one person under one visible camera, and 16 % under one infrared camera; of the pairs
of two people 4 in 27,840 and none in 13,008."""
MOST_ALIKE = 0.95  # where strangers' cosines vary so much that no cosine is that far above them
HUB, CLOSE = 5.0, 0.05
"""A hub is among the closest 5 % for five times as many images as an image is on average."""
_QUARTILE = 0.6745  # of the normal distribution, in standard deviations


class Spread(NamedTuple):
    """A sample of a gallery; modalities with too few images are left out.

    vectors: (S, D) embeddings; alike: the cosine from which two images of one camera probably show
    one person; close: (S,) for each image the cosine that the closest 5 % of the images of the
    other modality reach.
    """

    vectors: Mapping[Modality, FloatArray]
    alike: Mapping[Modality, float]
    close: Mapping[Modality, FloatArray]

    def stranger(self, mean_D: FloatArray, modality: Modality | None) -> float | None:
        """The cosine of a typical stranger with a search, None if it is not known.

        Args:
            mean_D: (D,) mean of the query images' vectors.
            modality: of the images that are searched; None if it is both.
        """
        sides = [side for side in self.vectors if modality in (None, side)]
        if not sides:
            return None
        return float(np.median(np.concatenate([self.vectors[side] @ mean_D for side in sides])))

    def hubs(self, vectors_ND: FloatArray, modality: Modality) -> BoolArray:
        """(N,) which images of one modality are near to far too many images of the other one."""
        if modality.other not in self.close:
            return np.zeros(len(vectors_ND), bool)
        near_SN = self.vectors[modality.other] @ vectors_ND.T
        share_N = (near_SN > self.close[modality.other][:, None]).mean(axis=0)
        return np.asarray(share_N > HUB * CLOSE)


def spread_of(store: Store) -> Spread:
    """Take a sample from all over a gallery."""
    found = {side: store.vectors(ids) for side, ids in _sampled(store).items() if ids}
    there = {side: some[(some != 0).any(axis=1)] for side, some in found.items()}
    vectors = {side: some for side, some in there.items() if len(some) >= FEW}
    alike = {side: _alike(sample) for side, sample in vectors.items()}
    close = {}
    if len(vectors) == 2:
        for side, sample in vectors.items():
            close[side] = np.quantile(sample @ vectors[side.other].T, 1 - CLOSE, axis=1)
    return Spread(vectors, alike, close)


def _sampled(store: Store) -> dict[Modality, list[int]]:
    """Ids of images of each modality, from all over a gallery.

    Stores find images by their id, so that a large gallery is not read from end to end: first one
    image is looked at in each of many places, then images are taken where the modality was seen.
    """
    last = _last(store)
    if last <= LISTED:
        listed = store.select(Filter())
        return {
            side: _thinned([item.id for item in listed if item.modality is side], SAMPLE)
            for side in Modality
        }
    looks = [store.select(Filter(), 1, place * last // LOOKS) for place in range(LOOKS)]
    found = {}
    for side in Modality:
        seen = [item.id - 1 for look in looks for item in look if item.modality is side]
        places = _thinned(list(dict.fromkeys(seen)), PLACES)
        runs = (store.select(Filter(modality=side), SAMPLE // len(places), at) for at in places)
        found[side] = list(dict.fromkeys(item.id for run in runs for item in run))
    return found


def _last(store: Store) -> int:
    """The highest id or a little more, found by halving."""
    low, high = 0, 1
    while store.select(Filter(), 1, high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if store.select(Filter(), 1, middle) else (low, middle)
    return high


def _thinned(values: list[int], count: int) -> list[int]:
    """Values that are evenly spaced among these; all of them if there are no more."""
    number = min(count, len(values))
    return [values[place * len(values) // number] for place in range(number)]


def _alike(sample_SD: FloatArray) -> float:
    cosines = (sample_SD @ sample_SD.T)[np.triu_indices(len(sample_SD), 1)]
    median, upper = np.quantile(cosines, [0.5, 0.75])
    return float(min(median + ALIKE * (upper - median) / _QUARTILE, MOST_ALIKE))
