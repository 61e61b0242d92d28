"""AGW: attention, generalised mean, weighted triplets (Ye et al., TPAMI 2021), with labels.

Deep learning for person re-identification: a survey and outlook. A two-stream ResNet-50 with
non-local attention; the pooled descriptor learns a weighted regularised triplet loss, and behind a
batch-norm bottleneck the identities.

| paper | function |
|---|---|
| two-stream network, non-local attention | `visir.nets.two_stream.TwoStream`, `NonLocal` |
| generalised-mean pooling | `visir.nets.two_stream.generalised_mean` |
| weighted regularised triplet loss | `visir.methods.losses.weighted_triplet` |
| identity loss | `Agw.loss` |

Deviations: the softmax of the triplets is shifted by its own largest distance (script: for other
identities not at all, so that far features give no gradient); only what is used of the three
trunks is kept; the last epoch is the result (script: the best one on the test identities). The
non-local blocks are one channel wide, as the public script makes them; `non_local=intended`
gives them half the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.types import Batch
from visir.data.dataset import TrainingSet
from visir.methods import labelled
from visir.methods.losses import batch_hard, squared_difference, weighted_triplet
from visir.nets.features import Features
from visir.nets.two_stream import TwoStream, Width

Triplets = Literal["weighted", "hard", "squared"]


@dataclass(frozen=True)
class Config(labelled.Config):
    """Defaults are the public script's for SYSU-MM01 unless marked otherwise."""

    share_net: int = 1  # of the stem and the layers, how many are each modality's own [script]
    non_local: Width = "published"  # width of the attention: 1 [script], or half [intended], or off
    triplets: Triplets = "weighted"  # [paper]; "hard" is its baseline's, "squared" CAJ's
    margin: float = 0.3  # of hard triplets [script]
    sharpness: float = 1.0  # alpha of squared ones, within the softmax [CAJ's script]
    scale: float = 1.0  # gamma of squared ones, of the gap [CAJ's script]


PRESETS = {
    "sysu": Config(),
    "regdb": Config(),
    "tiny": Config(**labelled.TINY, non_local="intended"),
}


class Agw(labelled.Learner):
    """Identities and weighted triplets on one pooled descriptor.

    Its head is the bottleneck, its top the classifier.
    """

    presets: ClassVar[dict[str, Config]] = PRESETS

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        labelled.require_sound(config)
        self.config, self.data, self.seed = config, data, seed
        self.epochs = config.epochs
        self.model = TwoStream(config.network, config.share_net, config.non_local, config.power).to(
            device
        )
        self.trunk = nn.ModuleList(
            part for name, part in self.model.named_children() if name != "bottleneck"
        )
        self.head = self.model.bottleneck
        self.top = nn.ModuleDict(
            {"classifier": labelled.classifier(self.model.embedding_dim, data, bias=False)}
        ).to(device)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Identities behind the bottleneck, triplets before it."""
        identity = F.cross_entropy(self.logits(outputs), batch.labels)
        return {"identity": identity, "triplets": self._triplets(outputs, batch.labels)}

    def logits(self, outputs: Features) -> Tensor:
        """(B, identities)."""
        found: Tensor = self.top["classifier"](outputs.embedding)
        return found

    def _triplets(self, outputs: Features, labels: Tensor) -> Tensor:
        config, pooled = self.config, outputs.tokens[:, 0]
        match config.triplets:
            case "weighted":
                return weighted_triplet(pooled, labels)
            case "hard":
                return batch_hard(pooled, labels, config.margin)
            case "squared":
                return squared_difference(pooled, labels, config.sharpness, config.scale)
