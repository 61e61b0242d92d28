"""Bad uploads and bad requests, sent to a real server, and what its answers mean."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
import secrets
import shutil
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fault_files import changed_image, images
from fault_kills import Result
from fault_mutations import CONTROL, NO_UTF8, NOTHING, changed_value, nested, spoilt
from fault_server import LIMIT, Client, Served, awaited, form, served
from fault_world import PixelEmbedder, crops, drawn, encoded

from visir.gallery.add import add
from visir.gallery.sqlite import SqliteStore

SECRETS = (b"root:", b"SQLite format", b"Traceback", b"[build-system]")
PATIENCE = 0.5  # seconds for an answer to a request that does not end
ODD_PATHS = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/pyproject.toml", "/etc/passwd",
    "1%00.json", "%00", "-1", "0", "1e9", "99999999999999999999", "%ff%fe", "%ed%a0%80", "1'--",
    "{{7*7}}", "x" * 5000, "\u00b2", "%C2%B2", "\u0661", "NaN", "1/../../../gallery.sqlite", "",
)  # fmt: skip
PLACES = (
    "/api/items/{}", "/api/items/{}/thumbnail", "/api/remarks?item={}", "/?search={}", "/{}",
    "/items/{}", "/cases/{}", "/api/cases/{}", "/static/{}", "/?item={}", "/gallery?camera={}",
    "/gallery?after={}", "/audit?before={}", "/api/audit?before={}&count={}",
)  # fmt: skip
ODD_HEADERS = (
    "Host: [", "Host: x@127.0.0.1", "Host: 127.0.0.1:99999999", "Host: \xff", "Origin: http://[",
    "Origin: null", "Origin: http://\xff", "Origin: //[::1", "Sec-Fetch-Site: \xff",
    "Cookie: visir=\xff",
    "Cookie: ;;==;\x01", "Authorization: Bearer \xff", "Authorization: \xe9", "X-Visir-CSRF: \xff",
    "X-Visir-Operator: %ff%00%0a", "X-Visir-Operator: %", "X-Visir-Operator: " + "x" * 399,
    "X-Forwarded-For: 1.2.3.4, x", "Content-Type: multipart/form-data", "Content-Type: \xff",
    "Content-Type: multipart/form-data; boundary=", "Content-Type: application/json; charset=x",
    "Content-Type: application/x-www-form-urlencoded", "Content-Encoding: gzip",
    "Accept: text/html",
    "Transfer-Encoding: chunked", "Transfer-Encoding: x", "Content-Length: -1", "Content-Length: x",
    "Content-Length: \xb2", "Content-Length: 99999999999", "Content-Length: " + "9" * 5000,
    "Expect: 100-continue", "Upgrade: websocket", "X: " + "y" * 70_000,
)  # fmt: skip
GOOD: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/api/search/items", {"items": [1, 2], "asked": {"k": 3, "since": "2026-01-01T00:00:00"}}),
    ("/api/refine", {"search": "x", "hits": [1], "misses": [2], "asked": {"tags": ["a"]}}),
    ("/api/cases", {"name": "night"}),
    ("/api/login", {"token": "night"}),
)
# of the first of `GOOD`: the key, and values that no schema allows
WRONG_ITEMS: tuple[tuple[tuple[str, ...], tuple[Any, ...]], ...] = (
    (("items",), ("x", None, [], [[]], [0], [-1], [2**63], [1.5], ["x"], [*range(1, 10)], {"x": 1},
                  [None], [10**400])),
    (("asked", "k"), (0, 201, "x", None, [], 1.5, -1, 10**400)),
    (("asked", "modality"), ("x", None, 1, [])),
    (("asked", "since"), ("x", [], {}, "2026-02-30", "0000-01-01")),
    (("asked", "surprise"), (1, None)),
    (("asked", "rerank"), ("x", None, 1, "../x")),
    (("asked", "min_score"), (2, "x", float("nan"), float("inf"), 1e308)),
    (("asked", "cameras"), ("x", [1], ["\x00"], ["x"] * 201, ["x" * 201])),
)  # fmt: skip


class Sent(NamedTuple):
    """A request as its bytes; bad: it must not be done; ends: it is all there."""

    data: bytes
    bad: bool
    how: str
    ends: bool = True


def request(
    method: str, path: str, body: bytes = b"", kind: str = "application/json", more: str = ""
) -> bytes:
    """A request as its bytes; a header of `more` takes the place of the usual one."""
    named = more.partition(":")[0].lower()
    usual = {
        "Host": "127.0.0.1",
        "Connection": "close",
        "Content-Type": kind,
        "Content-Length": str(len(body)),
    }
    lines = [f"{name}: {value}" for name, value in usual.items() if name.lower() != named]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines, *([more] if more else [])])
    return (
        head.encode("utf-8" if "\u00b2" in path or "\u0661" in path else "latin-1")
        + b"\r\n\r\n"
        + body
    )


def make_upload(rng: random.Random, marker: Path) -> Sent:
    """Images to search with, one of them bad."""
    suffix, data = rng.choice(images())
    if rng.random() < 0.15 and suffix in (".jpg", ".png", ".webp", ".bmp"):
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("x", "x")
        tail = rng.choice((archive.getvalue(), b"<?php system('id'); ?>", b"%PDF-1.7\n", b"x" * 99))
        data, bad, how = data + tail, True, "an image and more"
    else:
        data, bad, how = changed_image(rng, data, marker)
    name = rng.choice(
        ("a.png", "../../x.png", "a\x00.png", "\x1b[2J", "x" * 999, '"', "\udcff", "")
    )
    parts = [("images", name or "x", data)]
    if rng.random() < 0.3:
        parts.insert(rng.randrange(2), ("images", "b.png", encoded(drawn(9), ".png")))
    body, kind = form(parts)
    return Sent(request("POST", "/api/search", body, kind), bad, how)


def make_request(rng: random.Random, marker: Path) -> Sent:
    """A bad request to any page or function."""
    path, value = copy.deepcopy(rng.choice(GOOD))
    body = json.dumps(value).encode()
    match rng.choice(
        ("wrong", "wrong", "value", "bytes", "raw", "path", "header", "deep", "form", "cut")
    ):
        case "wrong":
            path, value = copy.deepcopy(GOOD[0])
            keys, values = rng.choice(WRONG_ITEMS)
            inner = value["asked"] if len(keys) > 1 else value
            inner[keys[-1]] = rng.choice(values)
            body = json.dumps(value).encode()
            return Sent(
                request("POST", path, body), True, f"{keys[-1]} {str(inner[keys[-1]])[:20]}"
            )
        case "value":
            value, how = changed_value(rng, value)
            body = json.dumps(value).encode("utf-8", "surrogatepass")
            return Sent(request("POST", path, body), False, how)
        case "bytes":
            return Sent(request("POST", path, spoilt(rng, body).data), False, "bytes of the body")
        case "raw":
            return Sent(spoilt(rng, request("POST", path, body)).data, False, "bytes", False)
        case "path":
            path = rng.choice(PLACES).replace("{}", rng.choice(ODD_PATHS))
            method = rng.choice(("GET", "GET", "GET", "HEAD", "PUT", "PATCH", "OPTIONS", "X\x7f"))
            return Sent(request(method, path), False, f"{method} {path[:40]}")
        case "header":
            line = rng.choice(ODD_HEADERS)
            ends = not line.startswith(("Content-Length", "Transfer", "Expect"))
            return Sent(request("POST", path, body, more=line), False, line[:30], ends)
        case "deep":
            depth = rng.choice((200, 20_000, 100_000))
            text = rng.choice(
                (b"[" * depth, b'{"items":' * (depth // 9), json.dumps(nested(1, 200)).encode())
            )
            return Sent(request("POST", path, text), True, f"nested {depth}")
        case "form":
            parts = [("kept", None, b'{"search":"x","items":[1]}'), ("asked", None, b'{"k": 5}')]
            data, kind = form([*parts, ("images", "a.png", encoded(drawn(3), ".png"))])
            changed = spoilt(rng, data) if rng.random() < 0.8 else None
            odd = rng.choice((*NO_UTF8, *CONTROL))
            data = changed.data if changed else data.replace(b"name=", b"name" + odd + b"=", 1)
            path = rng.choice(("/api/search", "/api/compare", "/api/cases/1/hits"))
            return Sent(request("POST", path, data, kind), False, "a form")
    if rng.random() < 0.2:
        return Sent(request("POST", "/api/search/items", b'{"items": [1]}'), False, NOTHING)
    whole = request("POST", path, body)
    return Sent(whole[: rng.randrange(len(whole))], False, "cut short", False)


def ask(port: int, sent: Sent) -> tuple[int, bytes]:
    """Send bytes: the status of the answer, 0 if there is none, and the answer."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
        with contextlib.suppress(OSError):  # it may answer before it has read everything
            connection.sendall(sent.data)
        connection.settimeout(LIMIT if sent.ends else PATIENCE)
        with contextlib.suppress(ConnectionError):
            try:
                while part := connection.recv(1 << 16):
                    answer += part
            except TimeoutError:
                if sent.ends:
                    raise
    head = answer.partition(b"\r\n")[0].split()
    return int(head[1]) if len(head) > 1 and head[1].isdigit() else 0, answer


class Desk:
    """A small gallery whose server is asked again and again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        crops(root / "images", 16)
        with contextlib.closing(SqliteStore(root / "kept", create=True)) as store:
            add(store, PixelEmbedder(), [root / "images"])

    @contextlib.contextmanager
    def serving(self) -> Iterator[Served]:
        """A server of a fresh copy."""
        place = self.root / secrets.token_hex(4)
        shutil.copytree(self.root / "kept", place / "gallery")
        server = served(place / "gallery", place / "desk")
        try:
            awaited(Client(server.port))
            yield server
        finally:
            server.kill()
            server.wait()
            shutil.rmtree(place)


def judged(port: int, sent: Sent) -> Result:
    """Send a request, and say what its answer means."""
    try:
        status, answer = ask(port, sent)
    except TimeoutError:
        return Result("hang", sent.how)
    except ConnectionError as error:
        return Result("traceback", f"{sent.how}: the server is gone ({error})")
    if status >= 500 or any(secret in answer for secret in SECRETS):
        return Result("traceback", f"{sent.how}: {answer[:200]!r}")
    if sent.how == NOTHING and not 200 <= status < 300:
        return Result("wrongly refused", f"{answer[-200:]!r}")
    if 200 <= status < 400:
        return Result("believed" if sent.bad else "accepted", f"{sent.how}: {status}")
    if status == 0 and sent.ends:
        return Result("traceback", f"{sent.how}: no answer")
    return Result("refused")


MAKE = {"uploads": make_upload, "requests": make_request}
