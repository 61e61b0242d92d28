"""Claims: files that say who is at work on what, on machines that share a folder."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from visir.core.types import InputError


@contextmanager
def claim(path: Path, patience: float) -> Iterator[bool]:
    """Hold a claim while the block runs; the file's time is kept fresh meanwhile.

    Args:
        path: the claim's file.
        patience: seconds without a sign after which another's claim is taken over; where its owner
            was a process of this machine and is dead, it is at once.

    Yields:
        Whether this process holds it; False where another does.

    Raises:
        InputError: the file cannot be made for another reason.
    """
    if not _take(path, patience):
        yield False
        return
    done = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, patience / 4, done), daemon=True)
    beat.start()
    try:
        yield True
    finally:
        done.set()
        beat.join()
        if _owner(path) == _me():  # another's, if this process was asleep for long
            path.unlink(missing_ok=True)


def _take(path: Path, patience: float) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and _is_left_behind(path, patience):
            path.unlink(missing_ok=True)
        with path.open("x", encoding="utf-8") as file:
            json.dump({**_me(), "since": time.time()}, file)
    except FileExistsError:
        return False
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    return True


def _beat(path: Path, every: float, done: threading.Event) -> None:
    while not done.wait(every):
        with suppress(OSError):
            os.utime(path)


def _is_left_behind(path: Path, patience: float) -> bool:
    owner = _owner(path)
    if owner.get("host") == socket.gethostname() and _is_dead(owner["pid"]):
        return True
    # A file just made tells the time of the folder's own clock, which set the claim's time too.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part") as probe:
        now = os.stat(probe.fileno()).st_mtime
    try:
        return now - path.stat().st_mtime > patience
    except FileNotFoundError:
        return False


def _owner(path: Path) -> dict[str, Any]:
    """Whose claim it is; nobody's where it is gone, or its owner died before writing it."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return {"host": owner["host"], "pid": int(owner["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _is_dead(pid: int) -> bool:
    multiprocessing.active_children()  # waits for dead children, which else count as alive
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # else it is alive, and somebody else's
    return False
