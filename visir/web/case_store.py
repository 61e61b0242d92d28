"""The folder of cases and of the audit log (`--desk`), and how a case is displayed and exported."""

from __future__ import annotations

import base64
import fcntl
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from heapq import nlargest
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from visir.core.names import printable
from visir.core.run import atomic_write, sweep, sync, write_text
from visir.core.types import InputError
from visir.web.audit import Audit, Stamp, entries, verify
from visir.web.rendering import FOLDER, as_text, encoded, opened, render
from visir.web.schemas import AuditEntry, AuditPage, Case, CaseSummary, KeptHit, SearchRecord
from visir.web.timeline import timeline

MAX_KEPT = 500
MAX_NUMBER = 10**9
COUNTER = "last"  # the file with the last number that was given to a case
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
        self._summaries: dict[int, tuple[tuple[int, ...], CaseSummary]] = {}
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

    def summaries(self) -> list[CaseSummary]:
        """A line for each case, the newest first; then for each other file in their folder."""
        numbers = sorted(filter(None, map(_number, self._cases.iterdir())), reverse=True)
        found = [self.summary(number) for number in numbers]
        strays = [_stray(path) for path in self._strays()]
        return [case for case in found if case is not None] + strays

    def recent(self, count: int) -> list[CaseSummary]:
        """A line for each of the cases that were changed last, the latest first."""
        files = [path for path in self._cases.iterdir() if _number(path)]
        last = nlargest(count, files, key=_written)
        found = (self.summary(_number(path) or 0) for path in last)
        return [case for case in found if case is not None and case.problem is None]

    def summary(self, number: int) -> CaseSummary | None:
        """The line of a case; None if there is none. A file that did not change is not read."""
        file = self._file(number)
        state = _state_of(file)
        known = self._summaries.get(number)
        if known is not None and known[0] == state:
            return known[1]
        try:
            case = self.case(number)
        except InputError as error:
            return CaseSummary(number, file.name, "", _written(file), 0, file.name, str(error))
        if case is None:
            self._summaries.pop(number, None)
            return None
        line = CaseSummary(number, case.name, case.by, case.created, len(case.kept), file.name)
        self._summaries[number] = (state, line)
        return line

    def audit_page(self, before: int | None = None, count: int = 100) -> AuditPage:
        """The last lines of the audit log, newest first, and whether its chain is whole."""
        verdict = verify(self.audit.path)
        lines, earlier = entries(self.audit.path, before, count)
        return AuditPage(_ENTRIES.validate_python(lines), *verdict, earlier)

    def case(self, number: int) -> Case | None:
        """A case; None if there is none.

        Raises:
            InputError: its file is damaged.
        """
        file = self._file(number)
        try:
            case = _CASE.validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            what = "is damaged" if isinstance(error, ValidationError) else f"{error.strerror}"
            raise InputError(
                f"case {number}: its file cannot be read ({what}); restore {file.name} from a "
                "backup, or delete the case"
            ) from None
        if case.id != number:
            raise InputError(
                f"case {number}: {file.name} holds case {case.id}; restore it from a backup, or "
                "delete it"
            )
        return case

    def open_case(self, name: str, by: str) -> Case:
        """A new, empty case; numbers are never used twice."""
        with self._lock:
            taken = filter(None, map(_number, self._cases.iterdir()))
            number = max(self._counted(), *taken, 0) + 1
            write_text(self._cases / COUNTER, f"{number}\n")
            case = Case(number, name, by, datetime.now(UTC))
            self._save(case, new=True)
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
        """Delete a case, damaged or not: whether there was one.

        Raises:
            InputError: it cannot be deleted.
        """
        return self._unlink(self._file(number))

    def drop_stray(self, name: str) -> bool:
        """Delete a file that is no case, by its name in the list of cases: whether there was one.

        Raises:
            InputError: it cannot be deleted.
        """
        found = (path for path in self._strays() if printable(path.name) == name)
        return any(self._unlink(path) for path in found)

    def _strays(self) -> list[Path]:
        """What is neither a case nor the counter, nor a file that is being written."""
        own = (path for path in self._cases.iterdir() if not path.name.startswith("."))
        return sorted(path for path in own if path.name != COUNTER and not _number(path))

    def _unlink(self, file: Path) -> bool:
        with self._lock:
            try:
                file.unlink()
            except FileNotFoundError:
                return False
            except OSError as error:
                raise InputError(
                    f"{file.name}: cannot be deleted ({error.strerror}); delete it by hand in the "
                    "folder of cases"
                ) from error
            sync(file.parent)
        return True

    def _counted(self) -> int:
        """The last number that was given, as far as the file of it is there and whole."""
        try:
            last = int((self._cases / COUNTER).read_text())
        except (OSError, ValueError):
            return 0
        return last if last < MAX_NUMBER - 1 else 0

    def _file(self, number: int) -> Path:
        return self._cases / f"{number:d}.json"

    def _save(self, case: Case, new: bool = False) -> None:
        with atomic_write(self._file(case.id), new) as file:
            file.write(_CASE.dump_json(case, indent=1))


def _number(file: Path) -> int | None:
    """The number of a case, by the name of its file; None of a file that is no case."""
    if not file.stem.isdecimal() or file.suffix != ".json":
        return None
    number = int(file.stem) if len(file.stem) <= len(str(MAX_NUMBER)) else 0
    return number if file.name == f"{number}.json" and 0 < number < MAX_NUMBER else None


def _stray(file: Path) -> CaseSummary:
    name = printable(file.name)
    problem = f"{name} is no case; move it elsewhere, or delete it"
    return CaseSummary(0, name, "", _written(file), 0, name, problem)


def _written(file: Path) -> datetime:
    """When a file was changed last; long ago if it is gone."""
    try:
        return datetime.fromtimestamp(file.lstat().st_mtime, UTC)
    except FileNotFoundError:
        return datetime.fromtimestamp(0, UTC)


def _state_of(file: Path) -> tuple[int, ...]:
    """What changes with every change of a file; empty if it is gone."""
    try:
        now = file.lstat()
    except OSError:
        return ()
    return (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


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
    name = f"case {case.id}"
    kept = tuple(replace(hit, picture=_blurred(hit.picture, name)) for hit in case.kept)
    searches = tuple(
        replace(
            search,
            queries=tuple(replace(q, picture=_blurred(q.picture, name)) for q in search.queries),
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
    return render("export.html", case=case, plan=timeline(case), by=by, stamp=stamp, style=style)


def _blurred(picture: str | None, name: str) -> str | None:
    if picture is None:
        return None
    try:
        return as_text(encoded(opened(base64.b64decode(picture), name), blur=True))
    except ValueError:
        raise InputError(f"{name}: a picture in it is damaged; restore its file") from None
