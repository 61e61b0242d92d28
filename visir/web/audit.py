"""The audit log: JSON lines on disk, each holding the SHA-256 of the one before it.

Changing, removing or inserting a line breaks the chain there. Cutting off the end leaves a shorter
chain that is whole; therefore the last line's hash is displayed with the log and written into every
exported case.

A log consists of several files. The one that is written to is renamed when it is long enough:
audit.000000000001-000000012345.jsonl holds lines 1 to 12,345, and the chain goes on in the next.
When there are too many the oldest is deleted, after a line that says which lines those were and
the hash of the last of them. So the chain can be checked from the first line that is left.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from visir.core.run import sync

NOTHING = "0" * 64  # what the first line holds
FILE_BYTES = 8 * 2**20  # of a file that is not written to any more
FILES = 128  # of those
SHORTENED = "log shortened"  # the action of a line about a file that is deleted
_TYPES = {
    "n": int, "time": str, "action": str, "by": str, "remote": str, "what": dict, "before": str,
}  # fmt: skip


class Stamp(NamedTuple):
    """A line that was written: its number, from 1, and its SHA-256."""

    line: int
    sha256: str


class Verdict(NamedTuple):
    """The state of a log's chain.

    lines: the number of the last line; head: SHA-256 of it; broken: number of the first line that
    does not follow from the one before it; None where the chain is whole; first: number of the
    first line that is still there.
    """

    lines: int
    head: str
    broken: int | None
    first: int = 1


class _File(NamedTuple):
    """A file of a log; first, last: numbers of its lines; last is None while it is written to."""

    path: Path
    first: int
    last: int | None


class _Part(NamedTuple):
    """What one file adds to a verdict; removed: (number, hash) of last lines of deleted files."""

    lines: int
    head: str
    broken: int | None
    removed: frozenset[tuple[int, str]]


class Audit:
    """An audit log that is written to; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._on_disk = 0  # number of the last line that is
        self.lines, self.head, *_ = verify(path)

    def append(self, action: str, by: str, remote: str, **what: object) -> Stamp:
        """Write one line, on disk when this returns.

        Lines that are written at the same time are forced to disk together.

        Args:
            action: what was done.
            by: the name the user gave.
            remote: the address it came from.
            what: its details, in values JSON has.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            if self.path.is_file() and self.path.stat().st_size >= FILE_BYTES:
                self._begin_file()
            stamp = self._append(action, by, remote, what)
        self._sync(stamp.line)
        return stamp

    def _sync(self, line: int) -> None:
        """Return when a line is on disk; whoever comes first does it for all that are written."""
        with self._syncing:
            with self._lock:
                if self._on_disk >= line:
                    return
                written, descriptor = self.lines, os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            self._on_disk = max(self._on_disk, written)

    def _append(self, action: str, by: str, remote: str, what: dict[str, Any]) -> Stamp:
        entry = {
            "n": self.lines + 1,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "action": action,
            "by": by,
            "remote": remote,
            "what": what,
            "before": self.head,
        }
        line = json.dumps(entry).encode()
        try:
            _write(self.path, line + b"\n")
        except OSError:  # part of it may stand there
            self.lines, self.head, *_ = verify(self.path)
            raise
        self.lines, self.head = self.lines + 1, hashlib.sha256(line).hexdigest()
        return Stamp(self.lines, self.head)

    def _begin_file(self) -> None:
        """Give the file its lasting name; of too many files delete the oldest."""
        *closed, last = _files(self.path)
        name = f"{self.path.stem}.{last.first:012d}-{self.lines:012d}{self.path.suffix}"
        if self.path.with_name(name).exists():
            return  # somebody else's; nothing is overwritten
        sync(self.path)
        self._on_disk = self.lines
        self.path.rename(self.path.with_name(name))
        sync(self.path.parent)
        for old in closed[: max(len(closed) + 1 - FILES, 0)]:
            through = _part_of(old, old.first - 1, NOTHING)
            what = {"through": through.lines, "sha256": through.head}
            self._append(SHORTENED, "visir", "", what)
            sync(self.path)
            old.path.unlink()


def verify(path: Path) -> Verdict:
    """Check the chain of a log, in all its files; a log that does not exist has no lines."""
    files = _files(path)
    lines, head, broken = files[0].first - 1, _before(files[0]), None
    begin, removed = (lines, head), set[tuple[int, str]]()
    for file in files:
        if file.first > lines + 1:  # a file is missing
            broken, lines = broken or lines + 1, file.first - 1
        part = _part_of(file, lines, head)
        lines, head, removed = part.lines, part.head, removed | part.removed
        broken = broken or part.broken
    if begin[0] and begin not in removed:
        broken = begin[0] + 1
    return Verdict(lines, head, broken, begin[0] + 1)


def entries(
    path: Path, before: int | None = None, count: int = 100
) -> tuple[list[dict[str, Any]], int | None]:
    """The last lines of a log, or the last before a number; newest first.

    A damaged line is there with the action "damaged line", its number, and what can be read of it.

    Returns:
        The lines, and the number before which there are more; None where there are none.
    """
    found, number = list[dict[str, Any]](), 1
    files = _files(path)
    for file in reversed(files):
        lines = list(enumerate(_lines(file.path), start=file.first))
        wanted = lines if before is None else [one for one in lines if one[0] < before]
        for number, line in reversed(wanted[-(count - len(found)) :]):
            found.append(_shown(number, line))
        if len(found) == count:
            break
    return found, number if number > files[0].first else None


def _files(path: Path) -> list[_File]:
    """The files of a log, the oldest first; the last is the one that is written to."""
    named = re.compile(rf"{re.escape(path.stem)}\.(\d{{12}})-(\d{{12}}){re.escape(path.suffix)}")
    matches = ((found, named.fullmatch(found.name)) for found in path.parent.glob(f"{path.stem}.*"))
    closed = sorted(
        _File(found, int(match[1]), int(match[2])) for found, match in matches if match is not None
    )
    return [*closed, _File(path, (closed[-1].last or 0) + 1 if closed else 1, None)]


def _before(file: _File) -> str:
    """What the first line of a log's first file says of the line before it."""
    first = next(_lines(file.path), b"")
    return str(_parsed(first).get("before", NOTHING)) if file.first > 1 else NOTHING


def _part_of(file: _File, lines: int, head: str) -> _Part:
    """Check one file that follows on so many lines; one that is not written to only once."""
    if not file.path.is_file():
        return _Part(lines, head, None, frozenset())
    now = file.path.stat()
    if file.last is None:
        return _checked(file.path, lines, head)
    known = (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)
    return _checked_once(file.path, lines, head, known)


@lru_cache(maxsize=4 * FILES)
def _checked_once(path: Path, lines: int, head: str, known: tuple[int, ...]) -> _Part:
    return _checked(path, lines, head)


def _checked(path: Path, lines: int, head: str) -> _Part:
    broken, removed = None, set[tuple[int, str]]()
    for line in _lines(path):
        lines += 1
        entry = _parsed(line)
        if broken is None and (entry.get("n"), entry.get("before")) != (lines, head):
            broken = lines
        if entry.get("action") == SHORTENED:
            through, last = entry["what"].get("through"), entry["what"].get("sha256")
            removed |= {(through, last)} if (type(through), type(last)) == (int, str) else set()
        head = hashlib.sha256(line).hexdigest()
    return _Part(lines, head, broken, frozenset(removed))


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from (line.removesuffix(b"\n") for line in file)


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's entry; empty where it is none."""
    try:
        entry = json.loads(line)
        right = isinstance(entry, dict) and {k: type(v) for k, v in entry.items()} == _TYPES
        return entry if right else {}
    except (ValueError, RecursionError):
        return {}


def _shown(number: int, line: bytes) -> dict[str, Any]:
    """A line's entry as it may be displayed; what can be read of a damaged one."""
    entry = _parsed(line)
    try:
        datetime.fromisoformat(entry["time"]).astimezone()
        json.dumps(entry, ensure_ascii=False, allow_nan=False).encode()
    except (KeyError, ValueError, OverflowError, RecursionError):
        text = line[:200].decode("utf-8", "replace")
        what = {"text": text if len(line) <= 200 else f"{text}…"}
        bare = {"n": number, "time": "", "action": "damaged line", "by": "", "remote": ""}
        return {**bare, "what": what, "before": ""}
    return entry


def _write(path: Path, data: bytes) -> None:
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a crash cut short stays as it is, and the next begins behind it.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        whole = b"\n" + data if torn else data
        if os.write(descriptor, whole) != len(whole):
            raise OSError(errno.ENOSPC, "the disk is full")
    finally:
        os.close(descriptor)
    if new:
        sync(path.parent)
