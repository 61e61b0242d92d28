"""What a gallery keeps, how a part of it is named, and the operations every store has."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, get_args

import numpy as np

from visir.core.names import is_utf8
from visir.core.types import FloatArray, InputError, IntArray, Modality, Span
from visir.data.ranges import Ranges, from_json
from visir.embedding.base import ImageEmbedder
from visir.gallery.times import DAY, ago, require_time
from visir.sources.crop import Entry

FORMAT = "1"  # of galleries, in a folder and in a database
Mode = Literal["auto", "exact", "approx"]
FIRST_TIME = 631_152_000.0  # 1990; cameras whose clock was never set count from before
MOST_AT_ONCE, FEW = 0.5, 100  # share of the images, and number of them, a doubtful clock may delete
MOST_NAMES = 200
"""Cameras, or tags, of one filter."""


class Stored(NamedTuple):
    """An image of a gallery.

    id: grows and is never given twice; source: a path or another unique name; time: seconds since
    1970, UTC, None if unknown; added: when it was added, seconds since 1970; pid: its identity,
    known only for images of a labelled data set; group: identities of different groups are
    different people, whatever their numbers.
    """

    id: int
    source: str
    camera: str
    modality: Modality
    time: float | None
    tags: tuple[str, ...]
    added: float
    pid: int | None = None
    group: str = ""


@dataclass(frozen=True)
class Filter:
    """A part of a gallery; the whole gallery if nothing is set.

    cameras: any of these, tags: all of these, `MOST_NAMES` of each at most; since, until: seconds
    since 1970, both included, without images of unknown time; before: older than that, by the
    image's time, or by the time it was added if its own is unknown.

    Raises:
        InputError: too many names, or a time out of range.
    """

    cameras: tuple[str, ...] = ()
    modality: Modality | None = None
    since: float | None = None
    until: float | None = None
    tags: tuple[str, ...] = ()
    before: float | None = None

    def __post_init__(self) -> None:
        for name in ("cameras", "tags"):
            many = len(getattr(self, name))
            if many > MOST_NAMES:
                raise InputError(f"{name}: {many} were given; give {MOST_NAMES} at most")
        for name in ("since", "until", "before"):
            require_time(getattr(self, name), name)


EVERYTHING = Filter()


class ModelId(NamedTuple):
    """The model a gallery's embeddings were made with; those of two models cannot be compared.

    fingerprint: SHA-256 of the weights file; width: numbers in an embedding; size: height and
    width of the network's input, in pixels; flip: mirror images are averaged in.
    """

    fingerprint: str
    method: str
    width: int
    size: tuple[int, int]
    flip: bool


def model_of(embedder: ImageEmbedder) -> ModelId:
    """What tells an embedder's vectors from those of another model."""
    return ModelId(
        embedder.fingerprint, embedder.method, embedder.width, embedder.size, embedder.flip
    )


class Nearest(NamedTuple):
    """The k best of a query, best first, ties by id: (k,) ids and (k,) cosines."""

    ids: IntArray
    scores: FloatArray


NOTHING_NEAR = Nearest(np.empty(0, np.int64), np.empty(0, np.float32))


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


class Store(ABC):
    """Images with their embeddings, to be searched: in SQLite, in PostgreSQL, or a plain folder.

    Attributes:
        name: what messages call it.
        folder: where it lies on this machine; None for a database.
        permanent: ids and thumbnails outlast the image files. A plain folder is not permanent: it
            numbers its images each time it is opened, and makes thumbnails from the files.
    """

    name: str
    folder: Path | None = None
    permanent: ClassVar[bool] = True

    @abstractmethod
    def setting(self, key: str) -> str | None:
        """A setting of the gallery itself; None if it is not set."""

    def model(self) -> ModelId | None:
        """The model its embeddings were made with; None while it is empty and new."""
        text = self.setting("model")
        if text is None:
            return None
        kept = json.loads(text)
        return ModelId(**{**kept, "size": tuple(kept["size"])})

    @abstractmethod
    def add(
        self,
        model: ModelId,
        entries: Sequence[Entry],
        vectors_ND: FloatArray,
        replaced: Sequence[int] = (),
    ) -> list[int | None]:
        """Add images, all or none: their ids, None for a source that is there already.

        Images whose ids are in `replaced` are deleted in the same step, before.

        Raises:
            InputError: it holds another model's embeddings, or the vectors are not unit rows.
        """

    @abstractmethod
    def remove(self, ids: Iterable[int]) -> int:
        """Delete images with their vectors and thumbnails, some thousands a step: how many."""

    @abstractmethod
    def select(self, where: Filter, limit: int | None = None, after: int = 0) -> list[Stored]:
        """Images by rising id, from the first above `after`."""

    @abstractmethod
    def get(self, ids: Sequence[int]) -> dict[int, Stored]:
        """The images of these ids; ids that are not there are left out."""

    @abstractmethod
    def known(self, sources: Sequence[str]) -> dict[str, int]:
        """The ids of the sources that are in the gallery."""

    @abstractmethod
    def below(self, folder: str) -> dict[str, int]:
        """The ids of the sources in a folder, or in a file such as a video, by source."""

    @abstractmethod
    def marks(self, ids: Sequence[int]) -> dict[int, str]:
        """The marks of the images' files; ids without one are left out."""

    @abstractmethod
    def vectors(self, ids: Sequence[int]) -> FloatArray:
        """(len(ids), D) vectors, in the order of ids; zeros for an id that is not there."""

    @abstractmethod
    def thumbnail(self, item: int) -> bytes | None:
        """A small JPEG of an image; None if there is none."""

    @abstractmethod
    def nearest(
        self, query_D: FloatArray, k: int, where: Filter = EVERYTHING, mode: Mode = "auto"
    ) -> Nearest:
        """The k images of a part of the gallery with the highest cosines.

        Args:
            query_D: (D,) query, of length 1 at most.
            k: how many.
            where: the part.
            mode: "exact" compares with every image, "approx" only with likely ones, "auto" decides
                by size.
        """

    @abstractmethod
    def count(self, where: Filter = EVERYTHING) -> int:
        """How many images this part has."""

    def ranges(self) -> dict[str, Span]:
        """Of its cameras with more than 8 bits a pixel, see `visir.data.ranges`."""
        return from_json(json.loads(self.setting("ranges") or "{}"), self.name)

    @abstractmethod
    def keep_ranges(self, ranges: Ranges) -> None:
        """Set the ranges of its cameras."""

    @abstractmethod
    def keep_for(self, days: float | None) -> None:
        """Set the retention period; None keeps images for ever."""

    def retention(self) -> float | None:
        """The retention period in days."""
        days: float | None = json.loads(self.setting("retention") or "null")
        return days

    def expire(self, now: float, sure: bool = False) -> int:
        """Delete what is older than the retention period: how many images.

        The age of an image counts from the time it was taken, or from the time it was added if
        that one makes no sense, see `kept_from`.

        Args:
            now: the time, in seconds since 1970.
            sure: it is known to be right; otherwise a clock that was set far forward would delete
                everything.

        Raises:
            DoubtfulClockError: nothing was deleted, because it would be most of the images.
        """
        days = self.retention()
        if days is None:
            return 0
        end = ago(days, now)
        some = [*self.select(Filter(before=end)), *self._ahead(end)]
        old = [item.id for item in some if kept_from(item) < end]
        images = self.count()
        if not sure and len(old) > max(FEW, MOST_AT_ONCE * images):
            raise DoubtfulClockError(
                f"{self.name}: {len(old):,} of {images:,} images are older than {days:g} days by "
                f"this machine's clock, which shows {_day(now)}, so none was deleted; set the "
                f"clock, or delete them with `visir index remove GALLERY --older-than {days:g}`"
            )
        return self.remove(old) if old else 0

    def _ahead(self, end: float) -> list[Stored]:
        """The images added before a time, by their id, that were taken later by their own time."""
        found, after = list[Stored](), 0
        while some := self.select(Filter(since=end), 1000, after):
            early = [item for item in some if item.added < end]
            if not early:
                break
            found, after = [*found, *early], some[-1].id
        return found

    @abstractmethod
    def settle(self) -> None:
        """Bring search indexes up to date, after many additions."""

    @abstractmethod
    def version(self) -> int:
        """A number that grows with every addition and removal."""

    @abstractmethod
    def stats(self) -> Stats:
        """What it holds."""

    @abstractmethod
    def close(self) -> None:
        """Close files and connections."""


class DoubtfulClockError(InputError):
    """So many images are too old that the clock may be wrong."""


def kept_from(item: Stored) -> float:
    """When the retention period of an image begins, in seconds since 1970.

    That is when it was taken, if the time makes sense: 1990 or later, and no more than a day after
    the image was added. Otherwise it is when it was added.
    """
    if item.time is not None and FIRST_TIME <= item.time <= item.added + DAY:
        return item.time
    return item.added


def _day(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).date().isoformat()
    except (OverflowError, ValueError, OSError):
        return "no date"


def require_look(k: int, mode: str) -> None:
    """Refuse a number of images that cannot be listed, and an unknown mode.

    Raises:
        InputError: which of them.
    """
    if k < 1:
        raise InputError(f"k: {k} images cannot be listed; give 1 or more")
    if mode not in get_args(Mode):
        raise InputError(f"mode {mode!r} is unknown; use {', '.join(get_args(Mode))}")


def require_storable(entries: Sequence[Entry]) -> None:
    """Refuse images that a filter could not find, or whose names are not text.

    Raises:
        InputError: which image, and why.
    """
    for entry in entries:
        require_time(entry.time, f"{entry.source}: time")
        if len(entry.tags) > MOST_NAMES:
            raise InputError(
                f"{entry.source}: tags: {len(entry.tags)} were given; give {MOST_NAMES} at most"
            )
        if not is_utf8("".join((entry.source, entry.camera, *entry.tags))):
            raise InputError(f"{entry.source}: a name is not UTF-8; rename it")


def require_retention(days: float) -> None:
    """Refuse a retention period that would delete every image.

    Raises:
        InputError: the number of days is not above 0.
    """
    if not days > 0:
        raise InputError(f"retention: {days:g} days would delete every image; give more than 0")


def require_format(known: str | None, name: str) -> None:
    """Refuse a gallery written by an incompatible version of visir.

    Raises:
        InputError: which format it has.
    """
    if known != FORMAT:
        raise InputError(
            f"{name}: gallery format {known}, and this version of visir reads format {FORMAT}; use "
            "the version that made the gallery, or make a new gallery"
        )


def require_same_model(kept: ModelId | None, model: ModelId, name: str) -> None:
    """Refuse embeddings of another model than the gallery's.

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
        f"{name}: holds embeddings of another model ({kept.method}, {kept.width} numbers, weights "
        f"{kept.fingerprint[:12]}; this one is {model.method}, {model.width}, "
        f"{model.fingerprint[:12]}); use that model, or make a new gallery with this one"
    )


def require_unit_rows(vectors_ND: FloatArray, count: int, width: int, name: str) -> FloatArray:
    """Refuse what is not `count` rows of length 1.

    Raises:
        InputError: what is wrong.
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
