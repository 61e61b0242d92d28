"""The interface of embedders, and the reading of images in threads that all embedders share."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image

from visir.core.progress import bar
from visir.core.types import ByteArray, FloatArray, Modality, Record
from visir.data.images import read_resized, resized, upright_rgb
from visir.data.ranges import NONE, Ranges

Image = Path | str | PIL.Image.Image | ByteArray | Record
_CHUNK = 256  # images in memory at once


class ImageEmbedder(ABC):
    """Turns images into embeddings; the base of `pytorch.Embedder` and `onnx.OnnxEmbedder`.

    Attributes:
        fingerprint: SHA-256 of the weights file, in hexadecimal; empty for a network without one.
        method: the method that trained the network.
        size: (height, width) images are resized to, in pixels.
        width: D, the length of an embedding.
        dataset: name of the benchmark the network was trained on; None if unknown.
        split: split of that benchmark; None if it has only one.
        caution: one line, what a network that comes with visir has not seen; empty for others.
        ranges: of the cameras it was trained on, see `visir.data.ranges`.
    """

    fingerprint: str
    method: str
    size: tuple[int, int]
    width: int
    dataset: str | None
    split: str | None
    caution: str = ""
    ranges: Ranges = NONE

    @property
    @abstractmethod
    def flip(self) -> bool:
        """Whether an embedding is the mean over an image and its mirror image."""

    @abstractmethod
    def embed_pixels(self, pixels: ByteArray, modality: Modality) -> FloatArray:
        """Embed images that already have the network's size.

        Args:
            pixels: (N, height, width, 3) uint8.
            modality: the type of camera that took them.

        Returns:
            (N, D) float32, rows of length 1.
        """

    def embed(
        self, images: Sequence[Image], modality: Modality, progress: bool = False
    ) -> FloatArray:
        """Embed images of one modality.

        Args:
            images: files, PIL images or (H, W, 3) uint8 arrays, of any size; or records, whose
                files are read with the range of their camera.
            modality: the type of camera that took them.
            progress: show a progress bar.

        Returns:
            (N, D) float32, rows of length 1.

        Raises:
            InputError: an image cannot be read; the message names it.
        """
        chunks = chunks_of_pixels(images, self.size, progress, modality)
        found = [self.embed_pixels(pixels, modality) for pixels in chunks]
        return np.concatenate(found) if found else np.empty((0, self.width), np.float32)

    def embed_records(self, records: Sequence[Record], progress: bool = False) -> FloatArray:
        """Embed records of both modalities, in their order: (N, D) float32, rows of length 1."""
        return embed_by_modality(partial(self.embed, progress=progress), records)


def chunks_of_pixels(
    images: Sequence[Image],
    size: tuple[int, int],
    progress: bool = False,
    modality: Modality | None = None,
) -> Iterator[ByteArray]:
    """Read images in their order, at most 256 at a time.

    Args:
        images: files, PIL images or (H, W, 3) uint8 arrays, of any size; or records.
        size: (height, width) they are resized to, in pixels.
        progress: show a progress bar; it advances when the caller asks for the next chunk.
        modality: of files that are no records.

    Yields:
        (N, height, width, 3) uint8.

    Raises:
        InputError: an image cannot be read; the message names it.
    """
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        bar(None, "embedding", len(images), unit="images", show=progress) as shown,
    ):
        for chunk in (images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)):
            yield np.stack(list(pool.map(partial(_pixels, size=size, modality=modality), chunk)))
            shown.update(len(chunk))


def embed_by_modality(
    embed: Callable[[Sequence[Record], Modality], FloatArray], records: Sequence[Record]
) -> FloatArray:
    """Embed records of both modalities, in their order: (N, D) float32.

    Args:
        embed: returns the (n, D) embeddings of n records of one modality.
        records: what to embed.
    """
    rows = {m: [i for i, record in enumerate(records) if record.modality is m] for m in Modality}
    found = np.concatenate([embed([records[i] for i in rows[m]], m) for m in Modality])
    features = np.empty_like(found)
    features[[i for m in Modality for i in rows[m]]] = found
    return features


def _pixels(image: Image, size: tuple[int, int], modality: Modality | None) -> ByteArray:
    if isinstance(image, Record):
        return read_resized(image.path, size, image.modality, image.span)
    if isinstance(image, (str, Path)):
        return read_resized(Path(image), size, modality)
    picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    return resized(upright_rgb(picture, "an image given"), size)
