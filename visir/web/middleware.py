"""The guard every request passes first: it checks host, size, token, origin and load.

Pure ASGI, so that bodies are counted while they arrive, whatever their headers say.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UPLOADS, TEXTS = 32 * 2**20, 256 * 2**10  # bytes of a body: with images, without
AT_ONCE = 32  # requests that may need the network or the gallery's vectors
PATIENCE = 30  # seconds between two parts of a body
COOKIE, CSRF = "visir", "X-Visir-CSRF"
OPEN = ("/login", "/api/login")  # and /static/: what is shown without a token
SAFE = ("GET", "HEAD")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",  # pictures of people do not stay on a visitor's disk
}


class Refusal(NamedTuple):
    """Why a request is not answered."""

    status: int
    sentence: str
    headers: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Rules:
    """Who may send requests.

    host: the name or address the server listens on; token: the access token, None if only this
    machine can connect; csrf: what pages of this process send along.
    """

    host: str
    token: str | None
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(18))

    @property
    def cookie(self) -> str:
        """What a browser keeps instead of the token, after the login."""
        return hmac.new((self.token or "").encode(), b"visir page", hashlib.sha256).hexdigest()

    def knows_token(self, given: str) -> bool:
        """Whether this is the token."""
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def refusal(self, request: Request) -> Refusal | None:
        """Why a request is refused before its body is read; None if it is not refused."""
        if not _host_is_right(request.headers.get("host", ""), self.host):
            return Refusal(400, "this server does not have that name; open it by its address")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most_bytes(request.headers):
            return too_large(request.headers)
        bearer = self._bearer(request)
        if self.token is not None and not bearer and not self._known(request):
            return Refusal(
                401, "a token is needed; send it as Authorization: Bearer, or log in at /login",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        if request.method not in SAFE and not bearer and not self._same_site(request):
            return Refusal(403, "this request came from another page; reload this page")
        return None

    def _bearer(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self.knows_token(given.strip())

    def _known(self, request: Request) -> bool:
        path = request.url.path
        if path in OPEN or path.startswith("/static/"):
            return True
        given = request.cookies.get(COOKIE, "")
        return hmac.compare_digest(given.encode(), self.cookie.encode())

    def _same_site(self, request: Request) -> bool:
        """Whether no page of another site can have sent this: browsers always name the origin."""
        headers = request.headers
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return False
        if site not in (None, "same-origin"):
            return False
        if CSRF.lower() in headers:
            return hmac.compare_digest(headers[CSRF].encode(), self.csrf.encode())
        return self.token is None and origin is None and site is None and "cookie" not in headers


class Guard:
    """An ASGI application around another one, which passes on what the rules allow.

    Args:
        app: what answers.
        rules: who may ask.
        refuse: makes the answer to a request that is refused.
    """

    def __init__(
        self, app: ASGIApp, rules: Rules, refuse: Callable[[Request, Refusal], Response]
    ) -> None:
        self.app, self.rules, self.refuse = app, rules, refuse
        self.busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, send = Request(scope), _with_headers(send)
        refusal = self.rules.refusal(request) or self._load(request)
        if refusal is not None:
            if refusal.status != 413:
                with suppress(TimeoutError):
                    await asyncio.wait_for(_drain(receive, most_bytes(request.headers)), PATIENCE)
            await self.refuse(request, refusal)(scope, receive, send)
            return
        counted = request.method not in SAFE
        self._count(counted, 1)
        try:
            await self.app(scope, _counting(receive, request.headers), send)
        finally:
            self._count(counted, -1)

    def _count(self, counted: bool, change: int) -> None:
        if counted:
            self.busy += change

    def _load(self, request: Request) -> Refusal | None:
        if request.method in SAFE or self.busy < AT_ONCE:
            return None
        return Refusal(503, "too many searches at once; try again soon", {"Retry-After": "2"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def most_bytes(headers: Headers) -> int:
    """How long a body may be."""
    images = headers.get("content-type", "").lower().startswith("multipart/")
    return UPLOADS if images else TEXTS


def too_large(headers: Headers) -> Refusal:
    """The answer to a body that is too long."""
    most = most_bytes(headers)
    size = f"{most // 2**20} MB" if most >= 2**20 else f"{most // 2**10} kB"
    return Refusal(413, f"more than {size} were sent at once; send fewer or smaller images")


def _host_is_right(given: str, host: str) -> bool:
    """Whether a Host header is one a page of this server has.

    A page elsewhere can have its own name point here (DNS rebinding), but not an address, nor a
    name this machine has.
    """
    try:
        name = urlsplit(f"//{given}").hostname or ""
        if "@" in given or "/" in given:
            return False
    except ValueError:
        return False
    if name in ("localhost", host.lower(), socket.gethostname().lower()):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            own = ((name.lower().encode(), text.encode()) for name, text in _HEADERS.items())
            added = [(name, text) for name, text in own if name not in given]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending


def _counting(receive: Receive, headers: Headers) -> Receive:
    """Receive a body up to its limit; a longer or too slow one is aborted."""
    most, length, whole = most_bytes(headers), 0, False

    async def receiving() -> Message:
        nonlocal length, whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), PATIENCE)
        except TimeoutError:
            raise HTTPException(408, "the request stopped arriving; send it again") from None
        length += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if length > most:
            raise HTTPException(413, too_large(headers).sentence)
        return message

    return receiving


async def _drain(receive: Receive, most: int) -> None:
    """Read what a client is still sending, so that it can read the answer."""
    left, more = most, True
    while more and left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        more = message.get("more_body", False)
