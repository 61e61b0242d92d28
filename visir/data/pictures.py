"""What a picture looks like: whether it can be of use as a crop of one person.

Thresholds are ours unless a source is named; they are wide, so that what they mark is worth a look.
"""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from visir.core.progress import bar
from visir.core.types import ByteArray, FloatArray, InputError, Modality, Span
from visir.data.images import content, decode
from visir.data.locate import modality_by_colour
from visir.data.pixels import FLIR, can_read_radiometric

DARK = 32  # 99 % of the pixels have at most this level
FLAT = 24  # levels between 1 % and 99 % of the pixels
LEVELS = 16  # distinct levels; a range of 16-bit values that was divided by 257 leaves 6 to 15
# Variance of the Laplacian (Pech-Pacheco et al., ICPR 2000), here over the variance of the picture
# at 128 x 64 pixels at most, so that contrast has no part in it. The threshold is ours: of 38
# synthetic crops the lowest is .34, blurred by a Gaussian of 1 pixel .028; the median of 2 pixels
# is .011, that of 3 pixels .006.
BLUR = 0.01
WIDEST, NARROWEST = 1.0, 0.2  # width / height of one person
TINY = 16
"""A side shorter than this many pixels is reported."""
NEAR = 7  # differing bits of 128 between two pictures that are called the same
_HEAD = 2**17  # bytes in which a camera's own segments of a JPEG begin
_SIZE = (64, 128)  # at most, of what is looked at
_PLACES = np.array([9 * row + column for row in range(8) for column in range(8)])
_HERE, _NEXT = np.tile(_PLACES, 2), np.concatenate([_PLACES + 1, _PLACES + 9])  # of 9 x 9 pixels
_BANDS, _BITS = 8, 16
_CROWDED = 300  # pictures in one band that are compared pair by pair


class Look(NamedTuple):
    """A decoded image: its sides in pixels, the hash of its bytes, what stands out, its print.

    kinds: keys of `visir.data.remarks.KINDS`; print: 128 bits, None for one with little contrast;
    problem: why it cannot be decoded, otherwise empty.
    """

    width: int = 0
    height: int = 0
    digest: str = ""
    kinds: tuple[str, ...] = ()
    print: int | None = None
    problem: str = ""


def look(
    path: Path,
    modality: Modality | None,
    span: Span | None,
    person: Callable[[ByteArray], bool] | None = None,
) -> Look:
    """Decode an image and look at it; `person` says of its pixels whether they show one."""
    try:
        data = content(path)
    except InputError as error:
        return Look(problem=str(error))
    return look_at(data, path, modality, span, person)


def look_at(
    data: bytes,
    name: Path | str,
    modality: Modality | None,
    span: Span | None,
    person: Callable[[ByteArray], bool] | None = None,
) -> Look:
    """As `look`, at the bytes of a file; `name` is what messages call it."""
    try:
        image = decode(io.BytesIO(data), name, modality, span)
    except InputError as error:
        return Look(problem=str(error))
    grey = image.convert("L")
    kinds, dull = _light(grey)
    if not WIDEST >= image.width / image.height >= NARROWEST:
        kinds.append("shape")
    if modality is Modality.INFRARED and _coloured(image):
        kinds.append("coloured")
    if modality is Modality.INFRARED and FLIR in data[:_HEAD] and not can_read_radiometric():
        kinds.append("radiometric")
    if person is not None and not person(np.asarray(image)):
        kinds.append("nobody")
    digest = hashlib.sha256(data).hexdigest()
    if dull:
        return Look(*image.size, digest, tuple(kinds))
    # Not larger than it is, as that adds nothing; the Laplacian needs three pixels.
    size = min(max(image.width, 3), _SIZE[0]), min(max(image.height, 3), _SIZE[1])
    small = grey.resize(size, Image.Resampling.BILINEAR, reducing_gap=1)
    if _sharpness(small) < BLUR:
        kinds.append("blurred")
    return Look(*image.size, digest, tuple(kinds), _print(small))


def look_at_all(
    images: Sequence[tuple[Path, Modality | None, Span | None]],
    progress: bool = False,
    person: Callable[[ByteArray], bool] | None = None,
) -> list[Look]:
    """`look` at many images, each a path with modality and range, in threads."""

    def one(image: tuple[Path, Modality | None, Span | None]) -> Look:
        return look(*image, person)

    with ThreadPoolExecutor() as pool:
        work = pool.map(one, images)
        return list(bar(work, "reading", len(images), unit="images", show=progress))


def near_copies(prints: Sequence[int | None]) -> list[list[int]]:
    """Groups of pictures that look nearly the same: their positions, each group of two or more.

    Two prints that differ in at most `NEAR` = 7 bits agree in at least one of eight bands.
    """
    group = list(range(len(prints)))

    def first(place: int) -> int:
        while group[place] != place:
            group[place] = place = group[group[place]]
        return place

    for one, other in _near_pairs(prints):
        group[first(one)] = first(other)
    found: dict[int, list[int]] = {}
    for place in range(len(prints)):
        found.setdefault(first(place), []).append(place)
    return [places for places in found.values() if len(places) > 1]


def _near_pairs(prints: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """Positions of prints that differ in at most `NEAR` bits; of equal ones with the first."""
    distinct: dict[int, int] = {}
    for place, bits in enumerate(prints):
        if bits is not None and distinct.setdefault(bits, place) != place:
            yield place, distinct[bits]
    for bucket in _buckets(distinct):
        for one, other in combinations(bucket[:_CROWDED], 2):
            if (one ^ other).bit_count() <= NEAR:
                yield distinct[one], distinct[other]


def _buckets(prints: Iterable[int]) -> Iterator[list[int]]:
    """Prints that agree in a band, for every band."""
    for band in range(_BANDS):
        buckets: dict[int, list[int]] = {}
        for bits in prints:
            buckets.setdefault(bits >> (_BITS * band) & (2**_BITS - 1), []).append(bits)
        yield from buckets.values()


def _light(grey: Image.Image) -> tuple[list[str], bool]:
    """What stands out in the levels, and whether there is too little to judge more."""
    counts = grey.histogram()
    reached = list(accumulate(counts))
    low, high = (bisect_left(reached, part * reached[-1]) for part in (0.01, 0.99))
    kinds = []
    if high <= DARK:
        kinds.append("dark")
    if high - low < FLAT:
        kinds.append("flat")
    if len(counts) - counts.count(0) < LEVELS:
        kinds.append("levels")
    return kinds, high - low < FLAT


def _coloured(image: Image.Image) -> bool:
    small = image.resize((32, 64), Image.Resampling.NEAREST)
    levels = small.tobytes()
    if levels[::3] == levels[1::3] == levels[2::3]:  # grey in three channels, as nearly always
        return False
    return modality_by_colour(small) is Modality.VISIBLE


def _sharpness(small: Image.Image) -> float:
    """Variance of the Laplacian over the variance of the levels."""
    grey = np.asarray(small, np.float32)
    middle = grey[1:-1, 1:-1]
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1]
    edges += grey[1:-1, :-2]
    edges += grey[1:-1, 2:]
    edges -= 4 * middle
    return _variance(edges) / max(_variance(middle), 1e-6)


def _variance(values: FloatArray) -> float:
    flat = values.ravel()
    mean = float(flat.sum()) / len(flat)
    return float(flat @ flat) / len(flat) - mean**2


def _print(small: Image.Image) -> int:
    """128 bits: whether each of 8 x 8 places is darker than the next, across and down."""
    level = np.frombuffer(small.resize((9, 9), Image.Resampling.BOX).tobytes(), np.uint8)
    return int.from_bytes(np.packbits(level[_NEXT] > level[_HERE]).tobytes(), "big")
