"""What a cosine is worth: how likely it is that a hit shows the person asked for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special

from visir.core.run import write_json
from visir.core.types import FloatArray, InputError, IntArray

FILE = "calibration.json"
FORMAT = 1


class Curve(NamedTuple):
    """How likely the best hit is right: a logistic curve.

    slope: of its cosine; growth: of the natural logarithm of the number of images searched.
    """

    slope: float
    growth: float
    offset: float

    def confidence(self, scores: FloatArray, images: IntArray | int) -> FloatArray:
        """0 to 1 for cosines of any shape; `images`: how many were searched for each, or all."""
        at = self.slope * np.asarray(scores, np.float64) + self.offset
        at = at + self.growth * np.log(np.maximum(images, 1))
        return np.asarray(special.expit(at), np.float32)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A logistic curve of a hit's cosine and of how many images were searched.

    The likelier the best of a thousand strangers is to come close, the more a cosine has to be. The
    curve holds where it is as likely as not that the gallery has the person.

    Attributes:
        slope: of the cosine.
        growth: of the natural logarithm of the number of images searched.
        offset: of the curve.
        threshold: confidence below which "nobody here" is the answer.
        false_alarms: share of queries about absent people that pass the threshold, measured on
            people the curve was not fitted to.
        found: share of queries about people who are there whose best hit is right and passes.
        identities: "labels" or "clusters", what told the people apart.
        people: how many.
        images: how many images they had.
        fingerprint: SHA-256 of the weights file it was measured with.
    """

    slope: float
    growth: float
    offset: float
    threshold: float
    false_alarms: float
    found: float
    identities: str
    people: int
    images: int
    fingerprint: str

    def confidence(self, scores: FloatArray, images: int) -> FloatArray:
        """How likely hits show the person asked for, 0 to 1.

        Args:
            scores: cosines, of any shape.
            images: how many images were searched.
        """
        return Curve(self.slope, self.growth, self.offset).confidence(scores, images)

    @classmethod
    def of(cls, run: Path, fingerprint: str) -> Calibration | None:
        """What `visir calibrate` found for a run, or for the run a weights file lies in.

        Raises:
            InputError: the file is damaged, or was made for other weights.
        """
        file = (run if run.is_dir() else run.parent) / FILE
        if not file.is_file():
            return None
        try:
            kept = json.loads(file.read_text(encoding="utf-8"))
            if kept.pop("format") != FORMAT:
                raise ValueError("another format")
            found = cls(**kept)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{file}: cannot be read ({error}); run `visir calibrate` again, or remove it"
            ) from None
        if found.fingerprint != fingerprint:
            raise InputError(
                f"{file}: was made for other weights than the run has now; "
                "run `visir calibrate` again, or remove it"
            )
        return found

    def save(self, run: Path) -> Path:
        """Write it into a run folder: the file's path."""
        write_json(run / FILE, {"format": FORMAT, **dataclasses.asdict(self)})
        return run / FILE
