"""Images older than the retention period are deleted, unless the clock may be wrong."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from visir.core.types import InputError
from visir.gallery.store import DoubtfulClockError
from visir.web.state import AppState, Requester

HOUR = 3600.0
_LOG = logging.getLogger("visir.web")


class Watch:
    """Sees whether the clock went on as fast as time did since it was last asked.

    Args:
        clock: seconds since 1970, which somebody may set.
        steady: seconds since any moment, which nobody can set.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._steady = clock, steady
        self._last: tuple[float, float] | None = None

    def now(self) -> tuple[float, bool]:
        """The time, and whether it is as far from that of the last time as it must be.

        The first time, and after a sleep of the machine, it is not known.
        """
        now = (self._clock(), self._steady())
        last, self._last = self._last, now
        if last is None:
            return now[0], False
        return now[0], abs((now[0] - last[0]) - (now[1] - last[1])) < HOUR


async def forget_hourly(state: AppState) -> None:
    """Delete what is too old, now and every hour."""
    watch = Watch()
    while True:
        try:
            await asyncio.to_thread(forget, state, *watch.now())
        except InputError as error:
            _LOG.error("images older than the retention period were not deleted: %s", error)
        except Exception:
            _LOG.exception("images older than the retention period could not be deleted")
        await asyncio.sleep(HOUR)


def forget(state: AppState, now: float, steady: bool = False) -> int:
    """Delete images older than the retention period: how many, which is logged.

    Where it would be most of the images and the clock may be wrong, none is deleted; the log and
    the page of the gallery say so.

    Args:
        state: of the server.
        now: the time, in seconds since 1970.
        steady: the clock was not set since the last look, after which nothing was in doubt.
    """
    who, service = Requester("visir", ""), state.service
    try:
        gone = state.store.expire(now, sure=steady and service.doubt is None)
    except DoubtfulClockError as error:
        if service.doubt is None:
            state.log(who, "expiry refused", why=str(error))
            _LOG.warning("%s", error)
        service.doubt = str(error)
        return 0
    service.doubt = None
    if gone:
        state.log(who, "expire", images=gone)
        service.changed()
    return gone
