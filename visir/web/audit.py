"""The audit log: JSON lines on disk, each holding the SHA-256 of the one before it.

Changing, removing or inserting a line breaks the chain there. Cutting off the end leaves a shorter
chain that is whole; therefore the last line's hash is displayed with the log and written into every
exported case.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

NOTHING = "0" * 64  # what the first line holds


class Stamp(NamedTuple):
    """A line that was written: its number, from 1, and its SHA-256."""

    line: int
    sha256: str


class Verdict(NamedTuple):
    """The state of a log's chain.

    lines: how many there are; head: SHA-256 of the last; broken: number of the first line that
    does not follow from the one before it, from 1; None where the chain is whole.
    """

    lines: int
    head: str
    broken: int | None


class Audit:
    """An audit log that is written to; one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self.lines, self.head, _ = verify(path)

    def append(self, action: str, by: str, remote: str, **what: object) -> Stamp:
        """Write one line, on disk when this returns.

        Args:
            action: what was done.
            by: the name the user gave.
            remote: the address it came from.
            what: its details, in values JSON has.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
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
                self.lines, self.head, _ = verify(self.path)
                raise
            self.lines, self.head = self.lines + 1, hashlib.sha256(line).hexdigest()
            return Stamp(self.lines, self.head)


def verify(path: Path) -> Verdict:
    """Check the chain of a log; a log that does not exist has no lines."""
    head, lines, broken = NOTHING, 0, None
    for line in _lines(path):
        lines += 1
        entry = _parsed(line)
        if broken is None and (entry.get("n"), entry.get("before")) != (lines, head):
            broken = lines
        head = hashlib.sha256(line).hexdigest()
    return Verdict(lines, head, broken)


def entries(path: Path, before: int | None = None, count: int = 100) -> list[dict[str, Any]]:
    """The last lines of a log, or the last before a number; newest first, without damaged ones."""
    found = []
    for number, line in enumerate(_lines(path), start=1):
        if before is not None and number >= before:
            break
        found.append(line)
        if len(found) > 2 * count:
            del found[:count]
    return [entry for entry in map(_parsed, reversed(found[-count:])) if entry]


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from (line.removesuffix(b"\n") for line in file)


def _parsed(line: bytes) -> dict[str, Any]:
    """A line's entry; empty where it is none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    known = {"n", "time", "action", "by", "remote", "what", "before"}
    return entry if isinstance(entry, dict) and entry.keys() == known else {}


def _write(path: Path, data: bytes) -> None:
    new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # A line that a crash cut short stays as it is, and the next begins behind it.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        whole = b"\n" + data if torn else data
        if os.write(descriptor, whole) != len(whole):
            raise OSError("the disk is full")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if new:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
