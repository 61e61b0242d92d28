"""The HTTP API: search, refine, compare, and what the gallery holds.

Searches and comparisons answer with JSON, or with a part of a page if the page's own script asks
(`json_or_page`).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Path, Query, Request, Response
from fastapi import UploadFile as Sent
from fastapi.security import HTTPBearer
from pydantic import Json, TypeAdapter

from visir.core.types import FloatArray
from visir.web.middleware import COOKIE, too_many_tries
from visir.web.originals import GoneError
from visir.web.remembered import QueryImage
from visir.web.rendering import as_uri, encoded, layer
from visir.web.schemas import (
    AuditPage,
    CompareRequest,
    ComparisonView,
    GalleryFacts,
    Id,
    Item,
    ItemsRequest,
    Login,
    Problem,
    RefineRequest,
    Remark,
    SearchRequest,
    SearchResponse,
    SideView,
)
from visir.web.state import AppState, By, OnState, Requester, no_item, wants_page
from visir.web.uploads import MAX_IMAGES, Upload
from visir.web.views import item_of, logged

_JSON: dict[type, TypeAdapter[Any]] = {
    SearchResponse: TypeAdapter(SearchResponse),
    ComparisonView: TypeAdapter(ComparisonView),
}
ItemId = Annotated[Id, Path(description="a gallery image's id")]
Sends = Annotated[list[Sent], File(description="image files", max_length=MAX_IMAGES)]
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": why}
    for code, why in {
        400: "the request cannot be read",
        401: "a token is needed",
        403: "the request came from another page",
        413: "too many bytes at once",
        422: "the request cannot be fulfilled; the sentence says why",
        429: "too many requests at once; try again soon",
        503: "the gallery's database does not answer; try again soon",
    }.items()
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "there is no such thing"}
}
router = APIRouter(
    prefix="/api", responses=REFUSALS, dependencies=[Depends(HTTPBearer(auto_error=False))]
)


@router.post("/search", response_model=SearchResponse)
def search(
    request: Request, state: OnState, who: By, images: Sends,
    asked: Annotated[
        Json[SearchRequest] | None, Form(description="what to search for, as JSON")
    ] = None,
) -> Any:  # fmt: skip  # noqa: ANN401
    """Search the gallery for the person on images sent along."""
    uploads = read(state, images)
    if not uploads:
        raise HTTPException(422, "images: none was sent; send one to eight of one person")
    asked = asked or SearchRequest()
    queries = state.service.embed(uploads, asked.modality)
    response = state.service.search(queries, asked, who.by, who.owner)
    _log_search(state, who, "search", response)
    return json_or_page(request, state, response, "results.html", found=response)


@router.post("/search/items", response_model=SearchResponse)
def search_items(request: Request, state: OnState, who: By, wanted: ItemsRequest) -> Any:  # noqa: ANN401
    """Search the gallery for the person on images it has itself."""
    queries = state.service.images_of_items(wanted.items)
    response = state.service.search(queries, wanted.asked, who.by, who.owner)
    _log_search(state, who, "search", response)
    return json_or_page(request, state, response, "results.html", found=response)


@router.post("/refine", response_model=SearchResponse)
def refine(request: Request, state: OnState, who: By, wanted: RefineRequest) -> Any:  # noqa: ANN401
    """Search again with images that were marked as hits and misses."""
    response = state.service.refine(wanted, who.by, who.owner)
    _log_search(state, who, "refine", response)
    return json_or_page(request, state, response, "results.html", found=response)


@router.post("/compare", response_model=ComparisonView)
def compare(
    request: Request, state: OnState, who: By,
    asked: Annotated[
        Json[CompareRequest] | None, Form(description="which images, as JSON")
    ] = None,
    images: Annotated[list[Sent], File(description="image files", max_length=2)] = [],  # noqa: B006
) -> Any:  # fmt: skip  # noqa: ANN401
    """Compare two images, and show which parts make them similar."""
    pair = asked or CompareRequest()
    found, queries = state.service.compare(read(state, images), pair)
    sides = [_side_view(image, drops) for image, drops in zip(queries, found.maps, strict=True)]
    response = ComparisonView(
        (sides[0], sides[1]), found.score, found.cosine, state.service.threshold
    )
    sent = [side.sha256 for side in sides if side.sha256]
    state.log(who, "compare", items=pair.items, images=sent, score=round(response.score, 4))
    pictures = [
        (
            side,
            None if image.picture is None else as_uri(encoded(image.picture, state.blur)),
            None if drops is None else as_uri(layer(drops)),
        )
        for side, image, drops in zip(sides, queries, found.maps, strict=True)
    ]
    return json_or_page(
        request, state, response, "comparison.html",
        comparison=response, both=pictures, searched=pair.searched,
    )  # fmt: skip


@router.get("/remarks", response_model=list[Remark])
def remarks(
    state: OnState,
    item: Annotated[list[Id], Query(max_length=200, description="gallery images' ids")] = [],  # noqa: B006
) -> list[Remark]:
    """Which of some gallery images are poor crops of a person, by their thumbnails."""
    found = ((one, state.service.poor(one)) for one in dict.fromkeys(item))
    return [Remark(one, words) for one, words in found if words]


@router.get("/items/{item}", response_model=Item, responses=MISSING)
def get_item(state: OnState, item: ItemId) -> Item:
    """What is known of a gallery image."""
    return state.item(item)


@router.get(
    "/items/{item}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "a small JPEG"}, **MISSING},
)
def get_thumbnail(state: OnState, item: ItemId) -> Response:
    """A small picture of a gallery image, encoded again."""
    jpeg = state.picture(item)
    if jpeg is None:
        raise HTTPException(404, f"the gallery has no picture of image {item}")
    return Response(jpeg, media_type="image/jpeg")


@router.post(
    "/items/{item}/original",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": {}}, "description": "a JPEG of the file's size"},
        **MISSING,
    },
)
def open_original(state: OnState, who: By, item: ItemId) -> Response:
    """The file of a gallery image at its full size, encoded again, where it is still there."""
    try:
        jpeg = state.service.original(item, state.blur)
    except GoneError as error:
        raise HTTPException(404, str(error)) from None
    if jpeg is None:
        raise no_item(item)
    state.log(who, "open original", item=item)
    return Response(jpeg, media_type="image/jpeg")


@router.delete("/items/{item}", status_code=204, responses=MISSING)
def delete_item(state: OnState, who: By, item: ItemId) -> None:
    """Delete a gallery image, its vector and its thumbnail; cases keep their pictures of it."""
    known = state.item(item)
    state.log(who, "delete image", item=item, source=known.source, camera=known.camera)
    state.store.remove([item])
    state.service.changed()


@router.get("/gallery", response_model=GalleryFacts)
def gallery(state: OnState) -> GalleryFacts:
    """What the gallery holds."""
    return state.service.facts()


@router.get("/audit", response_model=AuditPage)
def audit(
    state: OnState,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="a line's number")] = None,
    count: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """The last lines of the audit log, newest first, and whether its chain is whole."""
    return state.case_store.audit_page(before, count)


@router.post("/login", status_code=204)
def login(request: Request, state: OnState, who: By, given: Login) -> Response:
    """Exchange the token for the cookie of a session, which opens the pages."""
    rules = state.rules
    tried = rules.try_token(given.token, who.remote)
    if tried.wait:
        why = too_many_tries(tried.wait)
        raise HTTPException(why.status, why.sentence, dict(why.headers))
    if not tried.right:
        state.log_refused(who.remote, tried.failures)
        raise HTTPException(401, "this is not the token; it is printed where the server starts")
    state.log(who, "log in")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE, rules.sessions.open(), path=rules.root or "/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.post("/logout", status_code=204)
def logout(request: Request, state: OnState, who: By) -> Response:
    """End the session."""
    if state.rules.sessions.close(request.cookies.get(COOKIE, "")):
        state.log(who, "log out")
        state.service.searches.forget(who.owner)
    response = Response(status_code=204)
    response.delete_cookie(
        COOKIE, path=state.rules.root or "/", httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


def read(state: AppState, images: list[Sent]) -> list[Upload]:
    """The images that were sent."""
    return state.service.read([image.file.read() for image in images])


def json_or_page(
    request: Request,
    state: AppState,
    response: object,
    template: str,
    **values: Any,  # noqa: ANN401
) -> object:
    """JSON for programs; a part of a page, made from a template, for the page's own script.

    JSON is written here, at once: FastAPI would check every field of its own answer again.
    """
    if wants_page(request):
        return state.page(template, **values)
    return Response(_JSON[type(response)].dump_json(response), media_type="application/json")


def _side_view(image: QueryImage, drops: FloatArray | None) -> SideView:
    query = image.query
    item = None if query.item is None else item_of(query.item)
    rows = None if drops is None else tuple(tuple(map(float, row)) for row in drops)
    return SideView(query.modality.value, item, image.sha256, rows)


def _log_search(state: AppState, who: Requester, action: str, response: SearchResponse) -> None:
    state.log(who, action, **logged(response))
