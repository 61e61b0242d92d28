"""AGW: attention, generalised mean, weighted triplets (Ye et al., TPAMI 2021), with labels.

Deep learning for person re-identification: a survey and outlook. A two-stream ResNet-50 with
non-local attention: a weighted regularised triplet loss on the pooled features, and an identity
loss behind a batch-norm bottleneck.

| paper | function |
|---|---|
| two-stream network, non-local attention | `visir.nets.two_stream.TwoStream`, `NonLocal` |
| generalised-mean pooling | `visir.nets.two_stream.generalised_mean` |
| weighted regularised triplet loss | `visir.methods.losses.weighted_triplet` |
| identity loss | `Agw.loss` |

Deviations: the softmax of the triplets is shifted by its largest distance (script: not for other
identities, so that distant features get no gradient); of the script's three backbones only the
parts in use are kept; the last epoch is the result (script: the best one on the test identities).
The non-local blocks are one channel wide, as in the public script; `non_local=intended` gives them
half the channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, assert_never

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.bounds import CountFrom0
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

    share_net: CountFrom0 = 1  # how many of stem and layers each modality has for itself [script]
    non_local: Width = "published"  # attention: 1 wide [script], half ("intended"), or "off"
    triplets: Triplets = "weighted"  # [paper]; "hard" is its baseline, "squared" is CAJ
    margin: float = 0.3  # of hard triplets [script]
    sharpness: float = 1.0  # alpha of "squared", within the softmax [CAJ: script]
    scale: float = 1.0  # gamma of "squared", of the difference [CAJ: script]


PRESETS = {
    "sysu": Config(),
    "regdb": Config(),
    "tiny": Config(**labelled.TINY, non_local="intended"),
    "smoke": Config(**labelled.SMOKE, non_local="intended"),
}


class Agw(labelled.Learner):
    """Identity loss and weighted triplets on one pooled embedding."""

    presets: ClassVar[dict[str, Any]] = PRESETS
    config: Config
    classifier: nn.ModuleDict

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        labelled.require_sound(config)
        self.config, self.data, self.seed = config, data, seed
        self.epochs = config.epochs
        self.model = TwoStream(config.network, config.share_net, config.non_local, config.power).to(
            device
        )
        self.backbone = nn.ModuleList(
            part for name, part in self.model.named_children() if name != "bottleneck"
        )
        self.bottleneck = self.model.bottleneck
        self.classifier = nn.ModuleDict(
            {"classifier": labelled.classifier(self.model.embedding_dim, data, bias=False)}
        ).to(device)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Identity loss behind the bottleneck, triplets before it."""
        identity = F.cross_entropy(self.logits(outputs), batch.labels)
        return {"identity": identity, "triplets": self._triplets(outputs, batch.labels)}

    def logits(self, outputs: Features) -> Tensor:
        """(B, identities)."""
        found: Tensor = self.classifier["classifier"](outputs.embedding)
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
            case _:
                assert_never(config.triplets)
