"""Connections that cannot be held for nothing: time limits for heads and answers, and a most.

uvicorn has a limit for idle connections only. A client that sends half a request head, or reads
no answer, would keep its connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Limits(NamedTuple):
    """What a connection may take.

    head: seconds for the head of a request, from its first byte or from connecting; unread:
    seconds an answer may wait for its client to read; most: connections at once.
    """

    head: float = 10.0
    unread: float = 30.0
    most: int = 512


class LimitedConnection(H11Protocol):
    """uvicorn's connection, closed where it takes more than the limits."""

    limits: ClassVar[Limits] = Limits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's; beyond the most, the one that has waited longest for a head is closed."""
        super().connection_made(transport)
        self._head: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._dropped = False
        self._began = self.loop.time()
        self._time_head()
        if sum(not one._dropped for one in self._all()) > self.limits.most:
            waiting = [one for one in self._all() if one.waits and one is not self]
            min(waiting, key=lambda one: one._began, default=self).drop()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's."""
        super().data_received(data)
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._dropped = True
        for timer in (self._head, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """As uvicorn's; the client has some time to read."""
        super().pause_writing()
        self._unread = self.loop.call_later(self.limits.unread, self.drop)

    def resume_writing(self) -> None:
        """As uvicorn's."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    @property
    def waits(self) -> bool:
        """Whether no answer is being made here: no whole head has come, or it is answered."""
        answered = self.conn.our_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)
        idle = self.conn.their_state is h11.IDLE or answered or self.transport.is_closing()
        return idle and not self._dropped

    def drop(self) -> None:
        """Close it at once, whatever is still to be sent."""
        self._dropped = True
        self.transport.abort()

    def _all(self) -> list[LimitedConnection]:
        return [one for one in self.connections if isinstance(one, LimitedConnection)]

    def _time_head(self) -> None:
        """Begin or end the time of a head, or of the rest of a body that is answered already.

        More of the same does not prolong it.
        """
        if not self.waits:
            if self._head is not None:
                self._head.cancel()
                self._head = None
        elif self._head is None:
            self._began = self.loop.time()
            self._head = self.loop.call_later(self.limits.head, self.drop)
