"""Prototypes of joint clusters, split by modality, and a loss with several right answers.

The split-and-contrast of BMIL (Wang et al., AAAI 2026, Sec. 3.3), from the formula: a joint cluster
has one prototype for its visible images and one for its infrared ones, and an image of either
modality is pulled towards both, in comparison with the prototypes of all clusters.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.memory import Memory, Rule, prototypes, towards_all
from visir.core.device import to_device
from visir.core.types import Batch, IntArray, Modality

VIS, IR = Modality.VISIBLE, Modality.INFRARED


class SplitMemory:
    """One prototype for every cluster of a modality; matched clusters are one person.

    Args:
        features: (N, D) of the images of each modality.
        labels: (N,) cluster of each image, numbered in each modality, -1 for outliers.
        people: for each modality (C,) the person that each of its clusters shows: clusters with
            one number, of either modality, are matched.
        momentum: weight of the old value in an update.
        temperature: divisor of the cosines.
        rule: how a batch changes a prototype, as of `Memory`.
    """

    def __init__(
        self,
        features: Mapping[Modality, Tensor],
        labels: Mapping[Modality, IntArray],
        people: Mapping[Modality, IntArray],
        momentum: float,
        temperature: float,
        rule: Rule = "momentum",
    ) -> None:
        rows = []
        for m in (VIS, IR):
            own = prototypes(features[m], labels[m])
            rows.append(F.pad(own, (0, 0, 0, len(people[m]) - len(own))))  # the last may be empty
        self.memory = Memory(torch.cat(rows), momentum, temperature, rule)
        self.infrared = len(people[VIS])  # row of the first infrared cluster
        person = torch.from_numpy(np.concatenate([people[VIS], people[IR]]))
        used = [np.bincount(labels[m][labels[m] >= 0], minlength=len(people[m])) for m in (VIS, IR)]
        device = self.memory.rows_CD.device
        self.empty = to_device(torch.from_numpy(np.concatenate(used) == 0), device)
        positive = person[:, None] == person[None, :]
        self.positive = to_device(positive, device) & ~self.empty

    def loss(self, batch: Batch, embedding_BD: Tensor) -> Tensor:
        """Cross-entropy towards each prototype of an image's person, mean over these and images.

        The denominator is the sum over all prototypes of both modalities.
        """
        rows = to_device(self._rows(batch), embedding_BD.device)
        logits = self.memory.logits(embedding_BD).masked_fill(self.empty, -torch.inf)
        return towards_all(logits, self.positive[rows])

    def update(self, batch: Batch, embedding_BD: Tensor) -> None:
        """Blend every image into the prototype of its cluster in its own modality."""
        self.memory.update(embedding_BD, self._rows(batch))

    def _rows(self, batch: Batch) -> Tensor:
        """(B,) prototype of each image's cluster, in the memory of the CPU."""
        rows = batch.host.labels.clone()
        rows[batch.host.of(IR)] += self.infrared
        return rows
