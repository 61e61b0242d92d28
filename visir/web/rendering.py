"""What a page shows: templates, numbers in words, bar charts, pictures as they leave the server.

Pictures are always encoded again, and pixelated at the top if the server is told to.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from visir import __version__
from visir.core.names import printable
from visir.core.types import FloatArray, InputError
from visir.gallery.store import Filter, Stats, Store
from visir.web.schemas import HitView, Scale

FOLDER = Path(__file__).parent
MAX_SIDE = 256  # pixels of the longer side
QUALITY = 88  # JPEG
# Upright crops of people have the head in their upper third.
HEADS, BLOCKS = 0.3, 5
LAYER = (192, 96)  # height, width in pixels
BINS = 48


# ---- templates


def render(name: str, **values: object) -> str:
    """A template with values put in; text is escaped."""
    return _environment().get_template(name).render(**values)


def moment(value: datetime | float | str | None) -> str:
    """A time as this machine's clock showed it."""
    if value is None:
        return "time unknown"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, UTC)
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def score(value: float, calibrated: bool) -> str:
    """A score as text: in percent if it is a probability, which is never certain."""
    if not calibrated:
        return f"{value:.3f}"
    percent = round(100 * value)
    if percent > 99:
        return "> 99 %"
    return "< 1 %" if percent < 1 else f"{percent} %"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def many(count: int, what: str) -> str:
    """A number of things: 1 image, 1,200 images."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def share(value: float, scale: Scale) -> float:
    """How far a score is along a scale, in percent of it."""
    length = scale.high - scale.low
    return round(100 * min(max((value - scale.low) / length, 0), 1), 1) if length > 0 else 0.0


def grouped(hits: Sequence[HitView]) -> list[list[HitView]]:
    """Hits of one group together, groups and hits in them best first."""
    found: dict[int, list[HitView]] = {}
    for hit in hits:
        found.setdefault(hit.group, []).append(hit)
    return list(found.values())


def file_name(source: str) -> str:
    """The name of an image's file without its folders, and its place in a file of several."""
    file, inside, rest = source.partition("::")
    return printable(file.rpartition("/")[2] + inside + rest)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "score": score, "size": size, "many": many}
    environment.filters |= {"file_name": file_name, "share": share, "grouped": grouped}
    environment.globals["visir_version"] = __version__
    return environment


# ---- bar charts


class Bar(NamedTuple):
    """A bar: what it counts, how many there are, its length in percent of the longest."""

    name: str
    images: int
    share: float


def bars(counts: Mapping[str, int]) -> list[Bar]:
    """A bar for each name, in their order."""
    return _scaled(list(counts.items()))


def over_time(store: Store, stats: Stats) -> list[Bar]:
    """How many images were taken in each of equal parts of the time the gallery spans."""
    if stats.earliest is None or stats.latest is None or stats.latest <= stats.earliest:
        return []
    step = (stats.latest - stats.earliest) / BINS
    starts = [stats.earliest + step * place for place in range(BINS)]
    ends = [math.nextafter(start, -math.inf) for start in starts[1:]]
    counts = [
        store.count(Filter(since=start, until=end))
        for start, end in zip(starts, [*ends, stats.latest], strict=True)
    ]
    return _scaled(
        [(_period(start, step), count) for start, count in zip(starts, counts, strict=True)]
    )


def _scaled(counts: Sequence[tuple[str, int]]) -> list[Bar]:
    longest = max([count for _, count in counts] + [1])
    return [Bar(name, count, round(100 * count / longest, 2)) for name, count in counts]


def _period(start: float, step: float) -> str:
    try:
        ends = (datetime.fromtimestamp(at) for at in (start, start + step))
        return " to ".join(end.strftime("%Y-%m-%d %H:%M") for end in ends)
    except (OverflowError, ValueError, OSError):
        return "out of range"


# ---- pictures


def shrunk(picture: Image.Image) -> Image.Image:
    """A picture that is shown small, at no more than its size."""
    small = picture.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return small


def opened(jpeg: bytes, name: str) -> Image.Image:
    """A picture of a gallery or a case as RGB; name: what messages call its image.

    Raises:
        InputError: it is damaged.
    """
    try:
        with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise InputError(
            f"{name}: its stored picture is damaged; remove the image and add it again"
        ) from None


@lru_cache(maxsize=4096)
def leaving(jpeg: bytes, name: str, blur: bool) -> bytes:
    """A gallery's thumbnail as it leaves the server; raises as `opened`.

    The latest are remembered by their content, so one that is deleted or replaced is not shown.
    """
    return encoded(opened(jpeg, name), blur)


def encoded(picture: Image.Image, blur: bool = False, quality: int = QUALITY) -> bytes:
    """A JPEG with nothing but the pixels; blur: heads are pixelated first."""
    buffer = io.BytesIO()
    bare = Image.fromarray(np.asarray(pixelated(picture) if blur else picture))
    bare.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def pixelated(picture: Image.Image) -> Image.Image:
    """A picture whose upper 30 % are blocks, five across, so that no face can be recognised."""
    top = (0, 0, picture.width, max(1, round(HEADS * picture.height)))
    block = max(1, math.ceil(picture.width / BLOCKS))
    coarse = (math.ceil(top[2] / block), math.ceil(top[3] / block))
    head = picture.crop(top).resize(coarse, Image.Resampling.BOX)
    covered = picture.copy()
    covered.paste(head.resize(top[2:], Image.Resampling.NEAREST), top)
    return covered


def layer(drops: FloatArray) -> bytes:
    """A PNG of `visir.embedding.explain.overlay`, twice as high as wide."""
    from visir.embedding.explain import overlay

    buffer = io.BytesIO()
    overlay(drops, LAYER).save(buffer, "PNG")
    return buffer.getvalue()


def as_text(picture: bytes) -> str:
    """Base64."""
    return base64.b64encode(picture).decode()


def as_uri(picture: bytes) -> str:
    """A data URI of a JPEG or PNG."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{as_text(picture)}"
