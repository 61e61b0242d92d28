"""What verbs share of talking to a terminal."""

from __future__ import annotations

import sys


def on_terminal() -> bool:
    """Whether to draw progress bars."""
    return sys.stderr.isatty()
