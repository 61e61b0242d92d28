"""Pictures as they leave the server: encoded anew, coarse at the top where that is asked for."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from visir.core.types import FloatArray

LARGEST = 256  # pixels of the longer side
QUALITY = 88  # JPEG
# Upright crops of people have the head in their upper third.
HEADS, BLOCKS = 0.3, 5
LAYER = (192, 96)  # height, width in pixels


def shrunk(picture: Image.Image) -> Image.Image:
    """A picture that is shown small, at no more than its size."""
    small = picture.copy()
    small.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return small


def opened(jpeg: bytes) -> Image.Image:
    """A gallery's thumbnail as RGB."""
    with Image.open(io.BytesIO(jpeg), formats=("JPEG",)) as image:
        return image.convert("RGB")


def encoded(picture: Image.Image, blur: bool = False) -> bytes:
    """A JPEG without anything but the pixels; blur: heads are pixelated first."""
    buffer = io.BytesIO()
    bare = Image.fromarray(np.asarray(pixelated(picture) if blur else picture))
    bare.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def pixelated(picture: Image.Image) -> Image.Image:
    """A picture whose upper 30 % are blocks, five across, so that no face can be told."""
    top = (0, 0, picture.width, max(1, round(HEADS * picture.height)))
    block = max(1, -(-picture.width // BLOCKS))
    coarse = (-(-top[2] // block), -(-top[3] // block))
    head = picture.crop(top).resize(coarse, Image.Resampling.BOX)
    covered = picture.copy()
    covered.paste(head.resize(top[2:], Image.Resampling.NEAREST), top)
    return covered


def layer(drops: FloatArray) -> bytes:
    """A PNG of `visir.embedding.explain.overlay`, as high as two times its width."""
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
