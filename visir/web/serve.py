"""Open everything a server needs, and run it."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.core.types import InputError
from visir.embedding.base import ImageEmbedder
from visir.evaluation.confidence import Calibration
from visir.gallery.open import open_gallery
from visir.gallery.store import Store, require_retention

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

SWITCH = 0.0005  # seconds after which a thread of Python makes room for another
MIN_TOKEN = 16  # characters of a token
NEEDED = ("fastapi", "uvicorn", "jinja2", "multipart", "threadpoolctl")


def serve(
    run: Path,
    gallery: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    desk: Path | None = None,
    token_file: Path | None = None,
    runtime: Literal["torch", "onnx"] = "torch",
    blur: bool = False,
    retention: float | None = None,
    trusted_proxy: Sequence[str] = (),
    root_path: str = "",
    server_name: Sequence[str] = (),
    device: str = "cpu",
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve a gallery until the process is stopped.

    Arguments are those of `visir.commands.serve.serve`; `say` is called with the lines to print.

    Raises:
        InputError: something does not fit, or the port is taken.
    """
    _require_packages()
    from visir.web.app import create_app
    from visir.web.case_store import CaseStore
    from visir.web.middleware import Rules, is_loopback
    from visir.web.proxies import read_proxies, read_root
    from visir.web.service import SearchService
    from visir.web.state import AppState

    if retention is not None:
        require_retention(retention)
    proxies, root = read_proxies(trusted_proxy), read_root(root_path)
    token = _read_token(token_file) if token_file else None
    made = None if token or is_loopback(host) else secrets.token_urlsafe(24)
    embedder = _embedder(Path(run), runtime, device)
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_gallery(gallery)))
        calibration = _calibration(Path(run), embedder.fingerprint)
        service = stack.enter_context(closing(SearchService(embedder, store, calibration)))
        opened = stack.enter_context(closing(CaseStore(desk or _desk_of(store))))
        listener = stack.enter_context(_listening(host, port))
        if retention is not None:
            store.keep_for(retention)
        service.prepare()
        rules = Rules(host, token or made, tuple(server_name), root, proxies)
        app = create_app(AppState(service, opened, rules, blur))
        say(f"http://{_named(host)}:{listener.getsockname()[1]}{root}/")
        if made:
            say(f"token: {made}")
        _run(app, listener)


def settings(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn runs an application, wherever this one is run."""
    import uvicorn

    from visir.web.connections import LimitedConnection

    return uvicorn.Config(
        app, http=LimitedConnection, ws="none", proxy_headers=False, log_level="warning",
        access_log=False, server_header=False, timeout_graceful_shutdown=5,
    )  # fmt: skip


def _run(app: ASGIApp, listener: socket.socket) -> None:
    import uvicorn
    from threadpoolctl import threadpool_limits

    # Every step of the network takes Python's lock anew, and would wait 5 ms each time.
    sys.setswitchinterval(SWITCH)
    # A second thread of NumPy's products spins while it waits, and takes a core from the others.
    with threadpool_limits(1, user_api="blas"):
        uvicorn.Server(settings(app)).run(sockets=[listener])


def _desk_of(store: Store) -> Path:
    """The folder of cases inside the gallery's folder."""
    if store.folder is None:
        raise InputError(f"desk: {store.name} has no folder for cases; name one with --desk")
    return store.folder / "desk"


def _require_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise InputError(
            f'{missing[0]} is not installed; install what serving needs: pip install "visir[serve]"'
        )


def _embedder(run: Path, runtime: str, device: str) -> ImageEmbedder:
    if runtime == "onnx":
        from visir.embedding.onnx import load as load_export

        return load_export(run)
    import torch

    from visir.embedding.pytorch import load

    # A core for the answers: threads of PyTorch wait for each other, so one that must share its
    # core holds up all.
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) - 1)))
    return load(run, device)


def _read_token(file: Path) -> str:
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file}: cannot be read; give a text file with the token in it") from None
    if len(token) < MIN_TOKEN or not token.isascii() or len(token.split()) != 1:
        raise InputError(
            f"{file}: a token is one word of {MIN_TOKEN} letters and figures or more; make one "
            "with python -c 'import secrets; print(secrets.token_urlsafe(24))'"
        )
    return token


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot listen on {host}:{port} ({reason}); give another --host or --port"
        ) from error


def _calibration(run: Path, fingerprint: str) -> Calibration | None:
    """The calibration of a run, or of the run whose folder an export is in."""
    return Calibration.of(run, fingerprint) or Calibration.of(run.parent, fingerprint)


def _named(host: str) -> str:
    return f"[{host}]" if ":" in host else host
