"""The method `pairs` with pseudo-labels that are made true, or wrong by a known amount.

For the benchmark `ceiling.py` only. Network, loss, batches and number of steps are those of
`pairs`; what it finds by clustering and matching can be replaced by the true identities.

| part of the labels | setting |
|---|---|
| clusters of each modality: found, or true identities | `clusters` |
| matches of the clusters: found, true, or none at all | `partners` |
| share of the people with a true cluster who get another person's partner | `swapped` |
| share of the images that are left out of true clusters | `left_out` |

What is swapped and left out is drawn once from the seed and stays so in all epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from visir.cluster.labels import filled
from visir.cluster.matches import Association
from visir.cluster.metrics import majority
from visir.core.bounds import Share
from visir.core.types import BoolArray, InputError, IntArray, Modality
from visir.data.dataset import TrainingSet
from visir.data.rng import generator
from visir.methods.pairs import Config as PairsConfig
from visir.methods.pairs import Pairs

VIS, IR = Modality.VISIBLE, Modality.INFRARED
_SWAPS, _OMISSIONS = 1, 2  # parts of random keys


@dataclass(frozen=True)
class Config(PairsConfig):
    """Those of `pairs`, and where the labels come from."""

    clusters: Literal["found", "true"] = "found"
    partners: Literal["found", "true", "none"] = "found"
    swapped: Share = 0.0  # of the people; needs true clusters and partners
    left_out: Share = 0.0  # of the images; needs true clusters
    least_matched: Share = 0.0  # the start is never kept
    # As measured, whatever the defaults of `pairs` become.
    epochs: int = 6
    average: Share = 0.98
    chance: Share = 1.0


class Oracle(Pairs):
    """Pairs whose labels are replaced by the true identities as far as the settings say."""

    presets: ClassVar[dict[str, PairsConfig]] = {"tiny": Config()}
    learns_from_labels: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        _require_sound(config)
        super().__init__(config, data, device, seed)
        assert data.identities is not None
        people = int(data.identities.max()) + 1
        self.partner_of = partners_of(people, config.swapped, seed)
        self.omitted = left_out(data.identities, data.infrared, config.left_out, seed)

    def _cluster(self, modality: Modality, features: Tensor, eps: float) -> IntArray:
        """As `pairs`; or identities, -1 for images that are left out."""
        if self.config.clusters == "found":
            return super()._cluster(modality, features, eps)
        rows = self.data.rows(modality)
        return np.where(self.omitted[rows], -1, self._identities(modality))

    def _associated(
        self, compared: dict[Modality, Tensor], labels: dict[Modality, IntArray]
    ) -> Association:
        """As `pairs`; or by the identity that most images of a cluster have."""
        if self.config.partners == "found":
            return super()._associated(compared, labels)
        # What is trained and measured are the clusters after outliers have joined them.
        whole = {m: filled(compared[m], of, self.config.fill) for m, of in labels.items()}
        vis, ir = (majority(whole[m], self._identities(m)) for m in (VIS, IR))
        if self.config.partners == "none":
            return Association(_no_shares(vis, ir), _no_shares(ir, vis))
        sizes = [np.bincount(whole[m][whole[m] >= 0]) for m in (VIS, IR)]
        swapped, back = self.partner_of, np.argsort(self.partner_of)
        return Association(
            _true_shares(swapped[vis], ir, sizes[1]), _true_shares(back[ir], vis, sizes[0])
        )

    def _identities(self, modality: Modality) -> IntArray:
        assert self.data.identities is not None
        return self.data.identities[self.data.rows(modality)]


def _require_sound(config: Config) -> None:
    """Refuse settings that would have no effect or no meaning.

    Raises:
        InputError: errors are asked for in labels that are not true.
    """
    if config.left_out and config.clusters != "true":
        raise InputError("setting left_out: needs true clusters; set clusters=true")
    if config.left_out and config.fill != 1:
        raise InputError("setting left_out: the images would join clusters again; set fill=1")
    if config.swapped and (config.clusters, config.partners) != ("true", "true"):
        raise InputError(
            "setting swapped: needs true clusters and partners; set clusters=true partners=true"
        )


def partners_of(people: int, swapped: float, seed: int) -> IntArray:
    """(people,) the person whose infrared images each person's visible ones are matched with.

    Args:
        people: how many there are.
        swapped: share of the people, to the nearest person, who get a partner who is not
            themselves: drawn people pass theirs on in a circle.
        seed: of the draw; people of a smaller share are among those of a larger one.

    Raises:
        InputError: a single person would have to swap.
    """
    count, partners = round(swapped * people), np.arange(people)
    if count == 1:
        raise InputError(f"setting swapped: {swapped:g} of {people} people is one; raise it")
    chosen = generator(seed, _SWAPS).permutation(people)[:count]
    partners[chosen] = np.roll(chosen, 1)
    return partners


def left_out(identities: IntArray, infrared: BoolArray, share: float, seed: int) -> BoolArray:
    """(N,) whether an image is an outlier: the share of all images of each modality.

    One image of each person in each modality is never left out.

    Args:
        identities: (N,) of each image.
        infrared: (N,) of each image.
        share: of the images of each modality, to the nearest image.
        seed: of the draw; images of a smaller share are among those of a larger one.

    Raises:
        InputError: more images are to be left out than can be.
    """
    found = np.zeros(len(identities), bool)
    for modality in Modality:
        rows = np.flatnonzero(infrared == (modality is IR))
        order = generator(seed, _OMISSIONS, modality is IR).permutation(rows)
        kept = order[np.unique(identities[order], return_index=True)[1]]
        possible = order[~np.isin(order, kept)]
        count = round(share * len(rows))
        if count > len(possible):
            raise InputError(
                f"setting left_out: {share:g} of the {len(rows)} {modality.value} images leaves "
                f"none of some people; lower it to {len(possible) / len(rows):.2f} or less"
            )
        found[possible[:count]] = True
    return found


def _true_shares(wanted: IntArray, identities: IntArray, sizes: IntArray) -> np.ndarray:
    """(len(wanted), clusters) 1 at the largest cluster of the wanted identity, if there is one."""
    shares = np.zeros((len(wanted), len(identities)), np.float32)
    of_one = (wanted[:, None] == identities[None]) * sizes[None]
    rows = np.flatnonzero(of_one.any(axis=1))
    shares[rows, of_one[rows].argmax(axis=1)] = 1.0
    return shares


def _no_shares(own: IntArray, other: IntArray) -> np.ndarray:
    return np.zeros((len(own), len(other)), np.float32)
