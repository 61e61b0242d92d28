"""Bounds of a setting, written beside it: `eps: PositiveShare = 0.6`.

A setting is a field of a frozen dataclass. Its bounds stand in its type, in `typing.Annotated`:

```python
@dataclass(frozen=True)
class Config:
    warmup: Annotated[int, AtLeast(0)] = 10
    threshold: Share = 0.5
    momentum: tuple[Share, Share] = (0.2, 0.2)
    iterations: int = 200
    weight: float = 1.0
```

Without bounds of its own an `int` is a count, at least 1, and a `float` is at least 0. Numbers with
several bounds have to satisfy all of them.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, get_args, get_origin, runtime_checkable

from visir.core.types import InputError


@runtime_checkable
class Bound(Protocol):
    """A condition on one value."""

    def holds(self, value: Any) -> bool:  # noqa: ANN401 - of whatever kind the setting is
        """Whether the value is allowed."""

    def rule(self, value: Any) -> str:  # noqa: ANN401
        """The condition, as the end of "must be ..."; `value` is the one that was refused."""


@dataclass(frozen=True)
class AtLeast:
    """A number that is `minimum` or more."""

    minimum: float

    def holds(self, value: float) -> bool:
        """Whether the number is allowed."""
        return value >= self.minimum

    def rule(self, value: float) -> str:
        """The condition, as the end of "must be ..."."""
        return f">= {self.minimum:g}"


@dataclass(frozen=True)
class Above:
    """A number that is more than `minimum`."""

    minimum: float

    def holds(self, value: float) -> bool:
        """Whether the number is allowed."""
        return value > self.minimum

    def rule(self, value: float) -> str:
        """The condition, as the end of "must be ..."."""
        return f"> {self.minimum:g}"


@dataclass(frozen=True)
class AtMost:
    """A number that is `maximum` or less."""

    maximum: float

    def holds(self, value: float) -> bool:
        """Whether the number is allowed."""
        return value <= self.maximum

    def rule(self, value: float) -> str:
        """The condition, as the end of "must be ..."."""
        return f"<= {self.maximum:g}"


@dataclass(frozen=True)
class OneOf:
    """A word that is a key of a dictionary, such as the name of an association."""

    known: Collection[str]

    def holds(self, value: str) -> bool:
        """Whether there is such a key."""
        return value in self.known

    def rule(self, value: str) -> str:
        """The condition, as the end of "must be ..."."""
        words = ", ".join(repr(word) for word in self.known)
        near = difflib.get_close_matches(value, self.known, n=1)
        return f"one of {words}" + (f" (did you mean {near[0]!r}?)" if near else "")


Share = Annotated[float, AtLeast(0), AtMost(1)]
"""From 0 to 1."""
PositiveShare = Annotated[float, Above(0), AtMost(1)]
"""Above 0, at most 1."""
Positive = Annotated[float, Above(0)]
"""Above 0."""
CountFrom0 = Annotated[int, AtLeast(0)]
"""A count or an epoch that may be 0."""

_DEFAULT: dict[type, tuple[Bound, ...]] = {int: (AtLeast(1),), float: (AtLeast(0),)}


def require_within_bounds(config: object) -> None:
    """Refuse settings outside their bounds.

    Args:
        config: a dataclass; only its own fields are read.

    Raises:
        InputError: the setting, its bound and its value.
    """
    kinds = _kinds(type(config))  # type: ignore[arg-type]
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        whole = getattr(config, field.name)
        for value, bound in _bounded(whole, kinds[field.name]):
            if not bound.holds(value):
                raise InputError(f"setting {field.name}: must be {bound.rule(value)}, got {whole}")


@functools.cache
def _kinds(of: type) -> dict[str, Any]:
    """The types of a dataclass's fields; looking them up takes milliseconds."""
    return typing.get_type_hints(of, include_extras=True)


def _bounded(value: Any, kind: Any) -> Iterator[tuple[Any, Bound]]:  # noqa: ANN401
    """Every single value of a field with each of its bounds; the entries of a tuple one by one."""
    if get_origin(kind) in (typing.Union, types.UnionType):  # `kind | None`
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
    own: tuple[Bound, ...] = ()
    if get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        own = tuple(note for note in notes if isinstance(note, Bound))
    if isinstance(value, tuple):
        of_items = [arg for arg in get_args(kind) if arg is not Ellipsis]
        for place, item in enumerate(value):
            yield from _bounded(item, of_items[min(place, len(of_items) - 1)])
    elif value is not None:
        yield from ((value, bound) for bound in own or _DEFAULT.get(type(value), ()))
