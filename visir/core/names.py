"""Names from outside, such as those of files."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether a name is text; Python keeps bytes of file names that are not UTF-8 as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
