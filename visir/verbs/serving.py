"""Verbs that take a run to where it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from visir.verbs.terminal import on_terminal


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
