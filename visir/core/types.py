"""The vocabulary every room shares: modalities, records, trials, protocols, benchmarks, batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
BoolArray = npt.NDArray[np.bool_]


class InputError(Exception):
    """What the user gave cannot be used; the message names the file, the field and the mend."""


class Modality(Enum):
    """The kind of camera: colour (visible) or infrared, near or thermal alike."""

    VISIBLE = "visible"
    INFRARED = "infrared"

    @property
    def other(self) -> Modality:
        """The other modality."""
        return Modality.INFRARED if self is Modality.VISIBLE else Modality.VISIBLE


class Record(NamedTuple):
    """One image: where it lies, who is on it (None where nobody said), which camera took it."""

    path: Path
    pid: int | None
    cam: int
    modality: Modality


class Trial(NamedTuple):
    """One draw of an evaluation: row numbers into ``Benchmark.test``."""

    query: IntArray
    gallery: IntArray


@dataclass(frozen=True, slots=True)
class Exclusion:
    """Which gallery images a query is not compared with.

    A gallery image is passed over where (query camera, gallery camera) is one of ``cam_pairs``;
    with ``same_identity_only`` only where it also shows the query's own identity.
    """

    cam_pairs: frozenset[tuple[int, int]] = frozenset()
    same_identity_only: bool = False


@dataclass(frozen=True, slots=True)
class Protocol:
    """A named way to score: its trials, its exclusions, and how its CMC counts.

    ``unique_identities``: a rank of the CMC is an identity (its best image), not an image.
    """

    name: str
    trials: tuple[Trial, ...]
    exclusion: Exclusion = Exclusion()
    unique_identities: bool = False


@dataclass(frozen=True)
class Benchmark:
    """A data set after loading; nothing later knows which one it came from.

    ``split`` names the fixed split this is (RegDB's trial), None where there is only one.
    ``validation`` holds labelled images kept for choosing a model (SYSU-MM01's official 99
    identities, which are part of ``train`` too), empty elsewhere.
    """

    name: str
    root: Path
    train: tuple[Record, ...]
    test: tuple[Record, ...]
    protocols: Mapping[str, Protocol] = field(default_factory=dict)
    cameras: Mapping[int, str] = field(default_factory=dict)
    split: str | None = None
    validation: tuple[Record, ...] = ()


class Batch(NamedTuple):
    """One mixed batch of B views.

    images: (B, 3, H, W) normalised; infrared: (B,) bool, True where the infrared camera saw it;
    labels: (B,) int64, the label the method trains on: pseudo-labels, numbered per modality, or
    identities, numbered alike in both;
    cams: (B,) int64; rows: (B,) int64 row numbers into the training records.
    """

    images: Tensor
    infrared: Tensor
    labels: Tensor
    cams: Tensor
    rows: Tensor

    def of(self, modality: Modality) -> Tensor:
        """(B,) bool, which views are of this modality."""
        return self.infrared if modality is Modality.INFRARED else ~self.infrared
