"""The guard every request passes first: it checks host, size, token, origin and load.

Pure ASGI, so that bodies are read and counted before anything works on them.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from visir.web.bodies import Bodies, Refusal, Refused, busy, most_bytes, replayed, too_large
from visir.web.proxies import Network, own_path, placed
from visir.web.sessions import Sessions, Throttle, Tried

AT_ONCE = 32  # requests that may need the network or the gallery's vectors
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


@dataclass(frozen=True)
class Rules:
    """Who may send requests.

    host: the name or address the server listens on; token: the access token, None if only this
    machine can connect; names: other names browsers reach it by; root: the path below which they
    do, see `visir.web.proxies.read_root`; proxies: whose X-Forwarded-For is believed; csrf: what
    pages of this process send along.
    """

    host: str
    token: str | None
    names: tuple[str, ...] = ()
    root: str = ""
    proxies: tuple[Network, ...] = ()
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    sessions: Sessions = field(default_factory=Sessions)
    throttle: Throttle = field(default_factory=Throttle)

    def try_token(self, given: str, address: str) -> Tried:
        """Compare a token, unless too many wrong ones came from this address."""
        return self.throttle.attempt(address, lambda: self._is_token(given))

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def refusal(self, request: Request) -> Refusal | None:
        """Why a request is refused before its body is read; None if it is not refused."""
        if not _host_is_right(request.headers.get("host", ""), (self.host, *self.names)):
            return Refusal(400, "this server does not have that name; open it by its address")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most_bytes(request.headers):
            return too_large(most_bytes(request.headers))
        bearer = self._bearer(request)
        if bearer.wait:
            return too_many_tries(bearer.wait)
        if self.token is not None and not bearer.right and not self._known(request):
            return Refusal(
                401, "a token is needed; send it as Authorization: Bearer, or log in at /login",
                {"WWW-Authenticate": "Bearer"}, bearer.failures,
            )  # fmt: skip
        if request.method not in SAFE and not bearer.right and not self._same_site(request):
            return Refusal(403, "this request came from another page; reload this page")
        return None

    def _bearer(self, request: Request) -> Tried:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if self.token is None or scheme.lower() != "bearer":
            return Tried(False)
        return self.try_token(given.strip(), address_of(request))

    def _known(self, request: Request) -> bool:
        path = own_path(request)
        if path in OPEN or path.startswith("/static/"):
            return True
        return self.sessions.knows(request.cookies.get(COOKIE, ""))

    def _same_site(self, request: Request) -> bool:
        """Whether no page of another site can have sent this: browsers always name the origin."""
        headers = request.headers
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None and _place_of(origin) != headers.get("host"):
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
        refuse: makes the answer to a request that is refused, in another thread.
    """

    def __init__(
        self, app: ASGIApp, rules: Rules, refuse: Callable[[Request, Refusal], Response]
    ) -> None:
        self.app, self.rules, self.refuse = app, rules, refuse
        self.bodies, self.busy = Bodies(), 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as ASGI has it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope = placed(scope, self.rules.root, self.rules.proxies)
        request, send = Request(scope), _with_headers(send)
        refusal = self.rules.refusal(request)
        try:
            if refusal is None:
                await self._pass_on(request, receive, send)
                return
            if refusal.status != 413:
                await self.bodies.read(receive, most_bytes(request.headers), keep=False)
        except Refused as refused:
            refusal = refused.why
        if refusal is not None:
            answer = await asyncio.to_thread(self.refuse, request, refusal)
            await answer(scope, receive, send)

    async def _pass_on(self, request: Request, receive: Receive, send: Send) -> None:
        """Answer a request that is allowed, once its body is there.

        Raises:
            Refused: the body is not taken, or too much is being worked on.
        """
        body = await self.bodies.read(receive, most_bytes(request.headers))
        length, counted = len(body), request.method not in SAFE
        try:
            if counted and self.busy >= AT_ONCE:
                raise Refused(busy("too many searches at once", 2))
            self.busy += counted
            try:
                await self.app(request.scope, replayed(body, receive), send)
            finally:
                self.busy -= counted
        finally:
            self.bodies.free(length)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens there."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def too_many_tries(wait: int) -> Refusal:
    """The answer to a token that is not looked at; wait: seconds."""
    sentence = f"too many wrong tokens; try again in {wait} second{'s' if wait > 1 else ''}"
    return Refusal(429, sentence, {"Retry-After": str(wait)})


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def _host_is_right(given: str, names: tuple[str, ...]) -> bool:
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
    if name in ("localhost", socket.gethostname().lower(), *map(str.lower, names)):
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _place_of(origin: str) -> str | None:
    """The host and port that an Origin header names; None if it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            own = ((name.lower().encode(), text.encode()) for name, text in _HEADERS.items())
            added = [(name, text) for name, text in own if name not in given]
            message = {**message, "headers": [*message["headers"], *added]}
        await send(message)

    return sending
