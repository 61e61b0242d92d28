"""`visir serve`: a page and an HTTP API to search a gallery with."""

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
    trusted_proxy: tuple[str, ...] = (),
    root_path: str = "",
    server_name: tuple[str, ...] = (),
    device: str = "auto",
) -> None:
    """Serve a page, and an HTTP API, to search a gallery with.

    Args:
        run: run folder, weights file, or builtin; with --runtime onnx what `visir export` wrote.
        gallery: a gallery of `visir index`: a folder, or the address of a database.
        host: address to listen on; an access token is required unless it is local.
        port: port to listen on; 0 takes a free one.
        desk: folder of cases and the audit log; GALLERY/desk if omitted.
        token_file: file with the access token. If omitted and --host is not local, a token is
            generated and printed.
        runtime: what computes embeddings; onnx needs no PyTorch.
        blur: pixelate heads wherever a picture leaves the server.
        retention: days after which images are deleted; the gallery's own setting if omitted.
        trusted_proxy: address of a proxy, or network as 10.0.0.0/24, whose X-Forwarded-For and
            X-Forwarded-Proto are believed.
        root_path: path below which a proxy shows the pages, as /visir.
        server_name: other name that browsers reach the server by, as that of a proxy.
        device: where the network runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.
    """
    from visir.nets.shipped import as_run
    from visir.web import serve as server

    run = as_run(run)
    server.serve(
        run,
        gallery,
        host=host,
        port=port,
        desk=desk,
        token_file=token_file,
        runtime=runtime,
        blur=blur,
        retention=retention,
        trusted_proxy=trusted_proxy,
        root_path=root_path,
        server_name=server_name,
        device=device,
        say=_print_now,
    )


def _print_now(line: str) -> None:
    print(line, flush=True)
