"""Times that a gallery can keep and filter by: seconds since 1970, in the years 1 to 9999."""

from __future__ import annotations

from visir.core.types import InputError

DAY = 86_400.0  # seconds
FIRST, LAST = -62_135_596_800.0, 253_402_300_799.0


def ago(days: float, now: float) -> float:
    """A time so many days before another one, within the range."""
    return min(max(now - days * DAY, FIRST), LAST)


def require_time(moment: float | None, name: str) -> None:
    """Refuse a time out of range; `name` is what messages call it.

    Raises:
        InputError: it is out of range, or not a number.
    """
    if moment is not None and not FIRST <= moment <= LAST:
        raise InputError(
            f"{name}: {moment!r:.30} is not a time; give seconds since 1970, in the years 1 to 9999"
        )
