"""What can be chosen by name: a dictionary of names to addresses, imported when they are used.

An address is `package.module:name`. Three kinds of names are known: those of the dictionary, those
that installed packages announce as entry points, and addresses themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from visir.core.config import did_you_mean
from visir.core.types import InputError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A dictionary whose values are imported on access.

    Iteration and length are over the names of the dictionary, which are visir's own; `names` adds
    those of installed packages. `registry[name]` and `find` accept addresses too.

    Args:
        kind: what the entries are, for messages ("method").
        group: the entry points' group in which other packages announce theirs.
        entries: name -> address.
        check: turns what an address holds into an entry, or raises `InputError`; called with the
            object and the name by which it was asked for.
    """

    def __init__(
        self, kind: str, group: str, entries: Mapping[str, str], check: Callable[[object, str], T]
    ) -> None:
        self.kind, self.group, self.entries, self.check = kind, group, dict(entries), check
        self._found: dict[str, T] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self.entries or name in self._installed())

    def __getitem__(self, name: str) -> T:
        if name not in self and ":" not in name:
            raise KeyError(name)
        return self.find(name)

    def names(self) -> list[str]:
        """Visir's own names, then those of installed packages."""
        return [*self.entries, *(name for name in self._installed() if name not in self.entries)]

    def find(self, name: str) -> T:
        """The entry of a name or an address.

        Raises:
            InputError: no such name, module or object, or one that does not fit.
        """
        if name not in self._found:
            self._found[name] = self.check(self._load(name), name)
        return self._found[name]

    def _load(self, name: str) -> object:
        if name in self.entries:
            return _imported(self.entries[name], f"{self.kind} {name!r}")
        if name in self._installed():
            point = self._installed()[name]
            return _imported(point.value, f"{self.kind} {name!r} (entry point of a package)")
        if ":" in name:
            return _imported(name, f"{self.kind} {name!r}")
        raise InputError(
            f"{self.kind} {name!r} is unknown; {did_you_mean(name, self.names())}; one from "
            "another package is named package.module:name"
        )

    def _installed(self) -> Mapping[str, EntryPoint]:
        return _entry_points(self.group)


@cache
def _entry_points(group: str) -> Mapping[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=group)}


def _imported(address: str, what: str) -> object:
    """The object at `package.module:name`.

    Raises:
        InputError: the address is malformed, or nothing is there; the message begins with `what`.
    """
    module_name, _, name = address.partition(":")
    if not module_name or not name:
        raise InputError(f"{what}: write package.module:name")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise InputError(
                f"{what}: there is no module {module_name!r}; install its package, or add the "
                "folder that holds it to PYTHONPATH"
            ) from error
        raise InputError(f"{what}: cannot be imported ({error}); install that package") from error
    except (ImportError, SyntaxError, TypeError, ValueError) as error:
        raise InputError(f"{what}: cannot be imported ({error}); correct {module_name}") from error
    public = {key: value for key, value in vars(module).items() if not key.startswith("__")}
    if name not in public:
        raise InputError(
            f"{what}: module {module_name!r} has no {name!r}; {did_you_mean(name, public)}"
        )
    found: object = public[name]
    return found
