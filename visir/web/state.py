"""What every request works with, and who asks."""

from __future__ import annotations

from typing import Annotated, NamedTuple
from urllib.parse import unquote

from fastapi import Depends, Header, Request
from starlette.responses import HTMLResponse

from visir.gallery.store import Store
from visir.web.audit import Stamp
from visir.web.case_store import Desk
from visir.web.markup import render
from visir.web.middleware import Rules
from visir.web.pictures import encoded, opened
from visir.web.service import Finder

OPERATOR = "X-Visir-Operator"


class Who(NamedTuple):
    """Who asks: the name they give, and the address they ask from."""

    by: str
    remote: str


class Bench(NamedTuple):
    """The parts of a server; blur: heads are pixelated wherever a picture leaves it."""

    finder: Finder
    desk: Desk
    rules: Rules
    blur: bool

    @property
    def store(self) -> Store:
        """The gallery."""
        return self.finder.store

    def log(self, who: Who, action: str, **what: object) -> Stamp:
        """Write a line of the audit log, before anything is answered."""
        return self.desk.audit.append(action, who.by, who.remote, **what)

    def picture(self, item: int) -> bytes | None:
        """A gallery image's thumbnail, encoded anew; None where there is none."""
        jpeg = self.store.thumbnail(item)
        return None if jpeg is None else encoded(opened(jpeg), self.blur)

    def page(self, name: str, status: int = 200, **values: object) -> HTMLResponse:
        """A page, or a part of one."""
        facts = {"bench": self, "csrf": self.rules.csrf, "closed": self.rules.token is not None}
        return HTMLResponse(render(name, **facts, **values), status)


def _bench(request: Request) -> Bench:
    bench: Bench = request.app.state.bench
    return bench


def _who(
    request: Request,
    operator: Annotated[
        str, Header(alias=OPERATOR, max_length=400, description="your name, percent-encoded")
    ] = "",
) -> Who:
    name = "".join(letter for letter in unquote(operator) if letter.isprintable())
    return Who(name.strip()[:80], request.client.host if request.client else "")


def wants_page(request: Request) -> bool:
    """Whether the page's own script asks: it wants a part of a page instead of JSON."""
    return "text/html" in request.headers.get("accept", "")


OnBench = Annotated[Bench, Depends(_bench)]
By = Annotated[Who, Depends(_who)]
