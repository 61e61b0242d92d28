"""`visir serve`: the page and the HTTP API."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def serve(
    run: Path,
    /,
    *,
    gallery: str,
    host: str = "127.0.0.1",
    port: int = 8000,
    desk: Path | None = None,
    token_file: Path | None = None,
    runtime: Literal["torch", "onnx"] = "torch",
    blur: bool = False,
    retention: float | None = None,
    device: str = "auto",
) -> None:
    """Serve a page, and an HTTP API, to search a gallery with.

    Args:
        run: run folder or weights file; with --runtime onnx what `visir export` wrote.
        gallery: folder that `visir index` made, or a database's postgresql:// address.
        host: where to listen; anything but this machine itself demands a token.
        port: where to listen; 0 takes a free one.
        desk: folder of cases and the audit log; GALLERY/desk where not given.
        token_file: file with the token everybody has to know; else one is made and printed.
        runtime: what computes descriptors; onnx needs no PyTorch.
        blur: pixelate heads wherever a picture leaves the server.
        retention: days after which images are forgotten; the gallery's own where not given.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.web.serve import serve as run_server

    run_server(
        run, gallery, host, port, desk, token_file, runtime, blur, retention, device, say=_say
    )


def _say(line: str) -> None:
    print(line, flush=True)
