"""Reading image files: whatever a camera or a converter wrote, as upright 8-bit RGB."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from visir.core.types import ByteArray, InputError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
_MAX_PIXELS = 40_000_000
_SIXTEEN_BIT = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N"})


def read_image(path: Path) -> Image.Image:
    """Read one image as upright 8-bit RGB.

    The EXIF orientation is applied, 16-bit grey is scaled by 1/257 (not clipped), palettes and
    grey become RGB, transparent parts become black.

    Raises:
        InputError: no such file, an empty or damaged file, not an image of a known format
            (JPEG, PNG, BMP, WebP, TIFF, PPM), or more than 40 million pixels.
    """
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes); replace or remove it")
        with path.open("rb") as file:
            return decode(file, path)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def decode(file: BinaryIO, name: Path | str) -> Image.Image:
    """Read one image from an opened file, as `read_image` does; `name` is what messages call it.

    Raises:
        InputError: as `read_image`.
    """
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise Image.DecompressionBombError
            return upright_rgb(image, name)
    except UnidentifiedImageError:
        raise InputError(
            f"{name}: not an image that can be read ({', '.join(_FORMATS)}); replace or remove it"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(
            f"{name}: more than {_MAX_PIXELS // 10**6} million pixels, too large for a crop of "
            "one person; crop, shrink or remove it"
        ) from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds without a common base
        raise InputError(
            f"{name}: the image is cut short or damaged ({error}); replace or remove it"
        ) from error


def read_resized(path: Path, size: tuple[int, int]) -> ByteArray:
    """Read one image and resize it (Lanczos) to `size` = (height, width).

    Returns:
        (height, width, 3) uint8.

    Raises:
        InputError: as `read_image`.
    """
    return resized(read_image(path), size)


def resized(image: Image.Image, size: tuple[int, int]) -> ByteArray:
    """An RGB image at `size` = (height, width), by Lanczos: (height, width, 3) uint8."""
    height, width = size
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def upright_rgb(image: Image.Image, name: Path | str) -> Image.Image:
    """An opened image turned as its camera was held, in 8-bit RGB; 16-bit grey is scaled.

    Raises:
        InputError: pixels of a kind that has no 8-bit meaning; `name` is what the message calls it.
    """
    return _to_rgb(ImageOps.exif_transpose(image), name)


def image_files(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files are ignored."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_file() and _is_image(entry.name)]
    return [folder / name for name in sorted(names)]


def image_tree(folder: Path) -> list[Path]:
    """Image files anywhere below `folder`, sorted by path; hidden files and folders are ignored."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(Path(parent, name) for name in names if _is_image(name))
    return sorted(found)


def parse_size(text: str) -> tuple[int, int]:
    """Read "288x144" as (height, width) = (288, 144) pixels.

    Raises:
        InputError: any other form, or a side of 0.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})[xX×]([1-9]\d{0,4})", text.strip())
    if match is None:
        raise InputError(
            f"size {text!r}: write height and width in pixels with an x between, such as 288x144"
        )
    return int(match[1]), int(match[2])


def _is_image(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def _to_rgb(image: Image.Image, name: Path | str) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return _from_sixteen_bit(image, name).convert("RGB")
    if image.mode == "F":
        raise InputError(f"{name}: floating-point pixels; save it as 8-bit or 16-bit grey")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layers).convert("RGB")
    return image.convert("RGB")


def _from_sixteen_bit(image: Image.Image, name: Path | str) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError(f"{name}: 32-bit pixels; save it as 8-bit or 16-bit grey")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))
