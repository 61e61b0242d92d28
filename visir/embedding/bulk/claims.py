"""Claims: lock files that say which process works on what, for machines that share a folder."""

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
from visir.core.untrusted import parse_json


@contextmanager
def claim(path: Path, patience: float) -> Iterator[bool]:
    """Hold a claim while the block runs, and refresh the file's time meanwhile.

    Args:
        path: file of the claim.
        patience: seconds without a refresh after which another process's claim is taken over. The
            claim of a dead process of this machine is taken over at once.

    Yields:
        True if this process holds the claim, False if another one does.

    Raises:
        InputError: the file cannot be written.
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
        if _owner(path) == _me():  # not if this process was suspended and lost the claim
            path.unlink(missing_ok=True)


def _take(path: Path, patience: float) -> bool:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and _is_stale(path, patience):
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


def _is_stale(path: Path, patience: float) -> bool:
    owner = _owner(path)
    if owner.get("host") == socket.gethostname() and _is_dead(owner["pid"]):
        return True
    # A new file shows the time of the file system's clock, which also set the claim's time.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".part") as probe:
        now = os.stat(probe.fileno()).st_mtime
    try:
        return now - path.stat().st_mtime > patience
    except FileNotFoundError:
        return False


def _owner(path: Path) -> dict[str, Any]:
    """Owner of a claim; empty if the file is gone or its owner died before writing it."""
    try:
        owner = parse_json(path.read_text(encoding="utf-8"))
        return {"host": owner["host"], "pid": int(owner["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid()}


def _is_dead(pid: int) -> bool:
    multiprocessing.active_children()  # collects dead children, which would count as alive
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, ProcessLookupError)  # otherwise it belongs to another user
    return False
