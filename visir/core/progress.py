"""Progress on standard error: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

EVERY = 30.0
"""Seconds between two lines where there is no terminal, as in the log of a batch system."""
_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}{postfix}"
_UNKNOWN = "{desc}: {n_fmt} {unit}{postfix}"


if TYPE_CHECKING:
    _Tqdm = tqdm[Any]
else:
    _Tqdm = tqdm  # takes no arguments when the program runs


class Bar(_Tqdm):
    """A bar with a lock of this process alone.

    tqdm's own lock is shared with forked processes. One that is killed while it holds it would stop
    all the others for good.
    """


def _own_lock() -> None:
    Bar.set_lock(threading.RLock())


_own_lock()
os.register_at_fork(after_in_child=_own_lock)  # another thread may have held it


def say(line: str) -> None:
    """Write a line on standard error, above a bar that is shown there."""
    Bar.write(line, file=sys.stderr)


class _Lines:
    """A file for tqdm that writes each state as a line of its own."""

    encoding = "utf-8"

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, text: str) -> int:
        if text.strip():
            self.file.write(text.strip() + "\n")
        return len(text)

    def flush(self) -> None:
        self.file.flush()


def bar(
    over: Iterable[Any] | None,
    description: str,
    total: int | None = None,
    *,
    unit: str,
    show: bool,
    leave: bool = True,
    initial: int = 0,
) -> tqdm[Any]:
    """The things of an iterable, with progress; or a bar to `update`, if there is none.

    Args:
        over: what is gone through; None for a bar that is updated by hand.
        description: what is done, in a word or two.
        total: number of things, if it is known.
        unit: name of one thing.
        show: whether anything is written at all.
        leave: keep the finished bar on the terminal.
        initial: number of things that were done before.
    """
    if not show or sys.stderr.isatty():
        return Bar(
            over, description, total, unit=unit, leave=leave, initial=initial, disable=not show
        )
    how: dict[str, Any] = {"mininterval": EVERY, "maxinterval": EVERY, "miniters": 1}
    return Bar(
        over,
        description,
        total,
        unit=unit,
        leave=False,
        initial=initial,
        file=_Lines(sys.stderr),
        bar_format=_UNKNOWN if total is None and not hasattr(over, "__len__") else _LINE,
        delay=EVERY,
        **how,
    )


@contextmanager
def beating(text: str, show: bool) -> Iterator[None]:
    """Say every half minute that something without steps, such as clustering, goes on."""
    if not show:
        yield
        return
    done = threading.Event()

    def beat() -> None:
        seconds = EVERY
        while not done.wait(EVERY):
            say(f"{text}, for {in_words(seconds)} so far")
            seconds += EVERY

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def in_words(seconds: float) -> str:
    """A duration to read: "40 s", "12 min", "3 h 20 min", "2 days 5 h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"
