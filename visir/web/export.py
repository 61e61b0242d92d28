"""A case as it leaves the desk: one page with everything in it."""

from __future__ import annotations

import base64
from dataclasses import replace

from visir.web.audit import Stamp
from visir.web.markup import FOLDER, render
from visir.web.pictures import as_text, encoded, opened
from visir.web.schemas import Case


def exported(case: Case, by: str, stamp: Stamp) -> str:
    """One HTML file that needs nothing beside it; its print is a PDF.

    Args:
        case: with pictures as they may be shown.
        by: who takes it away.
        stamp: the line the audit log has of it.
    """
    sheets = (FOLDER / "static" / name for name in ("base.css", "case.css"))
    style = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    return render("export.html", case=case, by=by, stamp=stamp, style=style)


def shown(case: Case, blur: bool) -> Case:
    """A case as it may be shown: heads pixelated where the server is told to."""
    if not blur:
        return case
    kept = tuple(replace(hit, picture=_covered(hit.picture)) for hit in case.kept)
    searches = tuple(
        replace(
            search,
            queries=tuple(replace(q, picture=_covered(q.picture)) for q in search.queries),
        )
        for search in case.searches
    )
    return replace(case, kept=kept, searches=searches)


def _covered(picture: str | None) -> str | None:
    if picture is None:
        return None
    return as_text(encoded(opened(base64.b64decode(picture)), blur=True))
