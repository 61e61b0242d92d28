"""`labels.csv`: what is known about the images of a folder, a row for each.

The column `path` is required. `pid` (an identity: a number or a name), `split`, `camera`, `time`,
`tags` (separated by semicolons), `track` and `source` are optional, and a row may leave them empty.
Columns with other names are passed over.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from visir.core.times import parse_time
from visir.core.types import InputError

LABELS = "labels.csv"
COLUMNS = ("path", "pid", "split", "camera", "time", "tags", "track", "source")
_PERSON = re.compile(r"(track|box) .*")  # of a source: who was cut out
SPLITS = ("train", "test", "query", "gallery")


class Known(NamedTuple):
    """What a row says of an image; None or empty if it does not say it.

    pid: a number from 0, the same for the same identity; time: seconds since 1970; track: the same
    for images of one person in one camera; frame: what the image was cut out of.
    """

    pid: int | None = None
    split: str | None = None
    camera: str | None = None
    time: float | None = None
    tags: tuple[str, ...] = ()
    track: str | None = None
    frame: str | None = None


NOTHING = Known()


class Table(NamedTuple):
    """The rows of a `labels.csv` by image; columns: which of `COLUMNS` it has."""

    rows: Mapping[Path, Known]
    columns: frozenset[str]

    def of(self, image: Path) -> Known:
        """What is known of an image."""
        return self.rows.get(image, NOTHING)


NO_TABLE = Table({}, frozenset())


def same_name(path: str | Path) -> str:
    r"""A relative path in the one form in which paths are compared: `/` for `\`, composed (NFC)."""
    text = unicodedata.normalize("NFC", str(path)).replace("\\", "/").strip()
    return "/".join(part for part in text.split("/") if part != ".")


def read_table(root: Path, images: Iterable[Path]) -> Table:
    """Read the `labels.csv` in a folder; an empty table if there is none.

    Args:
        root: the folder; the paths in the file are relative to it.
        images: the images that may be named.

    Raises:
        InputError: the file cannot be read, or a row names no image of these, or one twice, or has
            a split or a time that cannot be understood.
    """
    path = root / LABELS
    if not path.exists():
        return NO_TABLE
    header, rows = read_rows(path)
    numbers = _identities(row.get("pid", "") for _, row in rows)
    names = {same_name(image.relative_to(root)): image for image in images}
    found: dict[Path, Known] = {}
    for where, row in rows:
        name = row["path"]
        image = names.get(same_name(name))
        if image is None:
            raise InputError(
                f"{where} names {name!r}, which is not an image in {root.name}; correct the path "
                "or remove the row"
            )
        if image in found:
            raise InputError(f"{where} names {name!r} again; keep one row")
        found[image] = _known(where, row, numbers)
    if not found:
        raise InputError(f"{path}: no rows; add some, or remove the file for unlabelled images")
    return Table(found, frozenset(header).intersection(COLUMNS))


def read_rows(path: Path) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """The columns, and for each row where it stands and its stripped fields.

    Raises:
        InputError: the file cannot be read, or it is no table of images.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [row for row in csv.reader(file, strict=True) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as UTF-8 CSV") from error
    header = [name.strip() for name in lines[0]]
    twice = next((name for name in header if name in COLUMNS and header.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: column {twice!r} is there twice; keep one")
    if "path" not in header or len({*header}.intersection(COLUMNS)) < 2:
        raise InputError(
            f"{path}: the first line is {','.join(header)!r}; write path and some of "
            f"{', '.join(COLUMNS[1:])}, such as path,pid"
        )
    rows = []
    for number, row in enumerate(lines[1:], start=1):
        where = f"{path}: row {number}"
        if len(row) != len(header):
            raise InputError(f"{where} has {len(row)} fields, not {len(header)}; correct it")
        rows.append((where, {name: text.strip() for name, text in zip(header, row, strict=True)}))
    return header, rows


def _identities(words: Iterable[str]) -> dict[str, int]:
    """A number for each identity: its own if all are numbers, else from 1 by sorted name."""
    found = {unicodedata.normalize("NFC", word) for word in words if word}
    # More digits overflow int64.
    if all(word.isascii() and word.isdigit() and len(word) <= 18 for word in found):
        return {word: int(word) for word in found}
    return {word: number for number, word in enumerate(sorted(found), start=1)}


def _known(where: str, row: Mapping[str, str], numbers: Mapping[str, int]) -> Known:
    pid = numbers.get(unicodedata.normalize("NFC", row.get("pid", "")))
    split = row.get("split") or None
    if split is not None and split not in SPLITS:
        raise InputError(
            f"{where} has split {split!r}; write {', '.join(SPLITS[:-1])} or {SPLITS[-1]}"
        )
    if split not in (None, "train") and pid is None:
        raise InputError(f"{where} has split {split} but no pid; write the identity there")
    time = row.get("time")
    return Known(
        pid,
        split,
        camera=row.get("camera") or None,
        time=parse_time(time, f"{where}: time") if time else None,
        tags=tuple(tag for word in row.get("tags", "").split(";") if (tag := word.strip())),
        track=row.get("track") or None,
        frame=_frame(row.get("source", "")),
    )


def _frame(source: str) -> str | None:
    """What was seen at one moment, from a source as `visir crop` writes it; None without one.

    It is the source without the track or box: of `FILE::stream 1 track 7 @ frame 3` the file, the
    stream and the frame, of `FILE::box 2` the file.
    """
    file, mark, rest = source.partition("::")
    place, _, moment = rest.partition(" @ ")
    return f"{file}::{_PERSON.sub('', place)}{moment}" if mark else None
