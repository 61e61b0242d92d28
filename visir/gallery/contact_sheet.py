"""Contact sheets: rows of framed pictures with captions below them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from visir.core.types import Record
from visir.data.images import decode, read_image

# Told apart by colour-blind eyes too: bluish green, vermilion (Okabe and Ito), grey.
HIT, MISS, UNKNOWN, QUERY = "#009e73", "#d55e00", "#b8bcc4", "#30343c"
PICTURE = (96, 192)  # width, height in pixels
FRAME, GAP, LINE, MARGIN = 4, 12, 15, 20
TILE = (PICTURE[0] + 2 * FRAME, PICTURE[1] + 2 * FRAME)


class Tile(NamedTuple):
    """A picture with a frame of one colour and short lines of text below.

    picture: a record of its file, or the file's bytes.
    """

    picture: Record | bytes
    frame: str
    captions: tuple[str, ...]


def contact_sheet(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """Draw rows of tiles; the first of each row stands apart, as the query does.

    Returns:
        An RGB picture, as wide as the longest row and as high as all rows with their captions.
    """
    columns = max(len(row) for row in rows)
    lines = max(len(tile.captions) for row in rows for tile in row)
    step = TILE[1] + 6 + lines * LINE + GAP
    size = (2 * MARGIN + columns * (TILE[0] + GAP) + GAP, 2 * MARGIN + len(rows) * step - GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for number, row in enumerate(rows):
        for column, tile in enumerate(row):
            left = MARGIN + column * (TILE[0] + GAP) + (2 * GAP if column else 0)
            _draw_tile(sheet, draw, font, tile, (left, MARGIN + number * step))
    return sheet


def _draw_tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    tile: Tile,
    corner: tuple[int, int],
) -> None:
    left, top = corner
    stored = tile.picture
    picture = (
        decode(BytesIO(stored), "a thumbnail")
        if isinstance(stored, bytes)
        else read_image(stored.path, stored.modality, stored.span)
    )
    picture = picture.resize(PICTURE, Image.Resampling.LANCZOS)
    draw.rectangle((left, top, left + TILE[0] - 1, top + TILE[1] - 1), fill=tile.frame)
    sheet.paste(picture, (left + FRAME, top + FRAME))
    for number, caption in enumerate(tile.captions):
        position = (left, top + TILE[1] + 6 + number * LINE)
        draw.text(position, _fitting(caption, font), fill="#30343c", font=font)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """The text, its end replaced by an ellipsis where it is wider than a tile."""
    if font.getlength(text) <= TILE[0]:
        return text
    while text and font.getlength(text + "…") > TILE[0]:
        text = text[:-1]
    return text + "…"
