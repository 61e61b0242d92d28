"""What the fault campaign works on: small drawn images, and an embedder that averages pixels."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from visir.core.types import ByteArray, FloatArray, Modality
from visir.embedding.base import ImageEmbedder

SIZE = (48, 24)
GRID = (12, 6)
FORMATS = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF",
           ".ppm": "PPM"}  # fmt: skip


class PixelEmbedder(ImageEmbedder):
    """An image is its own coarse pixels."""

    fingerprint = "f" * 64
    method = "adca"
    size = SIZE
    width = 3 * GRID[0] * GRID[1]
    dataset = None
    split = None

    @property
    def flip(self) -> bool:
        """As `ImageEmbedder.flip`."""
        return False

    def embed_pixels(self, pixels: ByteArray, modality: Modality) -> FloatArray:
        """As `ImageEmbedder.embed_pixels`."""
        rows = pixels.reshape(-1, GRID[0], 4, GRID[1], 4, 3).mean((2, 4), dtype=np.float32)
        flat = rows.reshape(len(pixels), -1)
        flat = flat - flat.mean(axis=1, keepdims=True) + np.float32(1e-3)
        return np.asarray(flat / np.linalg.norm(flat, axis=1, keepdims=True), np.float32)


def drawn(number: int, version: int = 0, grey: bool = False) -> Image.Image:
    """An image of coloured or grey blocks with noise; another one for every number and version."""
    rng = np.random.default_rng([number, version])
    blocks = rng.integers(0, 255, (*GRID, 3))
    pixels = np.kron(blocks, np.ones((4, 4, 1))) * 0.8 + rng.integers(0, 50, (*SIZE, 3))
    if grey:
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(picture: Image.Image, suffix: str, **how: object) -> bytes:
    """The file of an image."""
    file = io.BytesIO()
    picture.save(file, FORMATS[suffix], **how)
    return file.getvalue()


def crops(root: Path, count: int, first: int = 0) -> list[Path]:
    """A folder of so many visible and infrared images of two cameras each, in turns."""
    places = [("visible", "gate"), ("infrared", "yard"), ("visible", "hall"), ("infrared", "dock")]
    found = []
    for number in range(first, first + count):
        side, camera = places[number % 4]
        path = root / side / camera / f"2025{1 + number % 12:02d}01_120000_{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(drawn(number, grey=side == "infrared"), ".png"))
        found.append(path)
    return found


def number_of(path: Path | str) -> int:
    """The number of an image of `crops`."""
    return int(Path(path).stem.rpartition("_")[2])


def of(seed: int, kind: str, number: int) -> random.Random:
    """The generator of one fault, whatever came before it."""
    return random.Random(f"{seed}/{kind}/{number}")
