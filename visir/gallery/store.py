"""What a gallery keeps, and how one asks for a part of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, Protocol

import numpy as np

from visir.core.types import FloatArray, InputError, IntArray, Modality
from visir.sources.crop import Entry

FORMAT = "1"  # of galleries, of either kind
Mode = Literal["auto", "exact", "index"]


class Stored(NamedTuple):
    """A kept image. Ids grow and are never given twice; `added`: when, seconds since 1970, UTC."""

    id: int
    source: str
    camera: str
    modality: Modality
    time: float | None
    tags: tuple[str, ...]
    added: float


@dataclass(frozen=True)
class Where:
    """A part of a gallery; everything where nothing is asked for.

    cameras: any of these; since, until: seconds since 1970, both included, and images of unknown
    time left out; tags: all of these; before: what is older than that, by its time, or by when it
    was added where its time is unknown.
    """

    cameras: tuple[str, ...] = ()
    modality: Modality | None = None
    since: float | None = None
    until: float | None = None
    tags: tuple[str, ...] = ()
    before: float | None = None


class Model(NamedTuple):
    """Whose vectors a gallery holds; those of different models cannot be compared.

    fingerprint: SHA-256 of the weights file; width: numbers in a vector; size: height and width
    of what the network sees, in pixels; flip: mirror images are averaged in.
    """

    fingerprint: str
    method: str
    width: int
    size: tuple[int, int]
    flip: bool


class Nearest(NamedTuple):
    """The k best of a query, best first, ties by id: (k,) ids and (k,) cosines."""

    ids: IntArray
    scores: FloatArray


class Stats(NamedTuple):
    """What a gallery holds. `version` grows with every change; `retention` in days."""

    images: int
    by_camera: dict[str, int]
    by_modality: dict[str, int]
    earliest: float | None
    latest: float | None
    bytes_on_disk: int
    version: int
    retention: float | None
    engine: str


class Store(Protocol):
    """Where a gallery is kept: a folder, or a PostgreSQL database."""

    name: str

    def setting(self, key: str) -> str | None:
        """What is written down of the gallery itself; None where nothing is."""

    def model(self) -> Model | None:
        """Whose vectors are in it; None while it is empty and new."""
        text = self.setting("model")
        if text is None:
            return None
        kept = json.loads(text)
        return Model(**{**kept, "size": tuple(kept["size"])})

    def add(self, model: Model, entries: list[Entry], vectors_ND: FloatArray) -> list[int | None]:
        """Keep images, all or none: their ids, None for a source that is there already.

        Raises:
            InputError: another model's vectors are in it, or the vectors are not unit rows.
        """

    def remove(self, ids: list[int]) -> int:
        """Forget images, their vectors and thumbnails: how many there were."""

    def select(self, where: Where, limit: int | None = None, after: int = 0) -> list[Stored]:
        """Images by rising id, from the first above `after`."""

    def get(self, ids: list[int]) -> dict[int, Stored]:
        """These images, as far as they are there."""

    def known(self, sources: Sequence[str]) -> set[str]:
        """Those of some sources that are in it already."""

    def vectors(self, ids: list[int]) -> FloatArray:
        """(len(ids), D) vectors, in the order of ids; a row of zeros for one not there."""

    def thumbnail(self, item: int) -> bytes | None:
        """A small JPEG of an image; None where there is none."""

    def nearest(
        self, query_D: FloatArray, k: int, where: Where | None = None, mode: Mode = "auto"
    ) -> Nearest:
        """The k images most like a query, of a part of the gallery.

        "exact" looks at everything, "index" where likely ones are, "auto" decides by size.
        """

    def count(self, where: Where | None = None) -> int:
        """How many images this part has."""

    def keep_for(self, days: float | None) -> None:
        """Set the retention period; None keeps for ever."""

    def retention(self) -> float | None:
        """The retention period in days."""
        days: float | None = json.loads(self.setting("retention") or "null")
        return days

    def expire(self, now: float) -> int:
        """Forget what is older than the retention period: how many."""
        days = self.retention()
        if days is None:
            return 0
        old = self.select(Where(before=now - days * 86_400))
        return self.remove([item.id for item in old]) if old else 0

    def settle(self) -> None:
        """Bring indexes up to date, after many additions."""

    def version(self) -> int:
        """A number that grows with every addition and removal."""

    def stats(self) -> Stats:
        """What it holds."""

    def close(self) -> None:
        """Let go of files and connections."""


def require_format(known: str | None, name: str) -> None:
    """Refuse a gallery of another visir.

    Raises:
        InputError: which format it has.
    """
    if known != FORMAT:
        raise InputError(
            f"{name}: a gallery of format {known}, and this visir knows {FORMAT}; use the visir it "
            "was made with, or make a new gallery"
        )


def require_fitting(kept: Model | None, model: Model, name: str) -> None:
    """Refuse vectors of another model than the gallery's.

    Raises:
        InputError: which two models.
    """
    if kept is None or kept == model:
        return
    if kept.fingerprint == model.fingerprint:
        raise InputError(
            f"{name}: was made {'with' if kept.flip else 'without'} mirror images; do the same now"
        )
    raise InputError(
        f"{name}: holds vectors of another model ({kept.method}, {kept.width} numbers, weights "
        f"{kept.fingerprint[:12]}; this one is {model.method}, {model.width}, "
        f"{model.fingerprint[:12]}); use that model, or make a new gallery with this one"
    )


def require_units(vectors_ND: FloatArray, count: int, width: int, name: str) -> FloatArray:
    """Refuse what is not `count` rows of length 1.

    Raises:
        InputError: the fault.
    """
    vectors_ND = np.ascontiguousarray(vectors_ND, np.float32)
    if vectors_ND.shape != (count, width):
        raise InputError(
            f"{name}: vectors of shape {vectors_ND.shape} were given for {count} images of "
            f"{width} numbers each; give one row for each image"
        )
    if not (np.abs(np.linalg.norm(vectors_ND, axis=1) - 1) < 1e-3).all():
        raise InputError(f"{name}: a vector is not of length 1; divide each by its length")
    return vectors_ND


def moment(text: str, field: str) -> float:
    """Seconds since 1970 of a date or a time such as 2026-01-31T18:00; UTC where no zone is given.

    Raises:
        InputError: it is neither.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"{field}: {text!r} is no time; write it as 2026-01-31 or 2026-01-31T18:00+01:00"
        ) from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
