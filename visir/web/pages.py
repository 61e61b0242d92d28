"""The pages; what a user does on them goes through the API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse

from visir.gallery.store import Filter
from visir.web.rendering import bars, over_time
from visir.web.routes_api import ItemId
from visir.web.routes_cases import CaseId
from visir.web.schemas import Id, Line
from visir.web.sentences import days, searched
from visir.web.state import By, OnState
from visir.web.timeline import timeline
from visir.web.views import as_json, item_of, logged

PAGE = 48  # images on a page of the gallery
RECENT = 6  # searches, and cases, on the start page
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def start(
    state: OnState,
    who: By,
    item: Annotated[list[Id], Query(max_length=8)] = [],  # noqa: B006
    search: Line = "",
) -> HTMLResponse:
    """The search page; item: images of the gallery to start with; search: one to show again."""
    found = state.service.again(search, who.owner) if search else None
    queries = () if found is None else found.search.queries
    wanted = [*item, *(query.item for query in queries if query.item is not None)]
    known = state.store.get(wanted)
    recent = state.service.searches.of(who.owner, RECENT)
    return state.page(
        "search.html",
        cameras=list(state.service.stats().by_camera),
        items=[item_of(known[one]) for one in wanted if one in known],
        found=found,
        asked=None if found is None else as_json(found.search.asked),
        searches=[(one.search, searched(logged(one))) for one in recent],
        cases=state.case_store.recent(RECENT),
    )


@router.get("/cases")
def cases(state: OnState) -> HTMLResponse:
    """All cases."""
    return state.page("cases.html", cases=state.case_store.summaries())


@router.get("/cases/{number}")
def case(state: OnState, number: CaseId) -> HTMLResponse:
    """One case."""
    found = state.displayed_case(number)
    return state.page("case.html", case=found, plan=timeline(found))


@router.get("/gallery")
def gallery(
    state: OnState,
    camera: Line = "",
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> HTMLResponse:
    """What the gallery holds, and its images."""
    stats = state.service.stats()
    part = Filter(cameras=(camera,)) if camera else Filter()
    found = state.store.select(part, PAGE + 1, after)
    return state.page(
        "gallery.html",
        gallery=state.service.facts(),
        by_camera=bars(stats.by_camera),
        by_modality=bars(stats.by_modality),
        by_time=over_time(state.store, stats),
        items=[item_of(one) for one in found[:PAGE]],
        more=found[PAGE - 1].id if len(found) > PAGE else None,
        camera=camera,
        after=after,
    )


@router.get("/items/{item}")
def item(state: OnState, item: ItemId) -> HTMLResponse:
    """One image of the gallery."""
    return state.page("item.html", item=state.item(item))


@router.get("/audit")
def audit(
    state: OnState, before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None
) -> HTMLResponse:
    """The audit log."""
    log = state.case_store.audit_page(before)
    return state.page("audit.html", log=log, days=days(log.entries))


@router.get("/login", response_model=None)
def login(state: OnState) -> HTMLResponse | RedirectResponse:
    """The login form."""
    if state.rules.token is None:
        return RedirectResponse(f"{state.rules.root}/", 303)
    return state.page("login.html")
