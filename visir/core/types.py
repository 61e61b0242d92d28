"""The types used everywhere: modalities, records, trials, protocols, benchmarks, batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from visir.core.names import printable

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


_LONGEST = 2000  # characters of a message


class InputError(Exception):
    """The user's input cannot be used; the message names the file, the field and the fix.

    Its text is one line whatever is in the names it quotes.
    """

    def __str__(self) -> str:
        """The message, with control characters written out; of a very long one the ends."""
        text = super().__str__()
        if len(text) > _LONGEST:  # it quotes a name or a value without end
            text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
        return printable(text)


class UnavailableError(InputError):
    """A database does not answer now; what was asked for may work later, unchanged."""


class Modality(Enum):
    """The type of camera: colour (visible), or infrared (near infrared or thermal)."""

    VISIBLE = "visible"
    INFRARED = "infrared"

    @property
    def other(self) -> Modality:
        """The other modality."""
        return Modality.INFRARED if self is Modality.VISIBLE else Modality.VISIBLE


class Span(NamedTuple):
    """The values of an image of more than 8 bits that become black and white."""

    low: float
    high: float


class Record(NamedTuple):
    """One image: its file, its identity (None if unlabelled), its camera and modality.

    span: of its camera, if that writes more than 8 bits a pixel; track: the same for images of one
    person in one camera that a tracker followed, None if unknown; frame: what it was cut out of,
    the same for all people seen there at one moment, None if unknown.
    """

    path: Path
    pid: int | None
    cam: int
    modality: Modality
    span: Span | None = None
    track: str | None = None
    frame: str | None = None


class Trial(NamedTuple):
    """One trial of a protocol: row numbers into ``Benchmark.test``."""

    query: IntArray
    gallery: IntArray


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Which gallery images a query is not compared with.

    A gallery image is skipped if (query camera, gallery camera) is one of ``cam_pairs``; with
    ``same_identity_only`` only if it also shows the query's identity.
    """

    cam_pairs: frozenset[tuple[int, int]] = frozenset()
    same_identity_only: bool = False


@dataclass(frozen=True, slots=True)
class Protocol:
    """An evaluation protocol: its trials, its exclusions, and how its CMC counts ranks.

    ``unique_identities``: a rank of the CMC is an identity (its best image), not an image.
    """

    name: str
    trials: tuple[Trial, ...]
    exclusion: Exclusion = Exclusion()
    unique_identities: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A loaded data set, in the same form for every layout.

    ``split`` names its fixed split (RegDB's trial); None if there is only one. ``validation`` holds
    labelled images for choosing a model (SYSU-MM01's official 99 identities, which are also in
    ``train``); empty for other data sets. ``ranges``: of the cameras with more than 8 bits a pixel,
    named as in `visir.data.ranges`.
    """

    name: str
    root: Path
    train: tuple[Record, ...]
    test: tuple[Record, ...]
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)
    split: str | None = None
    validation: tuple[Record, ...] = ()
    ranges: Mapping[str, Span] = field(default_factory=dict)


class Facts(NamedTuple):
    """What is known of B views without their images.

    infrared: (B,) bool, True for infrared images; labels: (B,) int64, the labels the method trains
    on: pseudo-labels, numbered per modality, or identities, with the same numbers in both
    modalities; cams: (B,) int64; rows: (B,) int64 row numbers into the training records.
    """

    infrared: Tensor
    labels: Tensor
    cams: Tensor
    rows: Tensor

    def of(self, modality: Modality) -> Tensor:
        """(n,) int64, the positions of the views of this modality, in ascending order."""
        chosen = self.infrared if modality is Modality.INFRARED else ~self.infrared
        return chosen.nonzero()[:, 0]

    def labels_of(self, modality: Modality) -> Tensor:
        """(n,) int64, the labels of the views of this modality."""
        return self.labels[self.of(modality)]


class Batch(NamedTuple):
    """One mixed batch of B views, made by `visir.data.dataset.joined`.

    images: (B, 3, H, W) normalised; infrared, labels, cams, rows: as in `Facts`, on the device of
    the images; places: see `of`; host: the same facts in the memory of the CPU. What decides sizes
    or branches is read from `host`: to read it from a GPU, the program would have to wait until
    the GPU has computed everything that was asked of it before.
    """

    images: Tensor
    infrared: Tensor
    labels: Tensor
    cams: Tensor
    rows: Tensor
    places: Mapping[Modality, Tensor]
    host: Facts

    def of(self, modality: Modality) -> Tensor:
        """(n,) int64, the positions of the views of this modality, on the device of the images."""
        return self.places[modality]
