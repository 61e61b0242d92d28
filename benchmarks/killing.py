"""Processes that are killed with SIGKILL: what `kills.py` and `faults.py` share."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

Point = tuple[Any, str]  # a class or module, and the name of one of its functions
# tqdm's own lock is a semaphore that forked processes share: one killed while it holds it would
# let all others wait for ever.
tqdm.set_lock(threading.RLock())


def forked(
    work: Callable[[], object],
    environment: Mapping[str, str] = {},
    expected: Mapping[type[BaseException], int] = {},
) -> int:
    """Do something in a copy of this process; its number.

    Args:
        work: what to do.
        environment: variables that are set before.
        expected: exit codes of exceptions that are no error; others are printed, and the code is 1.
    """
    child = os.fork()
    if child:
        return child
    os.environ |= environment
    try:
        work()
    except BaseException as error:
        code = next((code for kind, code in expected.items() if isinstance(error, kind)), None)
        if code is None:
            traceback.print_exc()
        os._exit(1 if code is None else code)
    os._exit(0)


def statuses(children: Sequence[int]) -> list[int]:
    """How each ended."""
    return [os.waitpid(child, 0)[1] for child in children]


def killing(
    points: Sequence[Point],
    last: int = 0,
    after: bool = False,
    counting: Callable[[], bool] = lambda: True,
) -> list[int]:
    """Count the calls of some functions; this process kills itself at the `last` one.

    Args:
        points: the functions.
        last: number of the call, from 1; 0 only counts.
        after: let that call return first.
        counting: whether calls are counted now.

    Returns:
        The count, in a list of one number that goes on growing.
    """
    count = [0]

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **named: Any) -> Any:
            counts = counting()
            count[0] += counts
            mine = counts and count[0] == last
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            found = real(*arguments, **named)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)
            return found

        return function

    for owner, name in points:
        setattr(owner, name, counted(getattr(owner, name)))
    return count
