"""The HTTP API for cases: hits of searches that are kept, with notes, and exported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, File, Form, HTTPException, Path, Query, Response
from fastapi import UploadFile as Sent
from fastapi.security import HTTPBearer
from pydantic import Json

from visir.core.types import InputError
from visir.web.case_store import displayed, exported, with_hits, with_note, without_hit
from visir.web.rendering import as_text, encoded, opened
from visir.web.routes_api import MISSING, REFUSALS, read
from visir.web.schemas import (
    Case,
    CaseSummary,
    Id,
    KeepRequest,
    KeptHit,
    NewCase,
    Note,
    SearchRecord,
)
from visir.web.state import AppState, By, OnState, existing, no_case
from visir.web.uploads import MAX_IMAGES, Upload

CaseId = Annotated[Id, Path(description="a case's number")]
HitId = Annotated[Id, Path(description="a kept image's number in its case")]
router = APIRouter(
    prefix="/api/cases",
    responses={**REFUSALS, **MISSING},
    dependencies=[Depends(HTTPBearer(auto_error=False))],
)


@router.get("", response_model=list[CaseSummary])
def list_cases(state: OnState) -> list[CaseSummary]:
    """All cases, the newest first."""
    return state.case_store.summaries()


@router.post("", response_model=Case, status_code=201)
def open_case(state: OnState, who: By, new: NewCase) -> Case:
    """Open a case."""
    case = state.case_store.open_case(new.name, who.by)
    state.log(who, "open case", case=case.id, name=case.name)
    return case


@router.get("/{number}", response_model=Case)
def get_case(state: OnState, number: CaseId) -> Case:
    """A case with all it holds."""
    return state.displayed_case(number)


@router.delete("/{number}", status_code=204)
def delete_case(state: OnState, who: By, number: CaseId) -> None:
    """Delete a case and the pictures in it; a damaged one too."""
    case = state.case_store.summary(number)
    if case is None:
        raise no_case(number)
    state.log(who, "delete case", case=number, name=case.name, kept=case.kept)
    state.case_store.drop_case(number)


@router.delete("", status_code=204)
def delete_stray(
    state: OnState, who: By,
    file: Annotated[
        str, Query(max_length=2000, description="its name, as the list of cases has it")
    ],
) -> None:  # fmt: skip
    """Delete a file among the cases that is no case."""
    if file not in [case.file for case in state.case_store.summaries() if case.id == 0]:
        raise HTTPException(404, "among the cases is no file of this name that is no case")
    state.log(who, "delete stray file", file=file)
    state.case_store.drop_stray(file)


@router.post("/{number}/hits", response_model=Case)
def keep_hits(
    state: OnState, who: By, number: CaseId,
    kept: Annotated[Json[KeepRequest], Form(description="which hits of which search, as JSON")],
    images: Annotated[
        list[Sent],
        File(description="the query images, to be kept as well", max_length=MAX_IMAGES),
    ] = [],  # noqa: B006
) -> Case:  # fmt: skip
    """Keep hits of a search in a case; query images are kept only if they are sent again."""
    found = state.service.searches.recall(kept.search).response
    search = _with_pictures(found.search, read(state, images))
    hits = {hit.item.id: hit for hit in found.hits}
    for item in kept.items:
        if item not in hits:
            raise InputError(f"items: image {item} is not among the hits of this search")
    now = datetime.now(UTC)
    new = [
        KeptHit(
            0,
            hits[item].item,
            rank=hits[item].rank,
            score=hits[item].score,
            cosine=hits[item].cosine,
            note=kept.note,
            by=who.by,
            time=now,
            search=search.id,
            picture=_picture(state, item),
        )
        for item in dict.fromkeys(
            kept.items,
        )
    ]
    state.case(number)
    state.log(who, "keep", case=number, search=search.id, items=kept.items, queries=len(images))
    return _changed(state, number, lambda case: with_hits(case, new, search))


@router.patch("/{number}/hits/{hit}", response_model=Case)
def note_hit(state: OnState, who: By, number: CaseId, hit: HitId, note: Note) -> Case:
    """Change the note of a kept image."""
    _require_kept(state, number, hit)
    state.log(who, "note", case=number, hit=hit)
    return _changed(state, number, lambda case: with_note(case, hit, note.note))


@router.delete("/{number}/hits/{hit}", response_model=Case)
def drop_hit(state: OnState, who: By, number: CaseId, hit: HitId) -> Case:
    """Remove a kept image from its case."""
    item = _require_kept(state, number, hit)
    state.log(who, "drop", case=number, hit=hit, item=item)
    return _changed(state, number, lambda case: without_hit(case, hit))


@router.post(
    "/{number}/export",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "one self-contained page"}},
)
def export_case(state: OnState, who: By, number: CaseId) -> Response:
    """A case as one self-contained HTML file, which says where everything came from."""
    case = state.case(number)
    stamp = state.log(who, "export", case=number, name=case.name, kept=len(case.kept))
    return Response(
        exported(displayed(case, state.blur), who.by, stamp),
        media_type="text/html; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="case-{number}.html"'},
    )


def _changed(state: AppState, number: int, change: Callable[[Case], Case]) -> Case:
    case = existing(state.case_store.change(number, change), number)
    return displayed(case, state.blur)


def _require_kept(state: AppState, number: int, hit: int) -> int:
    """The gallery image a kept hit shows."""
    case = state.case(number)
    for kept in case.kept:
        if kept.number == hit:
            return kept.item.id
    raise HTTPException(404, f"case {number} holds no image {hit}")


def _picture(state: AppState, item: int) -> str | None:
    jpeg = state.store.thumbnail(item)
    return None if jpeg is None else as_text(encoded(opened(jpeg, f"image {item}")))


def _with_pictures(search: SearchRecord, uploads: Sequence[Upload]) -> SearchRecord:
    """A search with pictures of those of its query images that were sent again."""
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
