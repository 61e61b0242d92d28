"""Times as people write them, read as seconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from math import isfinite

from visir.core.types import InputError


def parse_time(text: str, field: str) -> float:
    """Seconds since 1970 of a date, a time such as 2026-01-31T18:00, or a number of seconds.

    A time without a zone is UTC. Eight digits are a date (20260131), not seconds.

    Raises:
        InputError: it is none of these, or out of range; `field` is what the message begins with.
    """
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except OverflowError:
        raise InputError(f"{field}: {text!r} is out of range") from None
    except ValueError:
        pass
    try:
        seconds = float(text)
    except ValueError:
        seconds = float("nan")
    if not isfinite(seconds):
        raise InputError(
            f"{field}: {text!r} is not a time; write it as 2026-01-31 or 2026-01-31T18:00+01:00, "
            "or as seconds since 1970"
        )
    return seconds


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as 2026-01-31T18:00:00.250+00:00, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
