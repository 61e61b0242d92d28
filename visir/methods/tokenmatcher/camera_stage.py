"""The camera stage: a training on each camera alone, for reliable clusters within the camera."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from visir.cluster.jaccard import jaccard_graph
from visir.cluster.labels import dbscan
from visir.cluster.memory import Memory, prototypes
from visir.cluster.neighbors import nearest
from visir.cluster.silhouette import BestBySilhouette, silhouette
from visir.core.types import IntArray, Modality
from visir.data.dataset import Part, TrainingSet
from visir.data.rng import generator
from visir.data.samplers import cluster_batches
from visir.data.transforms import Augmentation, View
from visir.methods.clustering import embed_rows
from visir.methods.contract import Plan
from visir.methods.tokenmatcher.settings import Config, radii_of
from visir.nets.build import Network

VIS, IR = Modality.VISIBLE, Modality.INFRARED


class When(NamedTuple):
    """The place of an epoch in the training: stage, number in the stage, camera if only one."""

    stage: Literal["stage 1", "camera stage", "stage 2"]
    epoch: int
    modality: Modality = VIS
    camera: int = -1


def schedule(config: Config, data: TrainingSet) -> Iterator[When]:
    """Every epoch of the training: stage 1, one camera after the other, stage 2."""
    for epoch in range(config.stage_epochs[0]):
        yield When("stage 1", epoch)
    if config.neighbour_weight and config.stage_epochs[1]:
        yield from _camera_epochs(config, data)
    for epoch in range(config.stage_epochs[1]):
        yield When("stage 2", epoch)


def _camera_epochs(config: Config, data: TrainingSet) -> Iterator[When]:
    for modality, epochs in zip((VIS, IR), config.camera_epochs, strict=True):
        for camera in np.unique(data.cams[data.rows(modality)]).tolist():
            for epoch in range(epochs):
                yield When("camera stage", epoch, modality, camera)


class CameraStage:
    """A short training on each camera from the weights of stage 1; only its labels are kept.

    Args:
        config: the settings.
        data: the training images.
        model: the network, reset before every camera.
        device: of the network.
        seed: of the run.

    Attributes:
        local: (N,) clusters inside the cameras, numbered in each, -1 for outliers.
        memories: of the clusters of the current camera, by its modality.
    """

    def __init__(
        self, config: Config, data: TrainingSet, model: Network, device: torch.device, seed: int
    ) -> None:
        self.config, self.data, self.model = config, data, model
        self.device, self.seed = device, seed
        self.radii: dict[int, float] = {}
        if any(config.camera_epochs):
            cameras = np.unique(data.cams).tolist()
            self.radii = radii_of("camera_eps", config.camera_eps, cameras)
        self.local: IntArray = np.full(len(data.cams), -1, np.int64)
        self.memories: dict[Modality, Memory] = {}
        self.best = BestBySilhouette(config.camera_from)
        self.first_stage: dict[str, Tensor] = {}

    def plan(self, epoch: int, when: When, lr: float) -> Plan:
        """Embed and cluster the images of one camera; keep labels of the best silhouette."""
        config = self.config
        if when.epoch == 0:
            self._enter()
        rows = self.data.rows(when.modality)
        rows = rows[self.data.cams[rows] == when.camera]
        features = embed_rows(
            self.model, self.data, when.modality, rows, self.device, config.precision
        )
        labels, score = self._clustered(features, self.radii[when.camera])
        if self.best.offer(when.epoch, score, labels):
            self.local[rows] = labels
        clusters = int(labels.max(initial=-1)) + 1
        self.memories = {
            when.modality: Memory(
                prototypes(features, labels), config.momentum[0], config.temperature
            )
        }
        usable, of_all = clusters > 1, np.full(len(self.data.cams), -1, np.int64)
        of_all[rows] = labels
        few = f"camera {when.camera} is not trained: {clusters} cluster(s) of {len(rows)} images"
        return Plan(
            stage=f"camera {when.camera}",
            batches=self._batches(epoch, when.modality, of_all) if usable else (),
            steps=config.camera_iterations if usable else 0,
            lr=lr,
            fresh_optimizer=when.epoch == 0,
            log={"camera_clusters": clusters, "camera_silhouette": round(score, 4)},
            warnings=() if usable else (f"{few}; set another camera_eps",),
        )

    def leave(self) -> None:
        """Restore the weights of stage 1 after the last camera."""
        if self.first_stage:
            self.model.load_state_dict(self.first_stage)
            self.first_stage = {}

    def _enter(self) -> None:
        """Start a camera from the weights of stage 1."""
        if self.first_stage:
            self.model.load_state_dict(self.first_stage)
        else:
            self.first_stage = {
                name: value.clone() for name, value in self.model.state_dict().items()
            }
        self.best = BestBySilhouette(self.config.camera_from)

    def _clustered(self, features: Tensor, eps: float) -> tuple[IntArray, float]:
        """Labels, and their silhouette over all distances."""
        k1, k2 = self.config.k1, self.config.k2
        ranks = nearest(features, k1)
        labels = dbscan(jaccard_graph(features, eps, k1, k2, ranks), self.config.min_samples)
        judged = labels + 1 if self.config.outlier_cluster and labels.min() < 0 else labels
        return labels, silhouette(jaccard_graph(features, 1.0, k1, k2, ranks), judged)

    def _batches(self, epoch: int, modality: Modality, labels: IntArray) -> Iterator[list[Part]]:
        config = self.config
        view = View.GRAY if modality is IR else View.PLAIN
        draws = cluster_batches(
            labels,
            self.data.cams,
            config.camera_clusters,
            config.instances,
            generator(self.seed, epoch),
        )
        for _ in range(config.camera_iterations):
            rows = next(draws)
            yield [Part(rows, labels[rows], Augmentation(view, config.jitter))]

    def state(self) -> dict[str, Any]:
        """The labels found so far, and the weights of stage 1."""
        return {
            "local": torch.from_numpy(self.local),
            "best": self.best.state(),
            "first_stage": self.first_stage,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.local = state["local"].cpu().numpy()
        self.best = BestBySilhouette(self.config.camera_from)
        self.best.load_state(state["best"])
        self.first_stage = state["first_stage"]
