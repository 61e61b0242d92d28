"""The folder of cases and of the audit log (`--desk`), and how a case is displayed and exported."""

from __future__ import annotations

import base64
import fcntl
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from visir.core.run import atomic_write, sweep, write_text
from visir.core.types import InputError
from visir.web.audit import Audit, Stamp, entries, verify
from visir.web.rendering import FOLDER, as_text, encoded, opened, render
from visir.web.schemas import AuditEntry, AuditPage, Case, CaseSummary, KeptHit, SearchRecord

MAX_KEPT = 500
_CASE = TypeAdapter(Case)
_ENTRIES = TypeAdapter(tuple[AuditEntry, ...])


class CaseStore:
    """A folder of cases, open; one process at a time, so that the audit log stays one chain.

    Attributes:
        audit: the log.

    Raises:
        InputError: the folder cannot be written, or another server has it open.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cases = folder / "cases"
        self._lock = threading.Lock()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds pictures of people
            self._cases.mkdir(exist_ok=True)
            self._claim = (folder / "lock").open("w")
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another server has this folder of cases open; stop it, or name another "
                "folder with --desk"
            ) from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
        sweep(self._cases)
        self.audit = Audit(folder / "audit.jsonl")

    def close(self) -> None:
        """Let other processes open it."""
        self._claim.close()

    def cases(self) -> list[Case]:
        """All cases, the newest first."""
        numbers = sorted((int(path.stem) for path in self._cases.glob("*.json")), reverse=True)
        found = [self.case(number) for number in numbers]
        return [case for case in found if case is not None]

    def summaries(self) -> list[CaseSummary]:
        """A line for each case, the newest first."""
        return [
            CaseSummary(case.id, case.name, case.by, case.created, len(case.kept))
            for case in self.cases()
        ]

    def audit_page(self, before: int | None = None, count: int = 100) -> AuditPage:
        """The last lines of the audit log, newest first, and whether its chain is whole."""
        verdict = verify(self.audit.path)
        lines = _ENTRIES.validate_python(entries(self.audit.path, before, count))
        return AuditPage(lines, *verdict)

    def case(self, number: int) -> Case | None:
        """A case; None if there is none.

        Raises:
            InputError: its file is damaged.
        """
        file = self._file(number)
        try:
            return _CASE.validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError:
            raise InputError(f"case {number}: its file is damaged; restore {file.name}") from None

    def open_case(self, name: str, by: str) -> Case:
        """A new, empty case; numbers are never used twice."""
        with self._lock:
            counter = self._cases / "last"
            number = int(counter.read_text()) + 1 if counter.exists() else 1
            write_text(counter, f"{number}\n")
            case = Case(number, name, by, datetime.now(UTC))
            self._save(case)
        return case

    def change(self, number: int, change: Callable[[Case], Case]) -> Case | None:
        """Replace a case by what `change` returns for it; None if there is none."""
        with self._lock:
            case = self.case(number)
            if case is not None:
                case = change(case)
                self._save(case)
        return case

    def drop_case(self, number: int) -> bool:
        """Delete a case: whether there was one."""
        with self._lock:
            file = self._file(number)
            there = file.exists()
            file.unlink(missing_ok=True)
        return there

    def _file(self, number: int) -> Path:
        return self._cases / f"{number:d}.json"

    def _save(self, case: Case) -> None:
        with atomic_write(self._file(case.id)) as file:
            file.write(_CASE.dump_json(case, indent=1))


def with_hits(case: Case, kept: list[KeptHit], search: SearchRecord) -> Case:
    """A case with more hits; hits it has from the same search already are replaced.

    Raises:
        InputError: there would be too many.
    """
    taken = {(hit.search, hit.item.id) for hit in kept}
    former = [hit for hit in case.kept if (hit.search, hit.item.id) not in taken]
    if len(former) + len(kept) > MAX_KEPT:
        raise InputError(f"a case holds {MAX_KEPT} images at most; open another one")
    first = max((hit.number for hit in case.kept), default=0) + 1
    numbered = [replace(hit, number=first + row) for row, hit in enumerate(kept)]
    searches = {known.id: known for known in case.searches}
    if search.id not in searches or any(query.picture for query in search.queries):
        searches[search.id] = search
    return replace(case, kept=(*former, *numbered), searches=tuple(searches.values()))


def with_note(case: Case, number: int, note: str) -> Case:
    """A case with another note at one of its hits."""
    kept = tuple(replace(hit, note=note) if hit.number == number else hit for hit in case.kept)
    return replace(case, kept=kept)


def without_hit(case: Case, number: int) -> Case:
    """A case without one of its hits, and without searches that no hit is left of."""
    kept = tuple(hit for hit in case.kept if hit.number != number)
    needed = {hit.search for hit in kept}
    return replace(case, kept=kept, searches=tuple(s for s in case.searches if s.id in needed))


# ---- a case as it is displayed and exported


def displayed(case: Case, blur: bool) -> Case:
    """A case as it may be displayed: heads pixelated if the server is told to."""
    if not blur:
        return case
    kept = tuple(replace(hit, picture=_blurred(hit.picture)) for hit in case.kept)
    searches = tuple(
        replace(
            search,
            queries=tuple(replace(q, picture=_blurred(q.picture)) for q in search.queries),
        )
        for search in case.searches
    )
    return replace(case, kept=kept, searches=searches)


def exported(case: Case, by: str, stamp: Stamp) -> str:
    """One HTML file that needs nothing beside it; its print is a PDF.

    Args:
        case: with pictures as they may be displayed.
        by: who exports it.
        stamp: its line of the audit log.
    """
    sheets = (FOLDER / "static" / name for name in ("base.css", "case.css"))
    style = "".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    return render("export.html", case=case, by=by, stamp=stamp, style=style)


def _blurred(picture: str | None) -> str | None:
    if picture is None:
        return None
    return as_text(encoded(opened(base64.b64decode(picture)), blur=True))
