"""The HTTP API for cases: what somebody keeps of searches, with notes, and takes away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, HTTPException, Path, Response
from fastapi import UploadFile as Sent
from fastapi.security import HTTPBearer
from pydantic import Json

from visir.core.types import InputError
from visir.web.case_store import with_hits, with_note, without_hit
from visir.web.export import exported, shown
from visir.web.pictures import as_text, encoded, opened
from visir.web.routes_api import MISSING, REFUSALS, read
from visir.web.schemas import Case, CaseLine, Id, Keep, Kept, NewCase, Note, Search
from visir.web.state import Bench, By, OnBench
from visir.web.uploads import MOST_IMAGES, Upload

CaseId = Annotated[Id, Path(description="a case's number")]
HitId = Annotated[Id, Path(description="a kept image's number in its case")]
router = APIRouter(
    prefix="/api/cases",
    responses={**REFUSALS, **MISSING},
    dependencies=[Depends(HTTPBearer(auto_error=False))],
)


@router.get("", response_model=list[CaseLine])
def list_cases(bench: OnBench) -> list[CaseLine]:
    """All cases, the newest first."""
    return [
        CaseLine(case.id, case.name, case.by, case.created, len(case.kept))
        for case in bench.desk.cases()
    ]


@router.post("", response_model=Case, status_code=201)
def open_case(bench: OnBench, who: By, new: NewCase) -> Case:
    """Open a case."""
    case = bench.desk.open_case(new.name, who.by)
    bench.log(who, "open case", case=case.id, name=case.name)
    return case


@router.get("/{number}", response_model=Case)
def get_case(bench: OnBench, number: CaseId) -> Case:
    """A case with all it holds."""
    return shown(_there(bench.desk.case(number), number), bench.blur)


@router.delete("/{number}", status_code=204)
def delete_case(bench: OnBench, who: By, number: CaseId) -> None:
    """Forget a case and the pictures in it."""
    case = _there(bench.desk.case(number), number)
    bench.log(who, "delete case", case=number, name=case.name, kept=len(case.kept))
    bench.desk.drop_case(number)


@router.post("/{number}/hits", response_model=Case)
def keep_hits(
    bench: OnBench, who: By, number: CaseId,
    kept: Annotated[Json[Keep], Form(description="which hits of which search, as JSON")],
    images: Annotated[
        list[Sent],
        File(description="the query images, to be kept as well", max_length=MOST_IMAGES),
    ] = [],  # noqa: B006
) -> Case:  # fmt: skip
    """Keep hits of a search in a case; query images are kept only where they are sent again."""
    found = bench.finder.recall(kept.search).found
    search = _with_pictures(found.search, read(bench, images))
    hits = {hit.item.id: hit for hit in found.hits}
    for item in kept.items:
        if item not in hits:
            raise InputError(f"items: image {item} is not among the hits of this search")
    now = datetime.now(UTC)
    new = [
        Kept(
            0, hits[item].item, hits[item].rank, hits[item].score, hits[item].cosine,
            kept.note, who.by, now, search.id, _picture(bench, item),
        )
        for item in dict.fromkeys(kept.items)
    ]  # fmt: skip
    _there(bench.desk.case(number), number)
    bench.log(who, "keep", case=number, search=search.id, items=kept.items, queries=len(images))
    return _changed(bench, number, lambda case: with_hits(case, new, search))


@router.patch("/{number}/hits/{hit}", response_model=Case)
def note_hit(bench: OnBench, who: By, number: CaseId, hit: HitId, note: Note) -> Case:
    """Change the note of a kept image."""
    _require_kept(bench, number, hit)
    bench.log(who, "note", case=number, hit=hit)
    return _changed(bench, number, lambda case: with_note(case, hit, note.note))


@router.delete("/{number}/hits/{hit}", response_model=Case)
def drop_hit(bench: OnBench, who: By, number: CaseId, hit: HitId) -> Case:
    """Forget a kept image."""
    item = _require_kept(bench, number, hit)
    bench.log(who, "drop", case=number, hit=hit, item=item)
    return _changed(bench, number, lambda case: without_hit(case, hit))


@router.post(
    "/{number}/export",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "one self-contained page"}},
)
def export_case(bench: OnBench, who: By, number: CaseId) -> Response:
    """A case as one HTML file that needs nothing beside it, with where everything came from."""
    case = _there(bench.desk.case(number), number)
    stamp = bench.log(who, "export", case=number, name=case.name, kept=len(case.kept))
    return Response(
        exported(shown(case, bench.blur), who.by, stamp),
        media_type="text/html; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="case-{number}.html"'},
    )


def _there(case: Case | None, number: int) -> Case:
    if case is None:
        raise HTTPException(404, f"there is no case {number}")
    return case


def _changed(bench: Bench, number: int, change: Callable[[Case], Case]) -> Case:
    return shown(_there(bench.desk.change(number, change), number), bench.blur)


def _require_kept(bench: Bench, number: int, hit: int) -> int:
    """The gallery image a kept hit shows."""
    case = _there(bench.desk.case(number), number)
    for kept in case.kept:
        if kept.number == hit:
            return kept.item.id
    raise HTTPException(404, f"case {number} holds no image {hit}")


def _picture(bench: Bench, item: int) -> str | None:
    jpeg = bench.store.thumbnail(item)
    return None if jpeg is None else as_text(encoded(opened(jpeg)))


def _with_pictures(search: Search, uploads: Sequence[Upload]) -> Search:
    """A search with pictures of its query images, as far as they were sent again."""
    sent = {upload.sha256: upload for upload in uploads}
    if sent.keys() - {query.sha256 for query in search.queries}:
        raise InputError("images: one is not a query image of this search; send those again")
    queries = (
        replace(query, picture=as_text(encoded(sent[query.sha256].picture)))
        if query.sha256 in sent
        else query
        for query in search.queries
    )
    return replace(search, queries=tuple(queries))
