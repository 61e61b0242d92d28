"""From images to descriptors: load a trained model, embed images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.device import autocast, resolve_device
from visir.core.run import Run, sha256
from visir.core.types import ByteArray, FloatArray, InputError, IntArray, Modality, Record
from visir.data.transforms import normalise
from visir.embedding.base import Image, chunks_of_pixels, embed_by_modality
from visir.nets.build import Network
from visir.nets.weights import load_weights


@torch.no_grad()
def embed_pixels(
    net: Network, pixels: ByteArray, modality: Modality, device: torch.device,
    precision: str = "auto", rows: IntArray | None = None, flip: bool = True,
) -> Tensor:  # fmt: skip
    """Descriptors of images already at the network's size.

    Each image and its mirror image are embedded, L2-normalised, averaged, normalised again, as
    ADCA tests.

    Args:
        net: the network, in evaluation mode.
        pixels: (N, H, W, 3) uint8; may be memory-mapped.
        modality: which stem they go through.
        device: where the network is.
        precision: "auto", "bf16" or "fp32".
        rows: which of the pixels' rows to embed, in this order; all where None.
        flip: whether mirror images count; AGW, HCT and MRA were tested without.

    Returns:
        (N, D) float32 on `device`.
    """
    rows = np.arange(len(pixels)) if rows is None else rows
    found = []
    for start in range(0, len(rows), 256):
        images = normalise(torch.from_numpy(pixels[rows[start : start + 256]]).to(device))
        infrared = torch.full((len(images),), modality is Modality.INFRARED, device=device)
        with autocast(device, precision):
            views = [images, images.flip(3)] if flip else [images]
            embedded = [net(view, infrared).embedding for view in views]
        unit = [F.normalize(of.float(), dim=1) for of in embedded]
        found.append(F.normalize(unit[0] + unit[1], dim=1) if flip else unit[0])
    return torch.cat(found) if found else torch.empty(0, net.embedding_dim, device=device)


class Embedder:
    """A trained network that turns image files into descriptors one can compare by cosine.

    Attributes:
        net: the network, in evaluation mode.
        size: (height, width) images are resized to, in pixels.
        method: what trained it.
        precision: "auto", "bf16" or "fp32", as it was trained.
        dataset: name of the benchmark it was trained on; None where unknown.
        split: that benchmark's split; None where it has only one.
        width: numbers in a descriptor.
        fingerprint: SHA-256 of the weights file, in hexadecimal; empty for a network without one.
        flip: whether descriptors are means over an image and its mirror image; may be changed.
    """

    def __init__(
        self, net: Network, about: dict[str, Any], device: str = "cpu", fingerprint: str = ""
    ) -> None:
        self.flip = True
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

    def embed(
        self, images: Sequence[Image], modality: Modality, progress: bool = False
    ) -> FloatArray:
        """Descriptors of images of one modality.

        Args:
            images: files, PIL images or (H, W, 3) uint8 arrays, of any size.
            modality: the kind of camera that took them.
            progress: show a progress bar.

        Returns:
            (N, D) float32, rows of length 1.

        Raises:
            InputError: an image cannot be read; the message names it.
        """
        found = [
            embed_pixels(
                self.net, pixels, modality, self.device, self.precision, flip=self.flip
            ).cpu()
            for pixels in chunks_of_pixels(images, self.size, progress)
        ]
        return torch.cat(found or [torch.empty(0, self.width)]).numpy()

    def embed_records(self, records: Sequence[Record], progress: bool = False) -> FloatArray:
        """Descriptors of records of both modalities, in their order: (N, D) float32."""
        return embed_by_modality(partial(self.embed, progress=progress), records)


def load(path: Path | str, device: str = "cpu") -> Embedder:
    """Open a trained model.

    Args:
        path: a run folder, or a weights file (.safetensors) of one.
        device: "cpu", "cuda", "cuda:<n>" or "auto".

    Raises:
        InputError: nothing there, or not a file visir wrote.
    """
    path = Path(path)
    weights = Run(path).weights if path.is_dir() else path
    if not weights.is_file():
        raise InputError(f"{weights}: no such file; give a run folder that `visir train` finished")
    net, about, _ = load_weights(weights)
    return Embedder(net, about, device, sha256(weights))
