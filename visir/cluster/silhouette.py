"""How well separated clusters are, and which epoch's labels were best separated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse

from visir.core.types import IntArray


def silhouette(graph: sparse.csr_array, labels: IntArray) -> float:
    """Mean silhouette (Rousseeuw, 1987) of the clustered images.

    Args:
        graph: (N, N) distances of all pairs below 1; a pair that is not stored is at distance 1.
        labels: (N,) -1 for outliers, which count neither as images nor as neighbours.

    Returns:
        From -1 to 1; -1 with fewer than two clusters. An image alone in its cluster counts 0.
    """
    links = sparse.coo_array(graph)
    used = (links.row != links.col) & (labels[links.row] >= 0) & (labels[links.col] >= 0)
    row, column, near = links.row[used], links.col[used], 1 - links.data[used].astype(np.float64)
    own, count = labels[labels >= 0], labels.max(initial=-1) + 1
    sizes = np.bincount(own, minlength=count)
    if (sizes > 0).sum() < 2:
        return -1.0
    # Nearness, 1 - distance, is 0 for pairs that are not stored: all sums stay sparse.
    inside = labels[row] == labels[column]
    others = np.maximum(sizes[labels] - 1, 1)
    within = 1 - np.bincount(row[inside], near[inside], minlength=len(labels)) / others
    places = row[~inside], labels[column[~inside]]
    mean = sparse.csr_array(
        (near[~inside] / sizes[places[1]], places), shape=(len(labels), count)
    ).max(axis=1)
    between = 1 - mean.toarray().ravel()
    score = (between - within) / np.maximum(np.maximum(within, between), 1e-12)
    return float(np.where(sizes[labels] > 1, score, 0)[labels >= 0].mean())


@dataclass
class BestBySilhouette:
    """Keeps the labels of the epoch with the best silhouette, from a first epoch on (TokenMatcher).

    Attributes:
        first: epoch from which labels may be kept, counted from 0.
        score: silhouette of the labels kept.
        labels: (N,) the labels kept; None before there are any.
    """

    first: int = 10
    score: float = -np.inf
    labels: IntArray | None = None

    def offer(self, epoch: int, score: float, labels: IntArray) -> bool:
        """Keep these labels if they are better, and return whether they were."""
        better = epoch >= self.first and score > self.score
        if better:
            self.score, self.labels = score, labels.copy()
        return better

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        labels = None if self.labels is None else torch.from_numpy(self.labels)
        return {"score": self.score, "labels": labels}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        self.score = state["score"]
        self.labels = None if state["labels"] is None else state["labels"].cpu().numpy()
