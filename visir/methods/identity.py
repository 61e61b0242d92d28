"""Learn from identities: a start for other trainings, or a ready model, from a labelled pool.

Every image is contrasted with all other images of the batch, those of its identity being the
positives (supervised contrastive learning; Khosla et al., 2020); or, with `loss=softmax`, the usual
recipe of supervised re-identification: an identity loss behind the batch-norm bottleneck and
hardest triplets before it.
With `modalities=visible` no infrared image is read, as in pre-training on LUPerson; saved weights
hold the trained stem twice. `labels=tracklet` takes the images of a track, or of a person in one
camera, for an identity of their own, so nobody has to know the person in another camera;
`labels=image` contrasts views of single images (the loss of SimCLR), so nobody has to know
anything.

| paper | function |
|---|---|
| contrast of labels (Khosla et al., NeurIPS 2020, Eq. 2) | `losses.supervised_contrastive` |
| smoothed labels (Luo et al., CVPRW 2019, Sec. 3.3) | `Identity.loss` |
| hardest triplets (Hermans et al., 2017, Eq. 5) | `losses.batch_hard` |

Deviations: no projection head, so that the trained embedding is the one that is compared; half of
the visible images show one channel only, so that what is learned applies to infrared ones; AdamW
with a cosine to zero.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visir.core.bounds import CountFrom0, Positive, Share
from visir.core.types import Batch, InputError, IntArray, Modality
from visir.data.dataset import Part, TrainingSet
from visir.data.rng import generator
from visir.data.samplers import identity_batches
from visir.data.transforms import Augmentation, View
from visir.methods.contract import Method, Plan
from visir.methods.losses import batch_hard, supervised_contrastive
from visir.methods.schedule import adamw, cosine
from visir.nets.build import NetworkName, build
from visir.nets.features import Features


@dataclass(frozen=True)
class Config:
    """All numbers are ours."""

    size: tuple[int, int] = (96, 48)  # input height, width in pixels
    network: NetworkName = "hybrid-micro"
    modalities: Literal["visible", "both"] = "visible"  # whose images are read
    labels: Literal["identity", "tracklet", "image"] = "identity"  # tracklet: in one camera
    people: int = 32  # identities in a batch
    images: int = 4  # of each in each modality
    epochs: int = 20
    iterations: int = 100  # batches per epoch
    warmup: CountFrom0 = 1  # epochs during which the rate rises
    lr: Positive = 2e-3  # AdamW; cosine to zero after the warm-up
    weight_decay: float = 0.05
    loss: Literal["contrastive", "softmax"] = "contrastive"
    temperature: Positive = 0.1  # of the contrastive loss
    smoothing: Share = 0.1  # of the labels, of the softmax
    margin: float = 0.3  # of the triplets
    erasing: Share = 0.3  # chance of an erased box
    jitter: Share = 0.0  # of the colours
    pad: CountFrom0 = 4  # pixels
    precision: Literal["auto", "bf16", "fp32"] = "auto"


PRESETS = {
    "tiny": Config(size=(64, 32), network="resnet-micro", epochs=10, pad=3),
    "visible": Config(),
    "both": Config(network="resnet-mini", modalities="both", images=2, epochs=26),
}
PRESETS["smoke"] = replace(
    PRESETS["tiny"], size=(32, 16), epochs=3, iterations=2, people=3, images=2, precision="fp32"
)


class Identity(Method):
    """A contrast of identities, over visible images or over both modalities."""

    presets: ClassVar[dict[str, Config]] = PRESETS
    learns_from_labels: ClassVar[bool] = True
    needs_both_modalities: ClassVar[bool] = False
    reads_maps: ClassVar[bool] = False
    config: Config

    def __init__(self, config: Config, data: TrainingSet, device: torch.device, seed: int) -> None:
        if config.people < 2:
            raise InputError("setting people=1: there is nothing to compare with; set 2 or more")
        if config.labels != "identity" and config.modalities == "both":
            raise InputError(
                f"setting labels={config.labels}: joins no modalities; set modalities=visible, or "
                "labels=identity"
            )
        self.config, self.data, self.seed = config, data, seed
        self.epochs = config.epochs
        self.model = build(config.network, config.size).to(device)
        self.modalities = tuple(Modality) if config.modalities == "both" else (Modality.VISIBLE,)
        if config.modalities == "visible":
            self.model.ir_stem = self.model.vis_stem
        self.labels = self._labels()
        self.classifier = nn.Module()
        if config.loss == "softmax":
            identities = int(self.labels.max()) + 1
            self.classifier = nn.Linear(self.model.embedding_dim, identities, bias=False).to(device)
            nn.init.normal_(self.classifier.weight, 0.0, 0.01)

    @classmethod
    def learns_from_tracks(cls, config: Config) -> bool:
        """With `labels=tracklet`."""
        return config.labels == "tracklet"

    def _labels(self) -> IntArray:
        """(rows,) numbers of identities, tracklets or images; -1 for rows that are never read."""
        identities = self.data.identities
        if identities is None:
            raise InputError("this method learns from labels, but the training set has none")
        used = np.isin(self.data.infrared, [m is Modality.INFRARED for m in self.modalities])
        keys = identities[used]
        if self.config.labels == "tracklet":
            keys = keys * (int(self.data.cams.max()) + 1) + self.data.cams[used]
        if self.config.labels == "image":
            keys = np.arange(len(keys))
        alone = np.setxor1d(*(identities[self.data.infrared == kind] for kind in (True, False)))
        if self.config.modalities == "both" and len(alone):
            raise InputError(
                f"setting modalities=both: {len(alone)} identities have training images of one "
                "modality only; set modalities=visible, or remove these identities"
            )
        labels = np.full(len(identities), -1)
        labels[used] = np.unique(keys, return_inverse=True)[1]
        return labels

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW; norms, biases and positions do not decay."""
        return adamw([self.model, self.classifier], self.config.lr, self.config.weight_decay)

    def plan(self, epoch: int) -> Plan:
        """Batches of identities; the rate rises, then falls as a cosine."""
        config = self.config
        draws = identity_batches(
            self.labels,
            self.data.infrared,
            people=config.people,
            images=config.images,
            rng=generator(self.seed, epoch),
            modalities=self.modalities,
        )
        return Plan(
            stage="identities",
            batches=(self._batch(*next(draws)) for _ in range(config.iterations)),
            steps=config.iterations,
            lr=cosine(config.lr, epoch, self.epochs, config.warmup),
        )

    def _batch(self, visible: IntArray, infrared: IntArray | None = None) -> list[Part]:
        config = self.config
        half = (np.arange(len(visible)) % 2).astype(bool)
        parts = [
            (visible[half], View.PLAIN),
            (visible[~half], View.EXCHANGE),
        ]
        if infrared is not None:
            parts.append((infrared, View.GRAY))
        return [
            Part(rows, self.labels[rows], Augmentation(view, config.jitter, erasing=config.erasing))
            for rows, view in parts
        ]

    def steps(self, epoch: int) -> int:
        """As set."""
        return self.config.iterations

    def loss(self, batch: Batch, outputs: Features) -> dict[str, Tensor]:
        """The contrastive loss, or the identity loss and triplets before the bottleneck."""
        if self.config.loss == "contrastive":
            found = supervised_contrastive(outputs.embedding, batch.labels, self.config.temperature)
            return {"contrastive": found}
        logits = self.classifier(outputs.embedding)
        return {
            "identity": F.cross_entropy(
                logits, batch.labels, label_smoothing=self.config.smoothing
            ),
            "triplets": batch_hard(
                F.normalize(outputs.tokens.flatten(1), dim=1), batch.labels, self.config.margin
            ),
        }

    def after_step(self, batch: Batch, outputs: Features) -> None:
        """Nothing to do."""

    def state(self) -> dict[str, Any]:
        """The classifier, if there is one."""
        return self.classifier.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.classifier.load_state_dict(state)

    def step_state(self) -> dict[str, Any]:
        """Empty: nothing else changes."""
        return {}

    def load_step_state(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""
