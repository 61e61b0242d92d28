"""Who is logged in, and how fast tokens may be tried."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple

IDLE, LONGEST = 30 * 60.0, 12 * 3600.0  # seconds without a request, and in all, of a session
SESSIONS = 1000
FREE = 5  # wrong tokens of one address that cost no time
SLOWEST = 60.0  # seconds between two tries of one address
IN_ALL = 100  # wrong tokens a minute, of all addresses
LOGGED = 10  # of them a minute that get a line of the log
FORGOTTEN = 3600.0  # seconds without a wrong token after which an address begins anew
ADDRESSES = 10_000

Clock = Callable[[], float]


class Sessions:
    """The sessions of this process, in memory: a restart ends them all."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[bytes, tuple[float, float]] = OrderedDict()  # began, last used

    def open(self) -> str:
        """Begin a session: the random id that its browser keeps."""
        made, now = secrets.token_urlsafe(32), self._clock()
        with self._lock:
            self._open[_digest(made)] = (now, now)
            while len(self._open) > SESSIONS:
                self._open.popitem(last=False)
        return made

    def knows(self, given: str) -> bool:
        """Whether this is the id of a session; it is used with that."""
        key, now = _digest(given), self._clock()
        with self._lock:
            began, used = self._open.get(key, (-math.inf, -math.inf))
            if now - began > LONGEST or now - used > IDLE:
                self._open.pop(key, None)
                return False
            self._open[key] = (began, now)
        return True

    @staticmethod
    def name_of(given: str) -> str:
        """What a session is called on this side, which does not tell its id."""
        return _digest(given).hex()

    def close(self, given: str) -> bool:
        """End a session: whether there was one."""
        with self._lock:
            return self._open.pop(_digest(given), None) is not None


def _digest(given: str) -> bytes:
    """What is looked up instead of an id, so that the time of it tells nothing of the id."""
    return hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()


class Tried(NamedTuple):
    """What came of a token.

    right: whether it is the token; wait: seconds until one may be tried, above 0 where this one
    was not looked at; failures: how many wrong ones are to be written into the log now.
    """

    right: bool
    wait: int = 0
    failures: int = 0


class Throttle:
    """Slows down who sends wrong tokens: each address, and all together."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, the last
        self._minute: deque[float] = deque()
        self._logged: deque[float] = deque()
        self._unlogged = 0

    def attempt(self, address: str, right: Callable[[], bool]) -> Tried:
        """Try a token, if its address may.

        Args:
            address: where it comes from.
            right: compares the token.
        """
        now, key = self._clock(), _network(address)
        with self._lock:
            wait = max(self._wait(key, now), self._wait_in_all(now))
            if wait > 0:
                return Tried(False, math.ceil(wait))
            if right():
                self._wrong.pop(key, None)
                return Tried(True)
            count, last = self._wrong.pop(key, (0, now))
            self._wrong[key] = (count + 1 if now - last < FORGOTTEN else 1, now)
            if len(self._wrong) > ADDRESSES:
                self._wrong.popitem(last=False)
            self._minute.append(now)
            return Tried(False, failures=self._to_log(now))

    def _wait(self, key: str, now: float) -> float:
        count, last = self._wrong.get(key, (0, now))
        if count < FREE or now - last > FORGOTTEN:
            return 0
        return last + min(2.0 ** min(count - FREE, 10), SLOWEST) - now

    def _wait_in_all(self, now: float) -> float:
        _drop_old(self._minute, now)
        return self._minute[0] + 60 - now if len(self._minute) >= IN_ALL else 0

    def _to_log(self, now: float) -> int:
        _drop_old(self._logged, now)
        self._unlogged += 1
        if len(self._logged) >= LOGGED:
            return 0
        self._logged.append(now)
        count, self._unlogged = self._unlogged, 0
        return count


def _drop_old(times: deque[float], now: float) -> None:
    while times and now - times[0] > 60:
        times.popleft()


def _network(address: str) -> str:
    """What counts as one address: of IPv6 the network that one customer has."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
