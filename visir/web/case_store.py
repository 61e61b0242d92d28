"""The desk: a folder with the cases people keep and the log of what they did."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from visir.core.run import atomic_write, sweep, write_text
from visir.core.types import InputError
from visir.web.audit import Audit
from visir.web.schemas import Case, Kept, Search

MOST_KEPT = 500
_CASE = TypeAdapter(Case)


class Desk:
    """A desk folder, open; one process at a time, so that the log stays one chain.

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
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's pictures lie in it
            self._cases.mkdir(exist_ok=True)
            self._claim = (folder / "lock").open("w")
            fcntl.flock(self._claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder}: another server has this desk open; stop it, or name another --desk"
            ) from None
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from error
        sweep(self._cases)
        self.audit = Audit(folder / "audit.jsonl")

    def close(self) -> None:
        """Let others open it."""
        self._claim.close()

    def cases(self) -> list[Case]:
        """All cases, the newest first."""
        numbers = sorted((int(path.stem) for path in self._cases.glob("*.json")), reverse=True)
        found = [self.case(number) for number in numbers]
        return [case for case in found if case is not None]

    def case(self, number: int) -> Case | None:
        """A case; None where there is none.

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
        """A new, empty case; its number was never another's."""
        with self._lock:
            counter = self._cases / "last"
            number = int(counter.read_text()) + 1 if counter.exists() else 1
            write_text(counter, f"{number}\n")
            case = Case(number, name, by, datetime.now(UTC))
            self._save(case)
        return case

    def change(self, number: int, change: Callable[[Case], Case]) -> Case | None:
        """Replace a case by what `change` makes of it; None where there is none."""
        with self._lock:
            case = self.case(number)
            if case is not None:
                case = change(case)
                self._save(case)
        return case

    def drop_case(self, number: int) -> bool:
        """Forget a case: whether there was one."""
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


def with_hits(case: Case, kept: list[Kept], search: Search) -> Case:
    """A case with more hits; those it has from the same search already are taken anew.

    Raises:
        InputError: it would be too many.
    """
    taken = {(hit.search, hit.item.id) for hit in kept}
    former = [hit for hit in case.kept if (hit.search, hit.item.id) not in taken]
    if len(former) + len(kept) > MOST_KEPT:
        raise InputError(f"a case holds {MOST_KEPT} images at most; open another one")
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
    """A case without one of its hits, and without searches nothing is left of."""
    kept = tuple(hit for hit in case.kept if hit.number != number)
    needed = {hit.search for hit in kept}
    return replace(case, kept=kept, searches=tuple(s for s in case.searches if s.id in needed))
