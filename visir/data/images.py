"""Reading image files: whatever a camera or a converter wrote, as upright 8-bit RGB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from visir.core.types import ByteArray, InputError, Modality, Span
from visir.data import pixels, png, tiff

T = TypeVar("T")

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
DEEP_SUFFIXES = frozenset({".png", ".tif", ".tiff", ".ppm", ".pgm"})
"""Endings of formats that can hold more than 8 bits a channel."""
JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".jpe"})
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
_MAX_PIXELS = 40_000_000
_ORIENTATION, _LYING = 0x0112, (5, 6, 7, 8)  # EXIF: turned by 90 degrees


def read_image(
    path: Path, modality: Modality | None = None, span: Span | None = None
) -> Image.Image:
    """Read one image as upright 8-bit RGB.

    The EXIF orientation is applied, palettes and grey become RGB, transparent parts become black.
    Grey of more than 8 bits, integers or floating point, becomes 8-bit grey by its camera's span.

    Args:
        path: the file.
        modality: of its camera; of a file with several pages it decides which one is read.
        span: of its camera; without one an image of more than 8 bits is stretched by its own
            values, with a `visir.data.pixels.RangeWarning`.

    Raises:
        InputError: no such file, an empty or damaged file, not an image of a known format
            (JPEG, PNG, BMP, WebP, TIFF, PPM), or more than 40 million pixels.
    """
    with _opened(path) as file:
        return decode(file, path, modality, span)


def read_values(path: Path, modality: Modality | None = None) -> npt.NDArray[Any] | None:
    """The values of one image of more than 8 bits a pixel, not turned; None for all other images.

    Pixels of an image with no more than 8 bits are not decoded.

    Raises:
        InputError: as `read_image`.
    """
    with _opened(path) as file:
        return _explained(partial(_read, file, path, modality, _values), path)


def read_size(path: Path, modality: Modality | None = None) -> tuple[int, int]:
    """(height, width) of an image as `read_image` reads it; its pixels are not decoded.

    Raises:
        InputError: as `read_image`, but for damaged pixels.
    """
    with _opened(path) as file:
        return _explained(partial(_size, file, path, modality), path)


def content(path: Path) -> bytes:
    """The bytes of a file that should hold an image, for `decode`.

    Raises:
        InputError: there is no such file, or it is empty or cannot be read.
    """
    with _opened(path) as file:
        return file.read()


def decode(
    file: BinaryIO,
    name: Path | str,
    modality: Modality | None = None,
    span: Span | None = None,
) -> Image.Image:
    """Read one image from an opened file, as `read_image` does; `name` is what messages call it.

    Raises:
        InputError: as `read_image`.
    """

    def read() -> Image.Image:
        picture = _read(file, name, modality, partial(_rgb, name, span))
        png.require_whole(file, picture)
        return picture

    return _explained(read, name)


def decode_values(
    file: BinaryIO, name: Path | str, modality: Modality | None = None
) -> npt.NDArray[Any] | None:
    """As `read_values`, from an opened file."""
    return _explained(partial(_read, file, name, modality, _values), name)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        if path.stat().st_size == 0:
            raise InputError(f"{path}: the file is empty (0 bytes); replace or remove it")
        with path.open("rb") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise InputError(
            f"{path}: the file cannot be read ({error.strerror or error}); check its permissions"
        ) from error


def _explained(read: Callable[[], T], name: Path | str) -> T:
    """What `read` returns; whatever it raises as one sentence about the file."""
    try:
        return read()
    except UnidentifiedImageError:
        pixels.refuse_recording(name)
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


def _read(
    file: BinaryIO,
    name: Path | str,
    modality: Modality | None,
    use: Callable[[Image.Image | tiff.Page, npt.NDArray[Any] | None], T],
) -> T:
    """Open a file, and use its image and its values if they have more than 8 bits."""
    found = tiff.pages(file)
    if found:
        number = tiff.chosen(found, modality)
        page = found[number]
        _require_small(page.size)
        if page.deep:
            return use(page, tiff.values(file, page))
        if number:
            file = tiff.starting_with(file, page)
    with Image.open(file, formats=_FORMATS) as image:
        _require_small(image.size)
        values = pixels.radiometric_values(file, image, modality, name)
        return use(image, pixels.deep_values(image) if values is None else values)


def _size(file: BinaryIO, path: Path, modality: Modality | None) -> tuple[int, int]:
    found = tiff.pages(file)
    if found:
        page = found[tiff.chosen(found, modality)]
        (width, height), turned = page.size, page.orientation
        return (width, height) if turned in _LYING else (height, width)
    with Image.open(file, formats=_FORMATS) as image:
        values = pixels.radiometric_values(file, image, modality, path)
        if values is not None:
            height, width = values.shape
            return height, width
        lying = image.getexif().get(_ORIENTATION) in _LYING
        return image.size if lying else (image.height, image.width)


def _values(
    _image: Image.Image | tiff.Page, values: npt.NDArray[Any] | None
) -> npt.NDArray[Any] | None:
    return values


def _require_small(size: tuple[int, int]) -> None:
    if size[0] * size[1] > _MAX_PIXELS:
        raise Image.DecompressionBombError


def _rgb(
    name: Path | str,
    span: Span | None,
    image: Image.Image | tiff.Page,
    values: npt.NDArray[Any] | None,
) -> Image.Image:
    if values is None:
        assert isinstance(image, Image.Image)
        return _to_rgb(ImageOps.exif_transpose(image))
    grey = pixels.grey8_alone(values, name) if span is None else pixels.grey8(values, span)
    picture = Image.fromarray(grey)
    if isinstance(image, tiff.Page):
        picture.getexif()[_ORIENTATION] = image.orientation
    elif picture.size == image.size:  # a raster inside a JPEG is turned by nobody
        picture.info.update(image.info)
    return ImageOps.exif_transpose(picture).convert("RGB")


def read_resized(
    path: Path,
    size: tuple[int, int],
    modality: Modality | None = None,
    span: Span | None = None,
) -> ByteArray:
    """Read one image and resize it (Lanczos) to `size` = (height, width).

    Args:
        path: the file.
        size: (height, width) in pixels.
        modality: as for `read_image`.
        span: as for `read_image`.

    Returns:
        (height, width, 3) uint8.

    Raises:
        InputError: as `read_image`.
    """
    return resized(read_image(path, modality, span), size)


def resized(image: Image.Image, size: tuple[int, int]) -> ByteArray:
    """An RGB image at `size` = (height, width), by Lanczos: (height, width, 3) uint8."""
    height, width = size
    return np.array(image.resize((width, height), Image.Resampling.LANCZOS))


def upright_rgb(image: Image.Image, name: Path | str) -> Image.Image:
    """An opened image turned as its camera was held, in 8-bit RGB.

    One of more than 8 bits is stretched by its own values; `name` is what the warning calls it.
    """
    return _rgb(name, None, image, pixels.deep_values(image))


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


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        black = Image.new("RGBA", layers.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, layers).convert("RGB")
    return image.convert("RGB")
