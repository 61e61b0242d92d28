"""Images of any form as pixels of one size, read in threads; what every embedder begins with."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL.Image
from tqdm import tqdm

from visir.core.run import quiet
from visir.core.types import ByteArray, FloatArray, Modality, Record
from visir.data.images import read_resized, resized, upright_rgb

Image = Path | str | PIL.Image.Image | ByteArray
_CHUNK = 256  # images held at once


class Embeds(Protocol):
    """Turns images into embeddings: `pytorch.Embedder` and `onnx.OnnxEmbedder`.

    fingerprint: SHA-256 of the weights file; method: what trained the network; size: height and
    width images are resized to, in pixels; width: numbers in a descriptor; flip: whether mirror
    images are averaged in; dataset, split: what it was trained on, None where unknown.
    """

    @property
    def fingerprint(self) -> str: ...  # noqa: D102 - the class says it
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def flip(self) -> bool: ...  # noqa: D102
    @property
    def dataset(self) -> str | None: ...  # noqa: D102
    @property
    def split(self) -> str | None: ...  # noqa: D102

    def embed(
        self, images: Sequence[Image], modality: Modality, progress: bool = False
    ) -> FloatArray:
        """(N, D) unit descriptors of images of one modality."""

    def embed_records(self, records: Sequence[Record], progress: bool = False) -> FloatArray:
        """(N, D) unit descriptors of records, in their order."""


def chunks_of_pixels(
    images: Sequence[Image], size: tuple[int, int], progress: bool = False
) -> Iterator[ByteArray]:
    """Read images in their order, some hundreds at a time.

    Args:
        images: files, PIL images or (H, W, 3) uint8 arrays, of any size.
        size: (height, width) they are resized to, in pixels.
        progress: show a progress bar; an image counts when its chunk has been dealt with.

    Yields:
        (N, height, width, 3) uint8.

    Raises:
        InputError: an image cannot be read; the message names it.
    """
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(images), desc="embedding", unit="img", disable=quiet(progress)) as bar,
    ):
        for chunk in (images[i : i + _CHUNK] for i in range(0, len(images), _CHUNK)):
            yield np.stack(list(pool.map(partial(_pixels, size=size), chunk)))
            bar.update(len(chunk))


def embed_by_modality(
    embed: Callable[[Sequence[Path], Modality], FloatArray], records: Sequence[Record]
) -> FloatArray:
    """Descriptors of records of both modalities, in their order: (N, D) float32.

    Args:
        embed: descriptors, (n, D), of n files of one modality.
        records: what to embed.
    """
    rows = {m: [i for i, record in enumerate(records) if record.modality is m] for m in Modality}
    found = np.concatenate([embed([records[i].path for i in rows[m]], m) for m in Modality])
    features = np.empty_like(found)
    features[[i for m in Modality for i in rows[m]]] = found
    return features


def _pixels(image: Image, size: tuple[int, int]) -> ByteArray:
    if isinstance(image, (str, Path)):
        return read_resized(Path(image), size)
    picture = image if isinstance(image, PIL.Image.Image) else PIL.Image.fromarray(image)
    return resized(upright_rgb(picture, "an image given"), size)
