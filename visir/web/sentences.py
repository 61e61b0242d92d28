"""Lines of the audit log as sentences.

A line may be of an older version, or written by somebody else; what is missing or of another kind
than expected is left out of its sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import groupby
from typing import NamedTuple

from visir.core.names import printable
from visir.web.rendering import many
from visir.web.schemas import AuditEntry

What = Mapping[str, object]


class Told(NamedTuple):
    """A line: its time of day, empty if it has none, what was done, and the line itself."""

    clock: str
    sentence: str
    entry: AuditEntry


class Day(NamedTuple):
    """Lines of one day by this machine's clock; date: empty for lines without a time."""

    date: str
    lines: tuple[Told, ...]


def days(entries: tuple[AuditEntry, ...]) -> list[Day]:
    """Lines of the log as sentences, in their order, by days."""
    told = [
        (_local(entry, "%Y-%m-%d"), Told(_local(entry, "%H:%M:%S"), sentence(entry), entry))
        for entry in entries
    ]
    return [
        Day(date, tuple(line for _, line in lines))
        for date, lines in groupby(told, key=lambda one: one[0])
    ]


def sentence(entry: AuditEntry) -> str:
    """What a line of the log says: who did what, without a full stop."""
    known = _SENTENCES.get(entry.action)
    if known is not None:
        return known(entry.what)
    done = _DEEDS.get(entry.action)
    who = entry.by or "Somebody"
    return f"{who}: {entry.action}" if done is None else f"{who} {done(entry.what)}"


def searched(what: What) -> str:
    """What a search was, without who made it."""
    done = _refine if _count(what, "hits") or _count(what, "misses") else _search
    said = done(what)
    return said[:1].upper() + said[1:]


def _local(entry: AuditEntry, form: str) -> str:
    """When it was, by this machine's clock; empty if that is not known."""
    return datetime.fromisoformat(entry.time).astimezone().strftime(form) if entry.time else ""


# ---- values of a line


def _count(what: What, key: str) -> int:
    """How many things a list has, or the number itself."""
    value = what.get(key)
    if isinstance(value, list | tuple):
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _text(what: What, key: str) -> str:
    value = what.get(key)
    return printable(str(value)) if isinstance(value, str | int | float) and value != "" else "?"


def _named(what: What) -> str:
    return f'case {_text(what, "case")} "{_text(what, "name")}"'


def _images(what: What) -> str:
    """The query images: one visible image, two infrared images and image 5 of the gallery."""
    queries, kinds = what.get("queries"), what.get("modalities")
    if not isinstance(queries, list) or not queries:
        return "images"
    sides = kinds if isinstance(kinds, list) and len(kinds) == len(queries) else [""] * len(queries)
    own = [f"image {query} of the gallery" for query in queries if isinstance(query, int)]
    sent = Counter(
        str(side) for query, side in zip(queries, sides, strict=True) if not isinstance(query, int)
    )
    parts = [
        f"{'one' if count == 1 else count} {side + ' ' if side else ''}image{'s' * (count > 1)}"
        for side, count in sent.items()
    ]
    return " and ".join([*parts, *own])


def _limits(what: What) -> str:
    """The most telling filters of a search."""
    asked = what.get("asked")
    if not isinstance(asked, dict):
        return ""
    said = [
        f"{word} {', '.join(map(str, asked[key]))}"
        for key, word in (("cameras", "cameras"), ("tags", "tags"))
        if isinstance(asked.get(key), list) and asked[key]
    ]
    said += [f"{key} {asked[key]}" for key in ("since", "until") if asked.get(key)]
    return f" ({'; '.join(said)})" if said else ""


# ---- what was done


def _search(what: What) -> str:
    return f"searched with {_images(what)}{_limits(what)}, {many(_count(what, 'found'), 'hit')}"


def _refine(what: What) -> str:
    return (
        f"refined a search with {_images(what)}{_limits(what)} by {_count(what, 'hits')} marked "
        f"right and {_count(what, 'misses')} marked wrong, {many(_count(what, 'found'), 'hit')}"
    )


def _compare(what: What) -> str:
    items = what.get("items")
    own = [f"image {item}" for item in items] if isinstance(items, list) else []
    sent = _count(what, "images")
    both = [*(["an image"] if sent == 1 else ["two images"] if sent else []), *own]
    return f"compared {' with '.join(both) or 'two images'}"


def _keep(what: What) -> str:
    queries = _count(what, "queries")
    more = f" and {many(queries, 'query image')}" if queries else ""
    return f"kept {many(_count(what, 'items'), 'hit')}{more} in case {_text(what, 'case')}"


def _delete_case(what: What) -> str:
    return f"deleted {_named(what)} with {many(_count(what, 'kept'), 'image')}"


def _delete_image(what: What) -> str:
    return (
        f"deleted image {_text(what, 'item')} of camera {_text(what, 'camera')} from the gallery: "
        f"{_text(what, 'source')}"
    )


def _refused(what: What) -> str:
    times = max(_count(what, "times"), 1)
    return f"A wrong token was sent{'' if times == 1 else f' {times:,} times'}"


_DEEDS: dict[str, Callable[[What], str]] = {
    "search": _search,
    "refine": _refine,
    "compare": _compare,
    "open original": lambda what: f"opened the original of image {_text(what, 'item')}",
    "open case": lambda what: f"opened {_named(what)}",
    "delete case": _delete_case,
    "delete stray file": lambda what: f"deleted the file {_text(what, 'file')} from the cases",
    "keep": _keep,
    "note": lambda what: f"wrote a note on no. {_text(what, 'hit')} of case {_text(what, 'case')}",
    "drop": lambda what: f"took no. {_text(what, 'hit')} out of case {_text(what, 'case')}",
    "export": lambda what: f"exported {_named(what)} with {many(_count(what, 'kept'), 'image')}",
    "delete image": _delete_image,
    "log in": lambda what: "logged in",
    "log out": lambda what: "logged out",
}
_SENTENCES: dict[str, Callable[[What], str]] = {
    "login refused": _refused,
    "expire": lambda what: (
        f"Deleted after the retention period: {many(_count(what, 'images'), 'image')}"
    ),
    "expiry refused": lambda what: f"No image was deleted by its age: {_text(what, 'why')}",
    "log shortened": lambda what: (
        f"The log was shortened: lines up to {_text(what, 'through')} were deleted"
    ),
    "damaged line": lambda what: f"This line is damaged: {_text(what, 'text')}",
}
