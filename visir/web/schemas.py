"""Requests and responses of the HTTP API: plain dataclasses, which pydantic checks.

Responses are views of the classes of `visir.gallery`; nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, StringConstraints

from visir.gallery.ordering import Ordering
from visir.gallery.query import RERANK_NAMES

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Line = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Name = Annotated[Line, StringConstraints(strip_whitespace=True, min_length=1, max_length=120)]
Text = Annotated[str, StringConstraints(max_length=4000, pattern=r"^[^\x00]*$")]
Side = Literal["visible", "infrared"]
Judged = Literal["auto", "visible", "infrared"]
Mark = Literal["hit", "miss"]
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class SearchRequest:
    """What to search for, and in which part of the gallery.

    modality: of the query images, "auto" judges each by its colours; within: which gallery images,
    "other" those of the modality the queries are not of; since, until: times without a zone are
    the server's; tags: all of these; min_score: the minimum of the scores displayed; rerank: how
    the best hits are re-ordered by their neighbours.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    modality: Judged = "auto"
    within: Literal["other", "any", "visible", "infrared"] = "other"
    cameras: Annotated[tuple[Line, ...], Field(max_length=200)] = ()
    since: datetime | None = None
    until: datetime | None = None
    tags: Annotated[tuple[Line, ...], Field(max_length=20)] = ()
    k: Annotated[int, Field(ge=1, le=200)] = 24
    min_score: Annotated[float, Field(ge=-1, le=1, allow_inf_nan=False)] | None = None
    rerank: Annotated[str, Field(json_schema_extra={"enum": list(RERANK_NAMES)})] = "none"


@dataclass(frozen=True)
class ItemsRequest:
    """A search for the person on images of the gallery."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    items: Annotated[tuple[Id, ...], Field(min_length=1, max_length=8)]
    asked: SearchRequest = SearchRequest()


@dataclass(frozen=True)
class RefineRequest:
    """A refined search, with marked hits and misses; asked: as the first time if omitted."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    search: Line
    hits: Annotated[tuple[Id, ...], Field(max_length=200)] = ()
    misses: Annotated[tuple[Id, ...], Field(max_length=200)] = ()
    asked: SearchRequest | None = None


@dataclass(frozen=True)
class CompareRequest:
    """Two images to compare: those sent along first, then these of the gallery.

    searched: how many images one of them was found among; maps: which parts make them similar.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    items: Annotated[tuple[Id, ...], Field(max_length=2)] = ()
    modality: Judged = "auto"
    searched: Annotated[int, Field(ge=1, le=10**12)] = 1
    maps: bool = True


@dataclass(frozen=True)
class NewCase:
    """A case to open."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    name: Name


@dataclass(frozen=True)
class KeepRequest:
    """Hits of a search to keep in a case, with one note for all."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    search: Line
    items: Annotated[tuple[Id, ...], Field(min_length=1, max_length=200)]
    note: Text = ""


@dataclass(frozen=True)
class Note:
    """The note of a kept hit."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    note: Text


@dataclass(frozen=True)
class Login:
    """The token, to be exchanged for a cookie."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    token: Annotated[str, StringConstraints(max_length=1000)]


@dataclass(frozen=True)
class Problem:
    """Why there is no answer: one sentence."""

    error: str


@dataclass(frozen=True)
class Item:
    """An image of the gallery; time: when it was taken; added: when it was added to the gallery."""

    id: int
    source: str
    camera: str
    modality: Side
    time: datetime | None
    tags: tuple[str, ...]
    added: datetime | None


@dataclass(frozen=True)
class Remark:
    """A poor crop; poor: why it is one, in words."""

    item: int
    poor: str


@dataclass(frozen=True)
class QueryView:
    """A query image; sha256: of the file sent, or item: its id in the gallery.

    inferred: its modality was judged by its colours; picture: a small JPEG in base64, only if it
    was kept in a case.
    """

    modality: Side
    inferred: bool
    sha256: str | None = None
    item: int | None = None
    picture: str | None = None


@dataclass(frozen=True)
class SearchRecord:
    """Where a ranked list came from.

    hits, misses: images marked as right and as wrong; searched: how many images were searched;
    version: of the gallery, it grows with every change; fingerprint: SHA-256 of the model's
    weights; threshold: the score below which there is probably no match, None if the run is not
    calibrated and scores are plain cosines; camera_means: whether the re-ranking subtracted the
    means of the gallery's cameras, None if it knows no such means or that is not known.
    """

    id: str
    time: datetime
    by: str
    asked: SearchRequest
    queries: tuple[QueryView, ...]
    hits: tuple[int, ...]
    misses: tuple[int, ...]
    searched: int
    gallery: str
    version: int
    method: str
    fingerprint: str
    threshold: float | None
    visir: str
    camera_means: bool | None = None

    @property
    def calibrated(self) -> bool:
        """Whether scores are probabilities."""
        return self.threshold is not None

    @property
    def order(self) -> str:
        """What the order of the hits is, one sentence; empty if it is that of the scores."""
        marked = len(self.hits), len(self.misses)
        return Ordering(self.asked.rerank, self.camera_means, *marked).sentence


@dataclass(frozen=True)
class HitView:
    """A gallery image found.

    cosine: the mean over the query images; score: the confidence if the run is calibrated,
    otherwise the cosine; mark: "hit" if it was marked as right; group: the rank of the best hit
    that probably shows the same person under the same camera within a minute, or its own rank;
    hub: the image is near to far too many images of the other modality, whoever they show.
    """

    rank: int
    item: Item
    score: float
    cosine: float
    mark: Mark | None = None
    group: int = 0
    hub: bool = False


@dataclass(frozen=True)
class Scale:
    """What scores are drawn between.

    low, high: of calibrated scores 0 and 1; of cosines that of a typical stranger and the best one
    of the images searched; typical: whether low is that of a typical stranger, which in a small
    gallery is not known; mark: the score below which there is probably no match, None if it is not
    known or out of this range.
    """

    low: float
    high: float
    typical: bool
    mark: float | None


@dataclass(frozen=True)
class SearchResponse:
    """A ranked list; no_match: the best score is below the threshold of the calibration.

    nobody: the former name of no_match; it is removed in 1.0; scale: of the scores, None without a
    hit; best_score: the highest of the images searched, which need not be among the hits if they
    were re-ranked or refined, None without an image.
    """

    search: SearchRecord
    hits: tuple[HitView, ...]
    no_match: bool
    nobody: bool
    seconds: float
    scale: Scale | None = None
    best_score: float | None = None


@dataclass(frozen=True)
class SideView:
    """One of two images.

    map: rows of how much the cosine drops if that part of the image is covered; None if it was not
    asked for, or the gallery has no picture of the image.
    """

    modality: Side
    item: Item | None
    sha256: str | None
    map: tuple[tuple[float, ...], ...] | None


@dataclass(frozen=True)
class ComparisonView:
    """Two images side by side; score, cosine: as of a hit."""

    sides: tuple[SideView, SideView]
    score: float
    cosine: float
    threshold: float | None


@dataclass(frozen=True)
class KeptHit:
    """A hit kept in a case; picture: a small JPEG in base64; search: the id of its search."""

    number: int
    item: Item
    rank: int
    score: float
    cosine: float
    note: str
    by: str
    time: datetime
    search: str
    picture: str | None


@dataclass(frozen=True)
class Case:
    """Hits that are kept together, and the searches they came from."""

    id: int
    name: str
    by: str
    created: datetime
    kept: tuple[KeptHit, ...] = ()
    searches: tuple[SearchRecord, ...] = ()


@dataclass(frozen=True)
class CaseSummary:
    """A case in a list of cases.

    file: its name in the folder of cases; problem: what is wrong with a file that is damaged or no
    case, one sentence; id: 0 of a file that is no case.
    """

    id: int
    name: str
    by: str
    created: datetime
    kept: int
    file: str = ""
    problem: str | None = None


@dataclass(frozen=True)
class GalleryFacts:
    """What a gallery holds, and the model that searches it.

    retention: days; doubt: why images that seem older than that are still there.
    """

    name: str
    images: int
    by_camera: dict[str, int]
    by_modality: dict[str, int]
    earliest: datetime | None
    latest: datetime | None
    bytes_on_disk: int
    version: int
    retention: float | None
    engine: str
    method: str
    fingerprint: str
    calibrated: bool
    visir: str
    doubt: str | None = None


@dataclass(frozen=True)
class AuditEntry:
    """A line of the audit log; before: SHA-256 of the line before it; time: empty if damaged."""

    n: int
    time: str
    action: str
    by: str
    remote: str
    what: dict[str, object]
    before: str


@dataclass(frozen=True)
class AuditPage:
    """Part of the audit log.

    lines: the number of the last line; head: SHA-256 of it; broken: the first line that does not
    follow from the one before; first: the first line that is still there; earlier: the number
    before which there are more lines than these.
    """

    entries: tuple[AuditEntry, ...]
    lines: int
    head: str
    broken: int | None
    first: int = 1
    earlier: int | None = None
