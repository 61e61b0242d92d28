"""HTML elements used by all sections of a report."""

from __future__ import annotations

from typing import NamedTuple


class Section(NamedTuple):
    """A titled section of the page; `name` is its anchor."""

    name: str
    title: str
    html: str


def section(name: str, title: str, *parts: str) -> Section:
    """A section of these parts; empty parts are left out."""
    body = "".join(parts)
    html = f'<section id="{name}" aria-labelledby="{name}-title">'
    return Section(name, title, f'{html}<h2 id="{name}-title">{title}</h2>{body}</section>')


def note(text: str) -> str:
    """A short text in soft colour."""
    return f'<p class="soft">{text}</p>'


def plot(title: str, svg: str, caption: str) -> str:
    """A plot with its title above and its caption below."""
    heading = f"<h3>{title}</h3>" if title else ""
    return f"<figure>{heading}{svg}<figcaption>{caption}</figcaption></figure>"


def plots(parts: list[str]) -> str:
    """Plots side by side if the page is wide enough."""
    return f'<div class="plots">{"".join(parts)}</div>'


def scroll(label: str, html: str, classes: str = "") -> str:
    """What may be wider than the page: scrolled by touch, mouse or, once focused, arrow keys."""
    return (
        f'<div class="{f"scroll {classes}".strip()}" tabindex="0" role="region" '
        f'aria-label="{label}">{html}</div>'
    )


def percent(value: float) -> str:
    """A fraction in percent, one decimal, without the sign."""
    return f"{100 * value:.1f}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 image`, `2,000 images`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"
