"""Values of more than 8 bits, and how they become 8-bit grey: by the range of their camera.

Raw counts, hundredths of a kelvin or degrees Celsius use a small part of what their numbers can
hold, and which part depends on the camera. So a `Span` belongs to a camera (`visir.data.ranges`).
"""

from __future__ import annotations

import io
import warnings
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from visir.core.types import ByteArray, InputError, Modality, Span

LOW, HIGH = 0.5, 99.5
"""Percentiles of the values that become black and white; ours: a hot lamp or a dead pixel of a crop
covers less than a two-hundredth of it."""
_DEEP = frozenset({"I", "I;16", "I;16L", "I;16B", "I;16N", "F"})
FLIR = b"FLIR\0"
RECORDINGS = (".seq", ".csq")
"""Endings of FLIR's radiometric recordings, which visir does not read."""


class RangeWarning(UserWarning):
    """An image was stretched by its own values, because no range of its camera is known."""


def span_of(values: npt.NDArray[Any]) -> Span:
    """The range of some values, without the extremes; (0, 1) if none of them is a number."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Span(0.0, 1.0)
    low, high = np.percentile(finite, (LOW, HIGH))
    return Span(float(low), float(high))


def grey8(values: npt.NDArray[Any], span: Span) -> ByteArray:
    """Values as 8-bit grey: `span.low` and below are 0, `span.high` and above 255.

    Values that are not numbers are 0; if the span is empty, all up to it are 0.
    """
    width = max(span.high - span.low, np.finfo(np.float64).tiny)
    scaled = np.clip((values.astype(np.float64) - span.low) / width, 0, 1)
    return np.nan_to_num(np.floor(scaled * 255 + 0.5), nan=0).astype(np.uint8)


def grey8_alone(values: npt.NDArray[Any], name: object) -> ByteArray:
    """Values as 8-bit grey by their own range, as a last resort; warns."""
    warnings.warn(
        f"{name}: no range of its camera is known, so its values are stretched by this image "
        "alone; write the range into ranges.json beside the data set",
        RangeWarning,
        stacklevel=2,
    )
    return grey8(values, span_of(values))


def deep_values(image: Image.Image) -> npt.NDArray[Any] | None:
    """(H, W) values of an opened image of more than 8 bits a pixel; None for all others.

    Pixels that are transparent are NaN.
    """
    if image.mode in _DEEP:
        return np.asarray(image)
    if isinstance(image, PngImageFile) and [tile.args for tile in image.tile] == ["LA;16B"]:
        return _png_with_alpha(image)
    return None


def is_radiometric(image: Image.Image) -> bool:
    """Whether a JPEG holds a raster of temperatures, as FLIR's cameras write it."""
    parts = getattr(image, "applist", [])
    return any(name == "APP1" and data.startswith(FLIR) for name, data in parts)


def can_read_radiometric() -> bool:
    """Whether the package flyr is installed."""
    return find_spec("flyr") is not None


def radiometric_values(
    file: BinaryIO, image: Image.Image, modality: Modality | None, name: object
) -> npt.NDArray[Any] | None:
    """(H, W) degrees Celsius of a radiometric JPEG; None for all other images.

    A visible image is never read so, and none is if flyr is not installed.

    Raises:
        InputError: flyr cannot read the raster.
    """
    if modality is Modality.VISIBLE or not is_radiometric(image) or not can_read_radiometric():
        return None
    import flyr

    file.seek(0)
    try:
        return np.asarray(flyr.unpack(io.BytesIO(file.read())).celsius)
    except Exception as error:  # flyr raises many kinds without a common base
        raise InputError(
            f"{name}: the raster of temperatures in it cannot be read ({error}); save it as TIFF "
            "with the camera's program, or remove it"
        ) from error


def refuse_recording(path: object) -> None:
    """Say what to do with a FLIR recording; all other names pass.

    Raises:
        InputError: the name ends as one.
    """
    if str(path).lower().endswith(RECORDINGS):
        raise InputError(
            f"{path}: FLIR's recordings ({', '.join(RECORDINGS)}) are not read; export its frames "
            "as 16-bit TIFF or as a video, with the camera's program"
        )


def _png_with_alpha(image: PngImageFile) -> npt.NDArray[Any]:
    """Values of a PNG of 16-bit grey and alpha, of which Pillow keeps 8 bits.

    Pillow opens it as RGBA; its four bytes a pixel are read as they are into these channels.
    """
    image.tile = [tile._replace(args="RGBA") for tile in image.tile]
    high, low, *alpha = np.moveaxis(np.asarray(image).astype(np.uint16), 2, 0)
    grey = high * 256 + low
    clear = (alpha[0] == 0) & (alpha[1] == 0)
    return np.where(clear, np.nan, grey) if clear.any() else grey
