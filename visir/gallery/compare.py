"""Compare two images: how similar the people on them are, and which parts make them so."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from visir.core.run import atomic_write
from visir.core.types import FloatArray
from visir.embedding.base import ImageEmbedder
from visir.embedding.explain import occlusion_map, overlay
from visir.evaluation.confidence import Calibration
from visir.gallery.query import Query

_SHOWN = (384, 192)  # height, width of each picture


class Side(NamedTuple):
    """One of two images; picture: None if the gallery keeps none of it."""

    query: Query
    picture: Image.Image | None


class Comparison(NamedTuple):
    """Two images side by side.

    confidence: how likely both show one person, None without a calibration; maps: of each image,
    (rows, columns) of how much the cosine drops if that part is covered, None without a picture
    or if maps were not asked for.
    """

    sides: tuple[Side, Side]
    cosine: float
    confidence: float | None
    maps: tuple[FloatArray | None, FloatArray | None]

    @property
    def score(self) -> float:
        """What is displayed: the confidence if the run is calibrated, otherwise the cosine."""
        return self.cosine if self.confidence is None else self.confidence

    def __str__(self) -> str:
        lines = [f"{side.query.path} ({side.query.modality.value})" for side in self.sides]
        if self.confidence is None:
            return "\n".join([*lines, f"cosine {self.cosine:.3f}, not calibrated"])
        return "\n".join(
            [*lines, f"cosine {self.cosine:.3f}, same person with {self.confidence:.0%} confidence"]
        )

    def write(self, out: Path) -> None:
        """Write a picture (.png): each image beside itself with its map.

        Raises:
            InputError: it cannot be written.
        """
        height, width = _SHOWN
        sheet = Image.new("RGB", (4 * width, height))
        for number, (side, parts) in enumerate(zip(self.sides, self.maps, strict=True)):
            if side.picture is None:
                continue
            shown = side.picture.resize((width, height))
            sheet.paste(shown, (2 * number * width, 0))
            if parts is not None:
                layer = overlay(parts, _SHOWN)
                shown.paste(layer, mask=layer)
            sheet.paste(shown, ((2 * number + 1) * width, 0))
        with atomic_write(out) as file:
            sheet.save(file, format="PNG")


def compare(
    embedder: ImageEmbedder,
    first: Side,
    second: Side,
    calibration: Calibration | None = None,
    searched: int = 1,
    maps: bool = True,
) -> Comparison:
    """Compare the people on two images.

    Args:
        embedder: the model both were embedded with.
        first: an image.
        second: another one.
        calibration: of the model; None leaves the score a cosine.
        searched: how many images one of them was found among.
        maps: compute which parts make them similar; this embeds each image 33 times.
    """
    vectors = [side.query.vector for side in (first, second)]
    cosine = float(vectors[0].astype(np.float64) @ vectors[1])
    confidence = None
    if calibration is not None:
        shown = calibration.displayed(np.array([cosine], np.float32), searched)
        confidence = None if shown is None else float(shown[0])
    found = (
        _map(embedder, first, vectors[1]) if maps else None,
        _map(embedder, second, vectors[0]) if maps else None,
    )
    return Comparison((first, second), cosine, confidence, found)


def _map(embedder: ImageEmbedder, side: Side, other_D: FloatArray) -> FloatArray | None:
    if side.picture is None:
        return None
    return occlusion_map(embedder, side.picture, side.query.modality, other_D)
