"""The HTTP API for finding people: search, refine, compare, and what the gallery holds."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Path, Query, Request, Response
from fastapi import UploadFile as Sent
from fastapi.security import HTTPBearer
from pydantic import Json, TypeAdapter

from visir import __version__
from visir.gallery.open import model_of
from visir.web.audit import entries, verify
from visir.web.compare import compared
from visir.web.middleware import COOKIE
from visir.web.pictures import as_uri, encoded, layer
from visir.web.schemas import (
    Asked,
    AskedItems,
    AuditEntry,
    AuditPage,
    Comparison,
    Found,
    GalleryFacts,
    Id,
    Item,
    Login,
    Pair,
    Problem,
    Refinement,
)
from visir.web.service import item_of, moment_of
from visir.web.state import Bench, By, OnBench, Who, wants_page
from visir.web.uploads import MOST_IMAGES, Upload

ItemId = Annotated[Id, Path(description="a gallery image's id")]
Sends = Annotated[list[Sent], File(description="image files", max_length=MOST_IMAGES)]
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": why}
    for code, why in {
        400: "the request cannot be read",
        401: "a token is needed",
        403: "the request came from another page",
        413: "too many bytes at once",
        422: "something asked for cannot be done; the sentence names it",
        503: "too many requests at once; try again soon",
    }.items()
}
MISSING: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "there is no such thing"}
}
router = APIRouter(
    prefix="/api", responses=REFUSALS, dependencies=[Depends(HTTPBearer(auto_error=False))]
)


@router.post("/search", response_model=Found)
def search(
    request: Request, bench: OnBench, who: By, images: Sends,
    asked: Annotated[Json[Asked] | None, Form(description="what to search for, as JSON")] = None,
) -> Any:  # fmt: skip  # noqa: ANN401
    """Search the gallery for the person on images sent along."""
    uploads = read(bench, images)
    if not uploads:
        raise HTTPException(422, "images: none was sent; send one to eight of one person")
    asked = asked or Asked()
    looks = bench.finder.look_at(uploads, asked.modality)
    return _answer(request, bench, who, "search", bench.finder.search(looks, asked, who.by))


@router.post("/search/items", response_model=Found)
def search_items(request: Request, bench: OnBench, who: By, wanted: AskedItems) -> Any:  # noqa: ANN401
    """Search the gallery for the person on images it has itself."""
    looks = bench.finder.look_up(wanted.items)
    return _answer(request, bench, who, "search", bench.finder.search(looks, wanted.asked, who.by))


@router.post("/refine", response_model=Found)
def refine(request: Request, bench: OnBench, who: By, wanted: Refinement) -> Any:  # noqa: ANN401
    """Search again with what somebody has marked as hits and misses."""
    return _answer(request, bench, who, "refine", bench.finder.refine(wanted, who.by))


@router.post("/compare", response_model=Comparison)
def compare(
    request: Request, bench: OnBench, who: By,
    asked: Annotated[Json[Pair] | None, Form(description="which images, as JSON")] = None,
    images: Annotated[list[Sent], File(description="image files", max_length=2)] = [],  # noqa: B006
) -> Any:  # fmt: skip  # noqa: ANN401
    """Compare two images, and tell which parts make them alike."""
    pair = asked or Pair()
    comparison, sides = compared(bench.finder, read(bench, images), pair)
    shas = [side.sha256 for side in comparison.sides if side.sha256]
    bench.log(who, "compare", items=pair.items, images=shas, score=round(comparison.score, 4))
    if not wants_page(request):
        return comparison
    pictures = [
        None if side.picture is None else as_uri(encoded(side.picture, bench.blur))
        for side in sides
    ]
    layers = [None if side.map is None else as_uri(layer(side.map)) for side in sides]
    both = list(zip(comparison.sides, pictures, layers, strict=True))
    return bench.page("comparison.html", comparison=comparison, both=both, searched=pair.searched)


@router.get("/items/{item}", response_model=Item, responses=MISSING)
def get_item(bench: OnBench, item: ItemId) -> Item:
    """What is known of a gallery image."""
    known = bench.store.get([item]).get(item)
    if known is None:
        raise HTTPException(404, f"the gallery has no image {item}; it may be deleted")
    return item_of(known)


@router.get(
    "/items/{item}/thumbnail",
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "a small JPEG"}, **MISSING},
)
def get_thumbnail(bench: OnBench, item: ItemId) -> Response:
    """A small picture of a gallery image, encoded anew."""
    jpeg = bench.picture(item)
    if jpeg is None:
        raise HTTPException(404, f"the gallery has no picture of image {item}")
    return Response(jpeg, media_type="image/jpeg")


@router.delete("/items/{item}", status_code=204, responses=MISSING)
def delete_item(bench: OnBench, who: By, item: ItemId) -> None:
    """Forget a gallery image, its vector and its thumbnail; cases keep what they have of it."""
    known = get_item(bench, item)
    bench.log(who, "delete image", item=item, source=known.source, camera=known.camera)
    bench.store.remove([item])
    bench.finder.changed()


@router.get("/gallery", response_model=GalleryFacts)
def gallery(bench: OnBench) -> GalleryFacts:
    """What the gallery holds."""
    stats, model = bench.finder.stats(), model_of(bench.finder.embedder)
    return GalleryFacts(
        name=bench.store.name,
        images=stats.images,
        by_camera=stats.by_camera,
        by_modality=stats.by_modality,
        earliest=moment_of(stats.earliest),
        latest=moment_of(stats.latest),
        bytes_on_disk=stats.bytes_on_disk,
        version=stats.version,
        retention=stats.retention,
        engine=stats.engine,
        method=model.method,
        fingerprint=model.fingerprint,
        calibrated=bench.finder.threshold is not None,
        visir=__version__,
    )


@router.get("/audit", response_model=AuditPage)
def audit(
    bench: OnBench,
    before: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="a line's number")] = None,
    count: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """The last lines of the audit log, newest first, and whether its chain is whole."""
    path = bench.desk.audit.path
    verdict = verify(path)
    lines = TypeAdapter(tuple[AuditEntry, ...]).validate_python(entries(path, before, count))
    return AuditPage(lines, *verdict)


@router.post("/login", status_code=204)
def login(request: Request, bench: OnBench, who: By, given: Login) -> Response:
    """Exchange the token for a cookie that pages are shown for."""
    if not bench.rules.knows_token(given.token):
        bench.log(who, "login refused")
        raise HTTPException(401, "this is not the token; it is printed where the server starts")
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE, bench.rules.cookie, max_age=12 * 3600, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return response


@router.post("/logout", status_code=204)
def logout() -> Response:
    """Take the cookie back."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def read(bench: Bench, images: list[Sent]) -> list[Upload]:
    """The images that were sent."""
    return bench.finder.read([image.file.read() for image in images])


def _answer(request: Request, bench: Bench, who: Who, action: str, found: Found) -> Any:  # noqa: ANN401
    search = found.search
    bench.log(
        who,
        action,
        search=search.id,
        queries=[query.sha256 or query.item for query in search.queries],
        asked=TypeAdapter(Asked).dump_python(search.asked, mode="json", exclude_defaults=True),
        hits=search.hits,
        misses=search.misses,
        searched=search.searched,
        found=[hit.item.id for hit in found.hits],
    )
    return bench.page("results.html", found=found) if wants_page(request) else found
