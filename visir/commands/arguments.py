"""What a command takes: names, values, defaults and help, read from its function.

The help pages, the reference in the documentation and the check for misspelt options all use this.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from visir.commands import COMMANDS

_SECTION = re.compile(r"\n(?=(?:Args|Returns|Raises|Yields|Attributes):\n)")
_REQUIRED = inspect.Parameter.empty


def method_names() -> Iterable[str]:
    """Names of the training methods."""
    from visir.methods import METHODS

    return METHODS.names()


def layout_names() -> Iterable[str]:
    """Names of the folder structures that can be read."""
    from visir.data.registry import DATASETS

    return DATASETS.names()


def rerank_names() -> Iterable[str]:
    """Names of the re-ranking methods, and none."""
    from visir.evaluation.rerank import RERANKERS

    return ("none", *RERANKERS)


CHOICES: dict[str, Callable[[], Iterable[str]]] = {
    "method": method_names,
    "layout": layout_names,
    "rerank": rerank_names,
}
"""Arguments, by name, of which the values are keys of a dictionary."""


@dataclass(frozen=True)
class Argument:
    """One argument of a command.

    name: of the function's parameter; kind: its type; default: its value if omitted; positional:
    whether it is given by its place; help: one or two sentences.
    """

    name: str
    kind: Any
    default: object
    positional: bool
    help: str

    @property
    def option(self) -> str:
        """The word on the command line, `--min-score`, or `-k` for one letter."""
        return ("-" if len(self.name) == 1 else "--") + self.name.replace("_", "-")

    @property
    def metavar(self) -> str:
        """What stands for the value in help, empty for a switch."""
        if self.kind is bool:
            return ""
        many = " ..." if self.takes_many else ""
        if self.positional:
            return self.name.upper() + many
        inner = self._inner
        if self.choices:
            return "NAME" + many
        names = {Path: "PATH", int: "NUMBER", float: "NUMBER"}
        return names.get(inner, "TEXT") + many

    @property
    def takes_many(self) -> bool:
        """Whether several values may follow."""
        return get_origin(self.kind) is tuple

    @property
    def choices(self) -> tuple[str, ...]:
        """The values allowed, where they are names from a list."""
        if get_origin(self._inner) is Literal:
            return get_args(self._inner)
        return tuple(CHOICES[self.name]()) if self.name in CHOICES else ()

    @property
    def hint(self) -> str:
        """What happens if it is omitted."""
        if self.default is _REQUIRED:
            return "(required)"
        if self.kind is bool:
            return "(default: off)"
        return "(optional)" if self.default in (None, ()) else f"(default: {self.default})"

    @property
    def text(self) -> str:
        """The help, with the values allowed."""
        return f"{self.help} One of: {', '.join(self.choices)}." if self.choices else self.help

    @property
    def _inner(self) -> Any:  # noqa: ANN401 - a type expression
        """`X` for `X | None` and `tuple[X, ...]`."""
        return next((arg for arg in get_args(self.kind) if self._is_container), self.kind)

    @property
    def _is_container(self) -> bool:
        return self.takes_many or type(None) in get_args(self.kind)


@dataclass(frozen=True)
class Command:
    """A command: its words, its function, and what the function's docstring says of it."""

    name: str
    function: Callable[..., object]

    @property
    def summary(self) -> str:
        """The first line."""
        return self._sections[0].splitlines()[0]

    @property
    def description(self) -> str:
        """Everything before the arguments."""
        return self._sections[0].strip()

    @cached_property
    def arguments(self) -> list[Argument]:
        """All arguments, positional ones first."""
        written = inspect.get_annotations(self.function)
        written.pop("return", None)  # of a type that is imported for type checking only
        names = SimpleNamespace(__annotations__=written)
        hints = get_type_hints(names, vars(sys.modules[self.function.__module__]))
        helps = self._helps()
        return [
            Argument(
                name=p.name,
                kind=hints[p.name],
                default=p.default,
                positional=p.kind is p.POSITIONAL_ONLY,
                help=helps.get(p.name, ""),
            )
            for p in inspect.signature(self.function).parameters.values()
        ]

    def old(self, table: Literal["OLD_OPTIONS", "OLD_VALUES", "OLD_NOTES"]) -> dict[str, Any]:
        """A table of old spellings in the command's module, by option with its two dashes.

        OLD_OPTIONS: old option -> new one; OLD_VALUES: option -> old value -> new one; OLD_NOTES:
        old option -> what else has changed, for the warning.
        """
        found = getattr(sys.modules[self.function.__module__], table, {})
        return dict(found)

    @property
    def _sections(self) -> list[str]:
        return _SECTION.split(inspect.getdoc(self.function) or "")

    def _helps(self) -> dict[str, str]:
        """The sentences of the docstring's section Args."""
        section = next((part for part in self._sections if part.startswith("Args:\n")), "")
        entries = re.findall(r"^    (\w+): (.+(?:\n      .+)*)", section, re.MULTILINE)
        return {name: " ".join(text.split()) for name, text in entries}


def find(name: str) -> Command:
    """The command of that name, which is a key of `COMMANDS`."""
    module, _, function = COMMANDS[name].partition(":")
    return Command(name, getattr(import_module(f"visir.commands.{module}"), function))
