"""Small pictures inside a page; each is stored once, however often it is shown."""

from __future__ import annotations

import base64
import io
from html import escape

from visir.core.types import Record
from visir.data.images import read_resized

HEIGHT = 112  # pixels
QUALITY = 80  # JPEG


class Pictures:
    """Collects the pictures of a page; `tag` shows one, `css` holds the data of all."""

    def __init__(self, aspect: float) -> None:
        """Start without pictures; `aspect` is the width of a picture divided by its height."""
        self.size = (HEIGHT, max(1, round(HEIGHT * aspect)))
        self._numbers: dict[Record, int] = {}

    def tag(self, record: Record, alt: str, frame: str = "") -> str:
        """HTML that shows the picture; `frame` is a class of the page: hit, miss, query."""
        number = self._numbers.setdefault(record, len(self._numbers))
        classes = f"pic p{number} {frame}".strip()
        return f'<span class="{classes}" role="img" aria-label="{escape(alt)}"></span>'

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
