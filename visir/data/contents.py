"""What identifies images by content, wherever their folder is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from visir.core.progress import bar
from visir.core.types import InputError, Record

_PART = 32 * 1024  # bytes; a crop of a person is rarely larger than two parts


def contents(records: Sequence[Record], progress: bool = False) -> list[str]:
    """A digest of each file, 32 hexadecimal digits.

    It covers the file's size and its bytes; of a file above 64 KiB its first and last 32 KiB, so
    that large frames are not read whole: an image that was replaced or edited differs there, too.

    Args:
        records: the images.
        progress: show a progress bar.

    Raises:
        InputError: a file cannot be read.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(content, [record.path for record in records])
        return list(
            bar(found, "comparing", len(records), unit="images", show=progress, leave=False)
        )


def content(path: Path) -> str:
    """The digest of one file, as `contents` describes.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest = hashlib.blake2b(str(size).encode() + b"\n", digest_size=16)
            digest.update(file.read(_PART))
            if size > _PART:
                file.seek(max(size - _PART, _PART))
                digest.update(file.read(_PART))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); restore the file, or remove it "
            "from the data set"
        ) from error
    return digest.hexdigest()
