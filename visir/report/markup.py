"""HTML elements used by all sections of a report."""

from __future__ import annotations


def section(name: str, title: str, *parts: str) -> str:
    """A titled section of the page; `name` is its anchor."""
    return f'<section id="{name}"><h2>{title}</h2>{"".join(parts)}</section>'


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


def percent(value: float) -> str:
    """A fraction in percent, one decimal, without the sign."""
    return f"{100 * value:.1f}"
