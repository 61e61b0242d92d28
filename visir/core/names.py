"""Names from outside, such as those of files."""

from __future__ import annotations


def is_utf8(text: str) -> bool:
    """Whether a name is text; Python keeps bytes of file names that are not UTF-8 as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(value: object, most: int = 80) -> str:
    """A value as messages show it: what Python writes for it, and no more than `most` characters.

    A number of very many digits has no such text.
    """
    try:
        text = repr(value)
    except ValueError:
        return "a number of too many digits"
    return text if len(text) <= most else f"{text[:most]}..."


def printable(text: str) -> str:
    r"""Text on one line: line breaks and other control characters are written out, as \n.

    So are the bytes of file names that are not UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
