"""What every request works with, and who sends it."""

from __future__ import annotations

from typing import Annotated, NamedTuple
from urllib.parse import unquote

from fastapi import Depends, Header, HTTPException, Request
from starlette.responses import HTMLResponse

from visir.gallery.store import Store
from visir.web.audit import Stamp
from visir.web.case_store import CaseStore, displayed
from visir.web.middleware import COOKIE, Rules, address_of
from visir.web.rendering import leaving, render
from visir.web.schemas import Case, Item
from visir.web.service import SearchService

OPERATOR = "X-Visir-Operator"


class Requester(NamedTuple):
    """Who sends a request: the name they give, and the address they send from.

    owner: whose recent searches the page shows: the session, or everybody where nobody logs in;
    None of programs, which have no such list.
    """

    by: str
    remote: str
    owner: str | None = None


class AppState(NamedTuple):
    """The parts of a server; blur: heads are pixelated wherever a picture leaves it."""

    service: SearchService
    case_store: CaseStore
    rules: Rules
    blur: bool

    @property
    def store(self) -> Store:
        """The gallery."""
        return self.service.store

    def log(self, who: Requester, action: str, **what: object) -> Stamp:
        """Write a line of the audit log, before anything is answered."""
        return self.case_store.audit.append(action, who.by, who.remote, **what)

    def log_refused(self, remote: str, failures: int) -> None:
        """Write a line for tokens that were wrong, if it is time for one."""
        if failures:
            self.log(Requester("", remote), "login refused", times=failures)

    def item(self, item: int) -> Item:
        """What is known of a gallery image.

        Raises:
            HTTPException: it is not there.
        """
        found = self.service.item(item)
        if found is None:
            raise no_item(item)
        return found

    def picture(self, item: int) -> bytes | None:
        """A gallery image's thumbnail, encoded again; None if there is none."""
        jpeg = self.store.thumbnail(item)
        return None if jpeg is None else leaving(jpeg, f"image {item}", self.blur)

    def case(self, number: int) -> Case:
        """A case as it is stored.

        Raises:
            HTTPException: it is not there.
        """
        return existing(self.case_store.case(number), number)

    def displayed_case(self, number: int) -> Case:
        """A case as it may be displayed; raises as `case`."""
        return displayed(self.case(number), self.blur)

    def page(self, name: str, status: int = 200, **values: object) -> HTMLResponse:
        """A page, or a part of one."""
        rules = self.rules
        facts = {"csrf": rules.csrf, "closed": rules.token is not None, "root": rules.root}
        facts |= {"state": self}
        return HTMLResponse(render(name, **facts, **values), status)


def existing(case: Case | None, number: int) -> Case:
    """The case.

    Raises:
        HTTPException: there is none of that number.
    """
    if case is None:
        raise no_case(number)
    return case


def no_item(item: int) -> HTTPException:
    """The answer where the gallery has no image of that id."""
    return HTTPException(404, f"the gallery has no image {item}; it may be deleted")


def no_case(number: int) -> HTTPException:
    """The answer where there is no case of that number."""
    return HTTPException(404, f"there is no case {number}")


def _state(request: Request) -> AppState:
    state: AppState = request.app.state.visir
    return state


def _requester(
    request: Request,
    operator: Annotated[
        str, Header(alias=OPERATOR, max_length=400, description="your name, percent-encoded")
    ] = "",
) -> Requester:
    name = "".join(letter for letter in unquote(operator) if letter.isprintable())
    return Requester(name.strip()[:80], address_of(request), _owner(request))


def _owner(request: Request) -> str | None:
    cookie, rules = request.cookies.get(COOKIE, ""), _state(request).rules
    if rules.token is None:
        return "everybody" if wants_page(request) else None
    return rules.sessions.name_of(cookie) if rules.sessions.knows(cookie) else None


def wants_page(request: Request) -> bool:
    """Whether the page's own script asks: it wants a part of a page instead of JSON."""
    return "text/html" in request.headers.get("accept", "")


OnState = Annotated[AppState, Depends(_state)]
By = Annotated[Requester, Depends(_requester)]
