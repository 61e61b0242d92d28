"""Which values of a camera with more than 8 bits a pixel become black and white.

A range belongs to a camera, so that the same temperature has the same brightness in all its images.
It is (the first that applies)

1. what `ranges.json` in the data set's folder says;
2. what the gallery that is filled holds for this camera;
3. what the network was trained with, if at least half of the camera's values lie in it (a camera of
   the same name may be another one);
4. measured over a sample of the camera's images.

`ranges.json` and all places that store ranges have one form: `{"infrared/door": [7000, 9000]}`. The
name is the modality and the camera; `infrared` alone means all infrared cameras.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from visir.core.names import shown
from visir.core.types import Benchmark, InputError, Modality, Record, Span
from visir.core.untrusted import parse_json
from visir.data.images import DEEP_SUFFIXES, JPEG_SUFFIXES, read_values
from visir.data.pixels import can_read_radiometric, span_of

RANGES = "ranges.json"
"""The file beside a data set that says its cameras' ranges."""
SAMPLE = 64
"""Images of a camera that are measured; ours."""
ROOM = 0.1
"""Share of a measured range that is added on both sides, for values that the sample does not hold;
ours. Without it near-infrared images have more contrast than a camera of 8 bits gives them, and the
ready model finds fewer people in them."""
_VALUES = 4096  # of an image, spread evenly, so that large images weigh no more than small ones

Ranges = Mapping[str, Span]
NONE: Ranges = {}
T = TypeVar("T")


def name_of(modality: Modality, camera: str) -> str:
    """What a camera is called in the stored form."""
    return modality.value if camera == modality.value else f"{modality.value}/{camera}"


def find(ranges: Ranges, name: str) -> Span | None:
    """The range of a camera, or of all cameras of its modality; None if neither is there."""
    return ranges.get(name, ranges.get(name.partition("/")[0]))


def likely(ranges: Ranges, modality: Modality, camera: str | None) -> Span | None:
    """The range of an image whose camera may not be known.

    It is that of its camera, otherwise that of the only camera of its modality; None if there are
    several or none.
    """
    found = find(ranges, name_of(modality, camera or modality.value))
    spans = {span for name, span in ranges.items() if name.partition("/")[0] == modality.value}
    return spans.pop() if found is None and len(spans) == 1 else found


def as_json(ranges: Ranges) -> dict[str, list[float]]:
    """Ranges as JSON values."""
    return {name: [*span] for name, span in sorted(ranges.items())}


def from_json(value: object, where: object) -> dict[str, Span]:
    """Ranges from JSON values; `where` is what messages call their source.

    Raises:
        InputError: they have another form.
    """
    form = 'write {"infrared/CAMERA": [low, high]}'
    if not isinstance(value, Mapping):
        raise InputError(f"{where}: holds no ranges of cameras; {form}")
    ranges = {}
    for name, pair in value.items():
        kind = str(name).partition("/")[0]
        if kind not in [modality.value for modality in Modality]:
            raise InputError(f"{where}: {name!r} begins with no modality; {form}")
        if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_number, pair))):
            raise InputError(f"{where}: {name!r} is {shown(pair)}, not two numbers; {form}")
        if not pair[0] < pair[1]:
            raise InputError(f"{where}: {name!r} has low {pair[0]} and high {pair[1]}; {form}")
        ranges[str(name)] = Span(float(pair[0]), float(pair[1]))
    return ranges


def read_ranges(root: Path) -> dict[str, Span]:
    """The ranges that `ranges.json` in a folder says; empty if there is no such file.

    Raises:
        InputError: it cannot be read.
    """
    path = root / RANGES
    try:
        return from_json(parse_json(path.read_text(encoding="utf-8-sig")), path)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); correct it") from error


def sampled(images: Sequence[T]) -> list[T]:
    """Some images of a camera, evenly spread over them."""
    rows = np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int)
    return [images[row] for row in rows]


def spread(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Some values of an image, evenly spread over it."""
    flat = values.ravel()
    return flat[:: max(1, len(flat) // _VALUES)].astype(np.float64)


class RangeBook:
    """The ranges of the cameras of one input, found when a camera is first met.

    Args:
        said: what the user says, as of `read_ranges`.
        kept: what a gallery or an output folder holds already; binding.
        known: those of the network, used where they fit.
        source: what messages call the source of `said`.

    Attributes:
        used: the ranges that were used, by camera; contains `kept`.
    """

    def __init__(
        self,
        said: Ranges = NONE,
        kept: Ranges = NONE,
        known: Ranges = NONE,
        source: object = RANGES,
    ) -> None:
        self.said, self.known, self.source = said, known, source
        self.used = dict(kept)

    def says(self, root: Path) -> None:
        """Take what `ranges.json` in a folder says; the file of another folder is forgotten."""
        self.said, self.source = read_ranges(root), root / RANGES

    def settle(self, name: str, values: Iterable[npt.NDArray[Any] | None]) -> None:
        """Fix the range of a camera.

        Args:
            name: of the camera, as of `name_of`.
            values: of a sample of its images, read only if needed; None for one of 8 bits.

        Raises:
            InputError: the user says another range than a gallery was made with.
        """
        said, kept = find(self.said, name), self.used.get(name)
        if said is not None and kept not in (None, said):
            assert kept is not None
            raise InputError(
                f"{self.source}: {name} has the range {[*said]}, but what is there already was "
                f"made with {[*kept]}; write that range, or start anew"
            )
        if kept is not None:
            return
        if said is not None:
            self.used[name] = said
            return
        pooled = [spread(each) for each in values if each is not None]
        if pooled:
            self.used[name] = self._measured(name, np.concatenate(pooled))

    def _measured(self, name: str, values: npt.NDArray[np.float64]) -> Span:
        known = self.known.get(name)
        if known is not None:
            inside = (values >= known.low) & (values <= known.high)
            if inside.mean() >= 0.5:
                return known
        span = span_of(values)
        room = ROOM * (span.high - span.low)
        return Span(span.low - room, span.high + room)


def settle_files(book: RangeBook, cameras: Mapping[str, tuple[Modality, Sequence[Path]]]) -> None:
    """Fix the ranges of cameras whose images are files.

    Args:
        book: takes the ranges.
        cameras: modality and images by name, as of `name_of`.
    """
    radiometric = can_read_radiometric()
    for name, (modality, paths) in sorted(cameras.items()):
        suffixes = DEEP_SUFFIXES
        if radiometric and modality is Modality.INFRARED:
            suffixes = DEEP_SUFFIXES | JPEG_SUFFIXES
        deep = [path for path in paths if path.suffix.lower() in suffixes]
        if deep:
            book.settle(name, (_values(path, modality) for path in sampled(deep)))


def with_spans(
    records: Sequence[Record], cameras: Mapping[int, str], book: RangeBook
) -> tuple[Record, ...]:
    """Records with the ranges of their cameras.

    Args:
        records: images of all cameras, in an order that does not change.
        cameras: their names by number.
        book: takes the ranges.
    """
    names = {
        (record.cam, record.modality): name_of(
            record.modality, cameras.get(record.cam, f"camera {record.cam}")
        )
        for record in records
    }
    groups: dict[str, tuple[Modality, list[Path]]] = {}
    for record in records:
        name = names[record.cam, record.modality]
        groups.setdefault(name, (record.modality, []))[1].append(record.path)
    settle_files(book, groups)
    if not book.used:
        return tuple(records)
    return tuple(
        record._replace(span=book.used.get(names[record.cam, record.modality]))
        for record in records
    )


def benchmark_with_spans(benchmark: Benchmark, known: Ranges = NONE) -> Benchmark:
    """A data set whose records have the ranges of their cameras.

    Args:
        benchmark: as its layout is read.
        known: ranges of a network, used where they fit.
    """
    book = RangeBook(read_ranges(benchmark.root), known=known, source=benchmark.root / RANGES)
    parts = (benchmark.train, benchmark.test, benchmark.validation)
    distinct = list({record.path: record for part in parts for record in part}.values())
    of = {each.path: each.span for each in with_spans(distinct, benchmark.cameras, book)}
    train, test, validation = (
        tuple(record._replace(span=of[record.path]) for record in part) for part in parts
    )
    return replace(benchmark, train=train, test=test, validation=validation, ranges=dict(book.used))


def _values(path: Path, modality: Modality) -> npt.NDArray[Any] | None:
    try:
        return read_values(path, modality)
    except InputError:  # whoever needs the image is told what is wrong with it
        return None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer of hundreds of digits
        return False
