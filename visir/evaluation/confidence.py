"""Confidence: how likely a hit with a given cosine shows the person of the query."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import special

from visir.core.config import from_mapping
from visir.core.run import write_json
from visir.core.types import FloatArray, InputError, IntArray
from visir.core.untrusted import parse_json

FILE = "calibration.json"
FORMAT = 1


class Curve(NamedTuple):
    """A logistic curve of how likely the best hit is right.

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

    The more images are searched, the higher the best cosine of another person, so the same cosine
    means less. The curve assumes that the person is in the gallery in half of the searches.

    Attributes:
        slope: of the cosine.
        growth: of the natural logarithm of the number of images searched.
        offset: of the curve.
        threshold: confidence below which the answer is "no match".
        false_alarms: share of queries about absent people that pass the threshold, measured on
            people not used for the fit.
        found: share of queries about present people whose best hit is right and passes it; None if
            it was fitted to strangers only, see `visir.evaluation.strangers`.
        identities: "labels" or "clusters", what the people were identified by; "strangers" if too
            few were known, and "others" if nobody was.
        people: number of people known in both modalities.
        images: number of their images.
        fingerprint: SHA-256 of the weights file it was measured with.
    """

    slope: float
    growth: float
    offset: float
    threshold: float
    false_alarms: float
    found: float | None
    identities: str
    people: int
    images: int
    fingerprint: str

    def confidence(self, scores: FloatArray, images: int) -> FloatArray:
        """How likely hits show the person of the query, 0 to 1.

        Args:
            scores: cosines, of any shape.
            images: how many images were searched.
        """
        return Curve(self.slope, self.growth, self.offset).confidence(scores, images)

    def limit(self, images: int) -> float:
        """The cosine whose confidence is the threshold; images: how many were searched."""
        at = special.logit(self.threshold) - self.offset - self.growth * np.log(max(images, 1))
        return float(at / self.slope)

    @property
    def only_strangers(self) -> bool:
        """Whether nothing is known but how similar strangers are."""
        return self.found is None

    def displayed(self, scores: FloatArray, images: int) -> FloatArray | None:
        """The confidences to show instead of cosines; None if only strangers were measured."""
        return None if self.only_strangers else self.confidence(scores, images)

    def no_match(self, scores: FloatArray, images: int) -> bool:
        """Whether the best of some cosines is below the threshold, or there is none."""
        return not len(scores) or bool(self.confidence(scores, images).max() < self.threshold)

    @classmethod
    def of(cls, run: Path, fingerprint: str) -> Calibration | None:
        """The calibration of a run, or of the run whose folder a weights file is in.

        Raises:
            InputError: the file is damaged, or was made for other weights.
        """
        file = (run if run.is_dir() else run.parent) / FILE
        if not file.is_file():
            return None
        try:
            kept = parse_json(file.read_text(encoding="utf-8"))
            if kept.pop("format") != FORMAT:
                raise ValueError("another format")
            found = from_mapping(cls, kept, FILE)
            found._require_possible()
        except (InputError, OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{file}: cannot be read ({error}); run `visir calibrate` again, or remove it"
            ) from None
        if found.fingerprint != fingerprint:
            raise InputError(
                f"{file}: was made for other weights than the run has now; "
                "run `visir calibrate` again, or remove it"
            )
        return found

    def _require_possible(self) -> None:
        """Refuse numbers that no fit has.

        Raises:
            ValueError: which of them.
        """
        for name in ("slope", "growth", "offset"):
            if not np.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is not finite")
        shares = {"threshold": self.threshold, "false_alarms": self.false_alarms}
        for name, share in {**shares, "found": self.found or 0.0}.items():
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is not between 0 and 1")

    def __str__(self) -> str:
        if self.found is None:
            return self._limits()
        who = "by their labels" if self.identities == "labels" else "as clusters"
        return (
            f"Fitted to {self.people} people, {who}, on {self.images} images.\n"
            f"Threshold {self.threshold:.0%}. Absent people: {self.false_alarms:.0%} false alarms. "
            f"Present people: {self.found:.0%} found."
        )

    def _limits(self) -> str:
        """What was measured, and what it cannot say."""
        who = "images of people known to be different"
        if self.identities == "others":
            who = "all images but those most similar to a query, so the threshold is rather too low"
        return (
            f"Only {self.people} people are known in both modalities, so only strangers were "
            f"measured: {who}, on {self.images} images.\n"
            f'A search says "no match" if its best hit is no better than strangers\' best hits '
            f"are; {self.false_alarms:.0%} of searches for absent people still pass. Scores stay "
            "cosines: how likely a hit is right, and how many people are found, is unknown. Label "
            "8 people in both modalities for a full calibration."
        )

    def save(self, run: Path) -> Path:
        """Write it into a run folder: the file's path."""
        write_json(run / FILE, {"format": FORMAT, **dataclasses.asdict(self)})
        return run / FILE
