"""A real server of a small gallery in a process of its own, and a plain client."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from fault_world import PixelEmbedder
from killing import Point, forked, killing

from visir.gallery.sqlite import SqliteStore
from visir.web.app import create_app
from visir.web.case_store import CaseStore
from visir.web.middleware import Rules
from visir.web.serve import settings
from visir.web.service import SearchService
from visir.web.state import OPERATOR, AppState

LIMIT = 20.0  # seconds for an answer
GONE = (OSError, http.client.HTTPException)


class Served(NamedTuple):
    """A running server: its port and its process."""

    port: int
    process: int

    def arm(self) -> None:
        """Count the calls at whose last it kills itself from now on."""
        os.kill(self.process, signal.SIGUSR2)

    def kill(self) -> None:
        """Kill it, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process, signal.SIGKILL)

    def wait(self) -> int:
        """Its status when it has ended."""
        return os.waitpid(self.process, 0)[1]


def served(
    gallery: Path, desk: Path, points: Sequence[Point] = (), call: int = 0, after: bool = False
) -> Served:
    """Start a server; once armed, it kills itself at a call of one of the points, if any."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def work() -> None:
        store = SqliteStore(gallery)
        service = SearchService(PixelEmbedder(), store, None)
        state = AppState(service, CaseStore(desk), Rules("127.0.0.1", None), False)
        app = create_app(state)
        armed: list[int] = []
        signal.signal(signal.SIGUSR2, lambda number, _: armed.append(number))
        killing(points, call, after, lambda: bool(armed))
        uvicorn.Server(settings(app)).run(sockets=[listener])

    with listener:
        return Served(listener.getsockname()[1], forked(work))


class Client:
    """A connection to the server, which is made again when it was closed."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)

    def ask(self, method: str, path: str, body: Any = None, by: str = "") -> tuple[int, Any]:
        """Send JSON, or a form with the one field `kept` if the path ends in hits; its answer."""
        headers = {OPERATOR: by}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        if data is not None and path.endswith("/hits"):
            data, headers["Content-Type"] = form([("kept", None, data)])
        self.connection.request(method, path, data, headers)
        with self.connection.getresponse() as answer:
            content = answer.read()
            kind = answer.getheader("Content-Type", "")
            return answer.status, json.loads(content) if content and "json" in kind else content

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


def form(parts: Sequence[tuple[str, str | None, bytes]]) -> tuple[bytes, str]:
    """A form of (field, file name, content), and its content type."""
    mark = secrets.token_hex(12)
    lines = b""
    for name, file, content in parts:
        said = f'; filename="{file}"' if file else ""
        head = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"{said}\r\n\r\n'
        lines += head.encode("utf-8", "surrogateescape") + content + b"\r\n"
    return lines + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


@contextlib.contextmanager
def running(gallery: Path, desk: Path) -> Iterator[Client]:
    """A client of a server that is killed at the end."""
    server = served(gallery, desk)
    client = Client(server.port)
    try:
        yield client
    finally:
        client.close()
        server.kill()
        server.wait()


def awaited(client: Client, seconds: float = 10.0) -> None:
    """Return when the server answers.

    Raises:
        TimeoutError: it does not.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(*GONE):
            if client.ask("GET", "/api/gallery")[0] == 200:
                return
        client.close()
        time.sleep(0.005)
    raise TimeoutError("the server does not answer")
