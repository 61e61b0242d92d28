"""A folder that one process at a time may write to."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from visir.core.types import InputError

LOCK = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class NoLockWarning(UserWarning):
    """The file system cannot lock files, so two processes could write to one folder."""


@contextmanager
def locked(folder: Path, what: str, fix: str, patience: float = 1.0) -> Iterator[IO[str]]:
    """Hold a folder, with a lock of the operating system on the file `.lock` in it.

    The lock ends with the process that holds it, however it ends, and with all processes that
    inherited the file. The file stays; it names the process, for the message of the next one.

    Args:
        folder: made if it does not exist.
        what: what a process does there, for the message: "trains".
        fix: what to do, the end of the message.
        patience: seconds to wait for the lock; a killed process takes a moment to end.

    Yields:
        The open file.

    Raises:
        InputError: another process holds the folder, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
    with file:
        end = time.monotonic() + patience
        while not _taken(file):
            if time.monotonic() > end:
                raise InputError(f"{folder}: {_holder(file)} {what} there; {fix}")
            time.sleep(0.05)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield file


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"{file.name}: the file system cannot lock files ({error.strerror}); do not start a "
            "second process on this folder",
            NoLockWarning,
            stacklevel=4,
        )
    return True


def _holder(file: IO[str]) -> str:
    """Who holds the lock; the file is empty for an instant after it was taken."""
    file.seek(0)
    named = file.read(200)
    return named if named.startswith("process ") else "another process"
