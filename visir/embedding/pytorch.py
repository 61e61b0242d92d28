"""Load a trained network and embed images with it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.device import autocast, resolve_device, to_device
from visir.core.run import Run, sha256
from visir.core.types import ByteArray, FloatArray, InputError, IntArray, Modality
from visir.data.ranges import from_json
from visir.data.transforms import normalise
from visir.embedding.base import ImageEmbedder
from visir.nets.build import Network
from visir.nets.shipped import ShippedWarning, builtin_file, card_of, is_builtin
from visir.nets.weights import load_weights

AT_ONCE = 256
"""Images that pass through the network together."""


@torch.no_grad()
def embed_pixels(
    net: Network,
    pixels: ByteArray,
    modality: Modality,
    device: torch.device,
    precision: str = "auto",
    rows: IntArray | None = None,
    flip: bool = True,
) -> Tensor:
    """Embed images that already have the network's size.

    Each image and its mirror image are embedded, L2-normalised, averaged and normalised again, as
    in ADCA's evaluation.

    Args:
        net: the network, in evaluation mode.
        pixels: (N, H, W, 3) uint8; may be memory-mapped.
        modality: selects the stem.
        device: where the network is.
        precision: "auto", "bf16" or "fp32".
        rows: rows of `pixels` to embed, in this order; None for all.
        flip: average over mirror images; AGW, HCT and MRA were evaluated without.

    Returns:
        (N, D) float32 on `device`.
    """
    rows = np.arange(len(pixels)) if rows is None else rows
    found = []
    for start in range(0, len(rows), AT_ONCE):
        some = torch.from_numpy(pixels[rows[start : start + AT_ONCE]])
        images = normalise(to_device(some, device))
        infrared = torch.full((len(images),), modality is Modality.INFRARED)  # on the CPU
        with autocast(device, precision):
            views = [images, images.flip(3)] if flip else [images]
            embedded = [net(view, infrared).embedding for view in views]
        unit = [F.normalize(of.float(), dim=1) for of in embedded]
        found.append(F.normalize(unit[0] + unit[1], dim=1) if flip else unit[0])
    return torch.cat(found) if found else torch.empty(0, net.embedding_dim, device=device)


class Embedder(ImageEmbedder):
    """A trained network that turns image files into embeddings, which are compared by cosine.

    Attributes:
        net: the network, in evaluation mode.
        precision: "auto", "bf16" or "fp32", as in its training.
        flip: whether an embedding is the mean over an image and its mirror image; may be changed.
    """

    flip = True

    def __init__(
        self, net: Network, about: dict[str, Any], device: str = "cpu", fingerprint: str = ""
    ) -> None:
        self.fingerprint = fingerprint
        self.width = net.embedding_dim
        self.device = resolve_device(device)
        self.net = net.to(self.device).eval()
        height, width = about["net"]["image_size"]
        self.size: tuple[int, int] = (height, width)
        self.method: str = about["method"]
        self.precision: str = about.get("precision", "auto")
        self.dataset: str | None = about.get("dataset")
        self.split: str | None = about.get("split")
        self.ranges = from_json(about.get("ranges", {}), "weights")
        card = card_of(about)
        self.caution = card.warning() if card else ""

    def embed_pixels(self, pixels: ByteArray, modality: Modality) -> FloatArray:
        """As `ImageEmbedder.embed_pixels`."""
        found = embed_pixels(
            self.net, pixels, modality, self.device, precision=self.precision, flip=self.flip
        )
        embeddings_ND: FloatArray = found.cpu().numpy()
        return embeddings_ND


def load(path: Path | str, device: str = "cpu") -> Embedder:
    """Open a trained network.

    Args:
        path: a run folder, a weights file (.safetensors) of one, or "builtin", the ready model.
        device: "cpu", "cuda", "cuda:<n>" or "auto".

    Raises:
        InputError: the file is missing or was not written by visir.
    """
    path = Path(path)
    weights = Run(path).weights if path.is_dir() else path
    if is_builtin(path):
        weights = builtin_file()
    if not weights.is_file():
        raise InputError(
            f"{weights}: no such file; give a run folder that `visir train` finished, or builtin "
            "for the ready model"
        )
    net, about, _ = load_weights(weights)
    if not about.get("method"):
        raise InputError(
            f"{weights}: its description names no method; give the weights file of a trained run"
        )
    embedder = Embedder(net, about, device, sha256(weights))
    if embedder.caution:
        warnings.warn(embedder.caution, ShippedWarning, stacklevel=1)
    return embedder
