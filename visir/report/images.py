"""Small pictures inside a page; each is stored once, however often it is shown."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from visir.core.types import Record
from visir.data.images import read_resized

HEIGHT = 112  # pixels
QUALITY = 80  # JPEG
MOST = 450  # pictures of a page, of some 3 KB each


class Mark(NamedTuple):
    """What is said in the corner of a picture: a letter, and the same in words."""

    letter: str
    words: str


class Pictures:
    """Collects the pictures of a page; `tag` shows one, `css` holds the data of all.

    Args:
        aspect: the width of a picture divided by its height.
        marks: of images that need one.
    """

    def __init__(self, aspect: float, marks: Mapping[Record, Mark] | None = None) -> None:
        self.size = (HEIGHT, max(1, round(HEIGHT * aspect)))
        self._marks = marks or {}
        self._numbers: dict[Record, int] = {}

    def tag(self, record: Record, alt: str, frame: str = "") -> str:
        """HTML that shows the picture; `frame` is a class of the page: hit, miss, query.

        Of more than `MOST` pictures the further ones are grey.
        """
        number = self._numbers.get(record)
        if number is None and len(self._numbers) < MOST:
            number = self._numbers[record] = len(self._numbers)
        mark, inside = self._marks.get(record), ""
        if mark is not None:
            alt = f"{alt}; {mark.words}"
            inside = f'<i title="{escape(mark.words)}">{mark.letter}</i>'
        classes = " ".join(filter(None, ("pic", "" if number is None else f"p{number}", frame)))
        return f'<span class="{classes}" role="img" aria-label="{escape(alt)}">{inside}</span>'

    def css(self) -> str:
        """Style rules with every picture shown so far as a data URI.

        Raises:
            InputError: an image cannot be read.
        """
        height, width = self.size
        rules = [f":root{{--pic-width:{width}px;--pic-height:{height}px}}"]
        rules += [
            f".p{number}{{background-image:url(data:image/jpeg;base64,{self._encoded(record)})}}"
            for record, number in self._numbers.items()
        ]
        return "\n".join(rules)

    def _encoded(self, record: Record) -> str:
        from PIL import Image

        buffer = io.BytesIO()
        pixels = read_resized(record.path, self.size, record.modality, record.span)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
        return base64.b64encode(buffer.getvalue()).decode()
