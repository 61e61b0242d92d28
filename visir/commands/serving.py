"""Verbs that take a run to where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from visir.commands.terminal import on_terminal


def export(
    run: Path,
    /,
    *,
    out: Path | None = None,
    format: Literal["onnx"] = "onnx",
    precision: Literal["fp32", "int8"] = "fp32",
    data: Path | None = None,
    layout: str | None = None,
    no_flip: bool = False,
    device: str = "auto",
) -> None:
    """Write a run's network as ONNX graphs, after comparing them with PyTorch.

    Args:
        run: run folder or weights file.
        out: folder to write; onnx, or onnx-int8, beside the weights where not given.
        format: of the graphs.
        precision: fp32, or int8 for faster and coarser products.
        data: data set whose images are compared and calibrate int8, and on which the cost of int8
            is measured; synthetic people where not given.
        layout: of the data set: sysu, regdb, llcm or folder; found out where not given.
        no_flip: leave mirror images out of descriptors.
        device: where PyTorch computes what is compared with; auto takes a GPU where there is one.
    """
    from visir.export import export as write_graphs

    if out is None:
        out = (run if run.is_dir() else run.parent) / (
            "onnx" if precision == "fp32" else "onnx-int8"
        )
    found = write_graphs(
        run, out, data, layout, precision, not no_flip, device, progress=on_terminal()
    )
    print(f"{out}: written\n\n{found.table()}")


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
