"""Two images side by side: how alike the people on them are, and where."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from visir.core.run import atomic_write
from visir.core.types import FloatArray, Modality
from visir.data.images import read_image
from visir.data.locate import modality_by_colour, modality_named
from visir.embedding.explain import occlusion_map, overlay
from visir.embedding.pytorch import load
from visir.evaluation.confidence import Calibration

_SHOWN = (384, 192)  # height, width of each picture


class Compared(NamedTuple):
    """Cosine and confidence of two images, and what each image's parts add to the likeness."""

    images: tuple[Path, Path]
    modalities: tuple[Modality, Modality]
    score: float
    confidence: float | None
    maps: tuple[FloatArray, FloatArray]

    def text(self) -> str:
        """In a line or two."""
        sides = [f"{p} ({m.value})" for p, m in zip(self.images, self.modalities, strict=True)]
        sure = "not calibrated" if self.confidence is None else f"{self.confidence:.0%} sure"
        return f"{sides[0]}\n{sides[1]}\nscore {self.score:.3f}, {sure}"


def compare(
    run: Path,
    images: tuple[Path, Path],
    modalities: tuple[str | None, str | None] = (None, None),
    out: Path | None = None,
    device: str = "cpu",
) -> Compared:
    """Compare the people on two images.

    Args:
        run: run folder or weights file.
        images: two of them.
        modalities: of each; None judges by its colours.
        out: picture (.png) of both with their maps; None writes none.
        device: where the network runs.

    Raises:
        InputError: an image or the run cannot be read.
    """
    embedder = load(run, device)
    pictures = [read_image(path) for path in images]
    kinds = [
        modality_named(name, "modality") or modality_by_colour(picture)
        for name, picture in zip(modalities, pictures, strict=True)
    ]
    vectors = [
        embedder.embed([picture], kind)[0] for picture, kind in zip(pictures, kinds, strict=True)
    ]
    score = float(vectors[0] @ vectors[1])
    calibration = Calibration.of(run, embedder.fingerprint)
    sure = None if calibration is None else float(calibration.confidence(np.array(score), 1))
    maps = [
        occlusion_map(embedder, pictures[side], kinds[side], vectors[1 - side]) for side in (0, 1)
    ]
    if out is not None:
        _draw(pictures, maps, out)
    return Compared(images, (kinds[0], kinds[1]), score, sure, (maps[0], maps[1]))


def _draw(pictures: list[Image.Image], maps: list[FloatArray], out: Path) -> None:
    """Each image beside itself with its map."""
    height, width = _SHOWN
    sheet = Image.new("RGB", (4 * width, height))
    for side, (picture, parts) in enumerate(zip(pictures, maps, strict=True)):
        shown = picture.resize((width, height))
        sheet.paste(shown, (2 * side * width, 0))
        shown.paste(layer := overlay(parts, _SHOWN), mask=layer)
        sheet.paste(shown, ((2 * side + 1) * width, 0))
    with atomic_write(out) as file:
        sheet.save(file, format="PNG")
