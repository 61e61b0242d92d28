"""HCT: parameter sharing and hetero-centre triplets (Liu, Tan, Zhou; TMM 2020), with labels.

Parameter sharing exploration and hetero-center triplet loss for visible-thermal person
re-identification. The last feature map is cut into horizontal strips, each with its own bottleneck
and classifier. The triplet loss compares centres, the mean features of an identity in one modality,
instead of images.

| paper | function |
|---|---|
| shared layers | `visir.nets.two_stream.TwoStream(share_net=2)` |
| strips and their pooling | `in_strips`, `generalised_mean` in `visir.nets.two_stream` |
| hetero-centre triplet loss | `visir.methods.losses.hetero_centre_triplet` |
| identity loss with smoothed labels | `Hct.loss` |

Deviations: centres are computed by label, so the order of a batch does not matter (script: it
does); at test time an image and its mirror image are averaged (script: not); the last epoch is the
result (script: the best one on the test identities). The power of the pooling is 10 for RegDB
and 3 for SYSU-MM01, and is always computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.bounds import CountFrom0, Share
from visir.core.types import Batch
from visir.data.dataset import TrainingSet
from visir.methods import labelled
from visir.methods.losses import hetero_centre_triplet
from visir.nets.features import Features
from visir.nets.two_stream import STRIP_DIM, TwoStream, require_strips


@dataclass(frozen=True)
class Config(labelled.Config):
    """Defaults are the authors' for SYSU-MM01 unless marked otherwise."""

    share_net: CountFrom0 = 2  # how many of stem and layers each modality has for itself [paper]
    strips: int = 6  # of the last feature map [paper]
    people: int = 6  # P, identities in a batch [readme]
    images: int = 8  # K, of each identity in each modality [readme]
    epochs: int = 61  # [script]
    margin: float = 0.3  # of the triplets [script]
    strip_weight: float = 1.0  # weight of the triplets of single strips [readme]
    smoothing: Share = 0.0  # label smoothing [readme]


_REGDB: dict[str, Any] = {
    "people": 8,
    "images": 4,
    "power": 10.0,
    "strip_weight": 2.0,
    "smoothing": 0.1,
}
# At the published rate a network from random weights maps all images to one point and stays there.
TINY: dict[str, Any] = {**labelled.TINY, **_REGDB, "power": 3.0, "strips": 4, "lr": 0.03}
SMOKE: dict[str, Any] = {**TINY, **labelled.SMOKE, "strips": 2}
PRESETS = {
    "sysu": Config(),
    "regdb": Config(**_REGDB),
    "tiny": Config(**TINY),
    "smoke": Config(**SMOKE),
}


class Hct(labelled.Learner):
    """Identity loss on every strip; centre triplets on every strip and on all strips together."""

    presets: ClassVar[dict[str, Any]] = PRESETS
    config: Config
    classifier: nn.ModuleList

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        labelled.require_sound(config)
        self.config, self.data, self.seed = config, data, seed
        self.epochs = config.epochs
        require_strips(config.size[0], config.strips)
        self.model = TwoStream(
            config.network, config.share_net, power=config.power, strips=config.strips
        ).to(device)
        self.backbone = nn.ModuleList(
            part for name, part in self.model.named_children() if name != "strip_heads"
        )
        self.bottleneck = self.model.strip_heads
        self.classifier = nn.ModuleList(
            labelled.classifier(STRIP_DIM, data, bias=True) for _ in range(config.strips)
        ).to(device)

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """Identity loss of all strips; triplets of all strips together, and of each strip."""
        config, strips = self.config, outputs.tokens.unbind(dim=1)
        logits = torch.stack(
            [head(strip) for head, strip in zip(self.classifier, strips, strict=True)]
        )
        identity = F.cross_entropy(
            logits.flatten(0, 1),
            batch.labels.repeat(len(strips)),
            label_smoothing=config.smoothing,
        )
        single = torch.stack([centre_triplets(config, strip, batch) for strip in strips]).sum()
        return {
            "identity": len(strips) * identity,
            "triplets": centre_triplets(config, outputs.embedding, batch),
            "strip_triplets": config.strip_weight * single,
        }


def centre_triplets(config: Config, features_BD: Tensor, batch: Batch) -> Tensor:
    """Hetero-centre triplet loss of a batch, with the margin of the settings."""
    return hetero_centre_triplet(features_BD, batch.host.labels, batch.host.infrared, config.margin)
