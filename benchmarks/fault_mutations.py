"""Seeded changes of valid files: of bytes, of text, and of the values that JSON and YAML hold."""

from __future__ import annotations

import copy
import io
import math
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HUGE = (2**31 - 1, -(2**31), 2**63, -(2**63) - 1, 10**30, 10**400, 1e308)
WRONG: tuple[Any, ...] = (
    None, True, "", "x", "\x00", "\x1b[2J", "\ud800", "../../etc/passwd", [], {}, [[]], {"x": {}},
    math.nan, math.inf, -math.inf, -1, 0, 0.5, *HUGE,
)  # fmt: skip
NO_UTF8 = (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf0\x28\x8c\x28", b"\x80")
NOTHING = "nothing"
CONTROL = (
    b"\x00",
    b"\x07",
    b"\x1b[2J",
    b"\r",
    b"\x0b",
    b"\x7f",
    "\u2028".encode(),
    b"\xef\xbb\xbf",
)


class Changed(NamedTuple):
    """A changed input; bad: it is certainly bad, whoever reads it; how: what was changed."""

    data: bytes
    bad: bool
    how: str


class Payload:
    """An object whose pickle calls `call(*arguments)` when a reader that runs code loads it."""

    def __init__(self, call: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Any, ...]]:
        return self.call, self.arguments


def payload(rng: random.Random, marker: Path) -> Payload:
    """A payload that makes the file `marker`, in one of several ways."""
    import os
    import subprocess

    text = f"open({str(marker)!r}, 'w')"
    return rng.choice(
        [
            Payload(os.system, (f"touch '{marker}'",)),
            Payload(eval, (text,)),
            Payload(exec, (text,)),
            Payload(open, (str(marker), "w")),
            Payload(subprocess.getoutput, (f"touch '{marker}'",)),
            Payload(os.open, (str(marker), os.O_CREAT)),
        ]
    )


def nothing(data: bytes) -> Changed:
    """The file as it is, which must be accepted."""
    return Changed(data, False, NOTHING)


def another_format(rng: random.Random, marker: Path) -> Changed:
    """A whole file of another format, which may have any ending."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../x", "x")
    kinds = {
        "empty": b"",
        "text": b"plain text, no more\n" * rng.randint(1, 99),
        "zeros": bytes(rng.randint(1, 9999)),
        "noise": rng.randbytes(rng.randint(1, 9999)),
        "PDF": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "zip": archive.getvalue(),
        "GIF": b"GIF89a\x01\x00\x01\x00\x00\x00\x00;",
        "ELF": b"\x7fELF\x02\x01\x01" + bytes(57),
        "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>",
        "pickle": pickle.dumps(payload(rng, marker), rng.randint(0, 5)),
        "gzip": b"\x1f\x8b\x08\x00" + rng.randbytes(40),
    }
    name = rng.choice(sorted(kinds))
    return Changed(kinds[name], True, name)


def cut(rng: random.Random, data: bytes, most: float = 0.7) -> Changed:
    """Cut short: at most this share is left."""
    return Changed(data[: rng.randrange(int(most * len(data)) + 1)], True, "cut short")


def spoilt(rng: random.Random, data: bytes) -> Changed:
    """Bytes flipped, cleared, cut out, doubled, put in or exchanged, or a number made extreme."""
    found, names = bytearray(data), []
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        start = rng.randrange(len(found) + 1)
        if rng.random() < 0.4:  # where headers are
            start = rng.randrange(min(len(found), 64) + 1)
        end = min(len(found), start + rng.choice((1, 2, 4, 8, 64, 512)))
        name = rng.choice(("flip", "clear", "remove", "double", "insert", "swap", "extreme"))
        names.append(name)
        if name == "flip":
            for place in range(start, min(end, start + 1)):
                found[place] ^= 1 << rng.randrange(8)
        elif name == "clear":
            found[start:end] = bytes(end - start)
        elif name == "remove":
            del found[start:end]
        elif name == "double":
            found[start:start] = found[start:end]
        elif name == "insert":
            found[start:start] = rng.choice((*NO_UTF8, *CONTROL, rng.randbytes(end - start + 1)))
        elif name == "swap":
            other = rng.randrange(len(found) + 1)
            found[start:end], part = found[other : other + end - start], found[start:end]
            found[other : other + len(part)] = part
        else:
            size = rng.choice((1, 2, 4, 8))
            number = rng.choice((0, 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1))
            found[start : start + size] = number.to_bytes(size, rng.choice(("little", "big")))
    return Changed(bytes(found), False, ", ".join(names))


def no_text(rng: random.Random, data: bytes) -> Changed:
    """Text that is not UTF-8."""
    if rng.random() < 0.2:
        form = rng.choice(("utf-16", "utf-16-be", "utf-32"))
        text = data.decode() + "\u00e4"
        return Changed(text.encode(form) + b"\xff", True, form)
    place = rng.randrange(len(data) + 1)
    return Changed(data[:place] + rng.choice(NO_UTF8) + data[place:], True, "no UTF-8")


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every value inside one."""
    inner = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ()
    )  # fmt: skip
    found = [path] if path else []
    for key, of in inner:
        found += places(of, (*path, key))
    return found


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """The value that keys lead to."""
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """A copy with another value in one place."""
    found = copy.deepcopy(value)
    at(found, path[:-1])[path[-1]] = new
    return found


def changed_value(rng: random.Random, value: Any) -> tuple[Any, str]:
    """A copy of JSON values with one to three of them of another kind, gone, or deeply nested."""
    found, names = copy.deepcopy(value), []
    for _ in range(rng.choice((1, 1, 2, 3))):
        everywhere = places(found)
        if not everywhere:
            break
        path = rng.choice(everywhere)
        parent, key = at(found, path[:-1]), path[-1]
        what = rng.choice(("wrong", "wrong", "wrong", "gone", "renamed", "nested", "long"))
        names.append(f"{what} {'.'.join(map(str, path))[:60]}")
        if what == "wrong":
            parent[key] = copy.deepcopy(rng.choice(WRONG))
        elif what == "gone":
            del parent[key]
        elif what == "renamed" and isinstance(parent, dict):
            parent[f"{key}\x07"] = parent.pop(key)
        elif what == "nested":
            parent[key] = nested(parent[key], rng.choice((3, 60, 200)))
        else:
            parent[key] = "x" * rng.choice((10**3, 10**5))
    return found, ", ".join(names)


def nested(value: object, depth: int) -> object:
    """A value in so many lists."""
    for _ in range(depth):
        value = [value]
    return value
