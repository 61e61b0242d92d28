"""The file that a gallery's image was made from, read again where it is still there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from visir.core.types import InputError
from visir.data.images import decode
from visir.data.ranges import find, name_of
from visir.gallery.store import Store, Stored
from visir.sources.marks import Marks, file_of
from visir.web.rendering import encoded

QUALITY = 95  # JPEG
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # neither a link's target nor a pipe's end


class GoneError(InputError):
    """The file of an image is not there any more."""


def original(store: Store, item: Stored, blur: bool) -> bytes:
    """The image at its full size, as a JPEG with nothing but the pixels.

    The only path that is opened is the one that the gallery itself has of the image. It must still
    be a file of its own that holds the image which was added.

    Args:
        store: the gallery.
        item: one of its images.
        blur: pixelate the head.

    Raises:
        GoneError: the file is not there, or cannot be opened.
        InputError: the image is only a part of a file, or the file is another one now.
    """
    name = f"image {item.id}"
    if file_of(item.source) != item.source:
        raise InputError(
            f"{name}: was cut out of a video, a frame or a tar file, so it has no file of its own; "
            "its thumbnail is all there is to show"
        )
    with _opened(item.source, name) as file:
        if Marks().has_changed(item.source, store.marks([item.id]).get(item.id)):
            raise InputError(
                f"{name}: its file was changed since the image was added, so it is not shown; add "
                "it again with `visir index add --update`"
            )
        span = find(store.ranges(), name_of(item.modality, item.camera))
        return encoded(decode(file, name, item.modality, span), blur, QUALITY)


@contextmanager
def _opened(path: str, name: str) -> Iterator[BinaryIO]:
    """The file of an image, if it is a file and the path leads over no link."""
    gone = GoneError(
        f"{name}: its file is not there any more, or cannot be opened; the thumbnail is all there "
        "is to show"
    )
    try:
        if not os.path.isabs(path) or Path(path).resolve() != Path(path):
            raise gone
        file = open(path, "rb", opener=lambda name, _: os.open(name, _FLAGS))  # noqa: SIM115
    except (OSError, ValueError):
        raise gone from None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise gone
        yield file
