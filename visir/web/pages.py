"""The pages people look at; what they do goes through the API."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse, RedirectResponse

from visir.gallery.store import Where
from visir.web import routes_api, routes_cases
from visir.web.bars import bars, over_time
from visir.web.case_store import MOST_KEPT
from visir.web.schemas import Id, Line
from visir.web.service import item_of
from visir.web.state import OnBench

PAGE = 48  # images on a page of the gallery
router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/")
def search(bench: OnBench, item: Annotated[list[Id], Query(max_length=8)] = []) -> HTMLResponse:  # noqa: B006
    """Where one searches; item: images of the gallery to begin with."""
    cameras = list(bench.finder.stats().by_camera)
    known = bench.store.get(item)
    items = [item_of(known[one]) for one in item if one in known]
    return bench.page("search.html", cameras=cameras, items=items)


@router.get("/cases")
def cases(bench: OnBench) -> HTMLResponse:
    """All cases."""
    return bench.page("cases.html", cases=routes_cases.list_cases(bench))


@router.get("/cases/{number}")
def case(bench: OnBench, number: routes_cases.CaseId) -> HTMLResponse:
    """One case."""
    return bench.page("case.html", case=routes_cases.get_case(bench, number), most=MOST_KEPT)


@router.get("/gallery")
def gallery(
    bench: OnBench,
    camera: Line = "",
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> HTMLResponse:
    """What the gallery holds, and its images."""
    stats = bench.finder.stats()
    part = Where(cameras=(camera,)) if camera else Where()
    found = bench.store.select(part, PAGE + 1, after)
    return bench.page(
        "gallery.html",
        gallery=routes_api.gallery(bench),
        by_camera=bars(stats.by_camera),
        by_modality=bars(stats.by_modality),
        by_time=over_time(bench.store, stats),
        items=[item_of(one) for one in found[:PAGE]],
        more=found[PAGE - 1].id if len(found) > PAGE else None,
        camera=camera,
        after=after,
    )


@router.get("/items/{item}")
def item(bench: OnBench, item: routes_api.ItemId) -> HTMLResponse:
    """One image of the gallery."""
    return bench.page("item.html", item=routes_api.get_item(bench, item))


@router.get("/audit")
def audit(
    bench: OnBench, before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None
) -> HTMLResponse:
    """The audit log."""
    return bench.page("audit.html", log=routes_api.audit(bench, before))


@router.get("/login", response_model=None)
def login(bench: OnBench) -> HTMLResponse | RedirectResponse:
    """Where the token is given."""
    if bench.rules.token is None:
        return RedirectResponse("/", 303)
    return bench.page("login.html")
