"""From templates to pages."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from visir import __version__

FOLDER = Path(__file__).parent


def render(name: str, **values: object) -> str:
    """A template with values put in; text is escaped."""
    return _environment().get_template(name).render(**values)


def moment(value: datetime | float | str | None) -> str:
    """A time as this machine's clock showed it."""
    if value is None:
        return "time unknown"
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, UTC)
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def score(value: float, calibrated: bool) -> str:
    """A score as people read it: in percent where it is a probability, which is never certain."""
    if not calibrated:
        return f"{value:.3f}"
    percent = round(100 * value)
    return "> 99 %" if percent > 99 else "< 1 %" if percent < 1 else f"{percent} %"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def many(count: int, what: str) -> str:
    """A number of things: 1 image, 1,200 images."""
    return f"{count:,} {what}{'s' * (count != 1)}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"moment": moment, "score": score, "size": size, "many": many}
    environment.globals["visir_version"] = __version__
    return environment
