"""Which file an image is from: one name for it, and whether it has changed since.

A mark is `size-time-digest` of a file: bytes, nanoseconds of the last change, and
`visir.data.contents.content`.
"""

from __future__ import annotations

import os
from pathlib import Path

from visir.core.types import InputError
from visir.data.contents import content

_INSIDE = "::"  # before the member of a tar file, the track of a video, the box in a frame


def file_of(source: str) -> str:
    """The path of the file that holds an image."""
    return source.partition(_INSIDE)[0]


def canonical(source: str) -> str:
    """The one name of an image: the real path of its file, without links, if it is here."""
    path, inside, rest = source.partition(_INSIDE)
    if "\0" in path:
        return source
    real = os.path.realpath(path)
    return real + inside + rest if os.path.exists(real) else source


def is_below(source: str, place: str) -> bool:
    """Whether an image is in a folder, or in a file such as a video."""
    return source.startswith((f"{place}{os.sep}", f"{place}{_INSIDE}"))


class Marks:
    """Marks of files, each read once."""

    def __init__(self) -> None:
        self._now: dict[str, str | None] = {}
        self._same: dict[tuple[str, str], bool] = {}

    def of(self, source: str) -> str | None:
        """The mark of the file that holds an image; None if it cannot be read here."""
        path = file_of(source)
        if path not in self._now:
            try:
                about = os.stat(path)
                self._now[path] = f"{about.st_size}-{about.st_mtime_ns}-{content(Path(path))}"
            except (OSError, InputError):
                self._now[path] = None
        return self._now[path]

    def has_changed(self, source: str, kept: str | None) -> bool:
        """Whether a file is another than it was; a file of the same size and time is not read.

        Args:
            source: name of the image.
            kept: the mark it had; None if it is unknown, and then nothing can be said.
        """
        path = file_of(source)
        if kept is None:
            return False
        if (path, kept) not in self._same:
            self._same[path, kept] = self._is_same(path, kept)
        return not self._same[path, kept]

    @staticmethod
    def differ(one: str | None, other: str | None) -> bool:
        """Whether two marks are of other contents; unknown ones are not."""
        return one is not None and other is not None and _digest(one) != _digest(other)

    def _is_same(self, path: str, kept: str) -> bool:
        try:
            about = os.stat(path)
        except OSError:
            return True  # it has vanished, which is another question
        if kept.startswith(f"{about.st_size}-{about.st_mtime_ns}-"):
            return True
        return not self.differ(self.of(path), kept)


def _digest(mark: str) -> str:
    return mark.rpartition("-")[2]
