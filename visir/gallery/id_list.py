"""Ids of images from a file or a filter, a few at a time: there may be tens of millions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from visir.core.types import InputError

if TYPE_CHECKING:
    from visir.gallery.store import Filter, Store

STEP = 5000
"""Ids that are worked on at once."""
_LONGEST = 100  # bytes of a line
_LAST = 2**63 - 1


def in_steps(ids: Iterable[int], size: int = STEP) -> Iterator[list[int]]:
    """Lists of that many ids, or fewer at the end."""
    rest = iter(ids)
    while some := list(islice(rest, size)):
        yield some


def count_listed(path: Path) -> int:
    """How many ids a file has; raises as `listed`."""
    return sum(1 for _ in listed(path))


def listed(path: Path) -> Iterator[int]:
    """Read a file with an id in each line; empty lines are passed over.

    The file is read line by line.

    Raises:
        InputError: it cannot be read, or a line is not an id; the message has the line's number.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
                word = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
                whole = len(line) < _LONGEST
                if not word and whole:
                    continue
                found = int(word) if whole and word.isdigit() else 0
                if not 0 < found <= _LAST:
                    shown = word.decode("utf-8", "replace")
                    raise InputError(
                        f"{path}: line {number} is {shown!r}; write in each line one id of an "
                        "image, as `visir index list` shows it"
                    )
                yield found
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); give a text file with an id of "
            "an image in each line"
        ) from error


def selected(store: Store, where: Filter) -> Iterator[int]:
    """The ids of a part of a gallery, which may be removed meanwhile."""
    last = 0
    while some := store.select(where, STEP, last):
        yield from (item.id for item in some)
        last = some[-1].id
