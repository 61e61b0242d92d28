"""Parsers of other people's files whose errors have no common base class."""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from typing import Any

NO_ARRAYS = (
    OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, MemoryError, RuntimeError,
    SyntaxError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip
"""What `numpy.load`, and reading an array of it, raise for a file that is damaged.

NumPy reads the header of an array as a Python literal, and believes the size that it declares.
"""


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever JSON can hold
    """The values of a JSON text.

    Raises:
        ValueError: it is not JSON, or nested deeper than Python's reader goes.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
