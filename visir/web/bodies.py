"""Bodies of requests: read whole before anything is done, with limits of size, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from starlette.datastructures import Headers
from starlette.types import Message, Receive

UPLOADS, TEXTS = 32 * 2**20, 256 * 2**10  # bytes of a body: with images, without
PATIENCE = 30.0  # seconds between two parts of a body, and for the first bytes of it
RATE = 32 * 2**10  # bytes a second that a body of many parts has to arrive with
HELD = 256 * 2**20  # bytes of all bodies at once


class Refusal(NamedTuple):
    """Why a request is not answered; failures: wrong tokens that are to be written into the log."""

    status: int
    sentence: str
    headers: Mapping[str, str] = MappingProxyType({})
    failures: int = 0


class Refused(Exception):  # noqa: N818 - no error of this program
    """A body that is not taken; why: None where the client has left."""

    def __init__(self, why: Refusal | None) -> None:
        super().__init__(why)
        self.why = why


class Bodies:
    """The bodies that are arriving or being worked on; held: their bytes."""

    def __init__(self) -> None:
        self.held = 0

    async def read(self, receive: Receive, most: int, keep: bool = True) -> bytes:
        """The whole body of a request, to be given back with `free`; nothing unless `keep`.

        Args:
            receive: of the request.
            most: bytes it may have.
            keep: False reads and drops it, so that its client can read an answer.

        Raises:
            Refused: it is too long or too slow, or there is no memory for it.
        """
        parts, length, more = list[bytes](), 0, True
        began = asyncio.get_running_loop().time()
        try:
            while more:
                message = await _next(receive, began, length)
                part = message.get("body", b"")
                more, length = message.get("more_body", False), length + len(part)
                if length > most:
                    raise Refused(too_large(most))
                if keep and part:
                    parts.append(part)
                    self.held += len(part)
                if self.held > HELD:
                    raise Refused(busy("too many images are being sent at once", 5))
        except BaseException:
            self.free(sum(map(len, parts)))
            raise
        return b"".join(parts)

    def free(self, length: int) -> None:
        """Give the memory of a body back."""
        self.held -= length


async def _next(receive: Receive, began: float, length: int) -> Message:
    """The next part of a body of which `length` bytes have come."""
    left = began + PATIENCE + length / RATE - asyncio.get_running_loop().time()
    try:
        message = await asyncio.wait_for(receive(), min(PATIENCE, left))
    except TimeoutError:
        sentence = "the request arrives too slowly or stopped arriving; send it again"
        raise Refused(Refusal(408, sentence, {"Connection": "close"})) from None
    if message["type"] == "http.disconnect":
        raise Refused(None)
    return message


def replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read, as an application receives it."""
    rest = [body]

    async def receiving() -> Message:
        if rest:
            return {"type": "http.request", "body": rest.pop(), "more_body": False}
        return await receive()

    return receiving


def most_bytes(headers: Headers) -> int:
    """How long a body may be."""
    images = headers.get("content-type", "").lower().startswith("multipart/")
    return UPLOADS if images else TEXTS


def too_large(most: int) -> Refusal:
    """The answer to a body that is too long."""
    size = f"{most // 2**20} MB" if most >= 2**20 else f"{most // 2**10} kB"
    return Refusal(413, f"more than {size} were sent at once; send fewer or smaller images")


def busy(what: str, seconds: int) -> Refusal:
    """The answer where a request would have to wait too long."""
    return Refusal(429, f"{what}; try again soon", {"Retry-After": str(seconds)})
