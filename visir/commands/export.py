"""`visir export`: a network as ONNX graphs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from visir.export import Exported


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
    one_file: bool = False,
    device: str = "auto",
) -> Exported:
    """Write a run's network as ONNX graphs, after comparing them with PyTorch.

    Args:
        run: run folder, weights file, or builtin.
        out: folder to write, new or an earlier export, which is replaced; if omitted onnx, or
            onnx-int8, beside the weights.
        format: format of the graphs.
        precision: fp32, or int8, which is faster and less exact.
        data: folder of the data set whose images are compared and calibrate int8, and on which
            the loss of accuracy by int8 is measured; synthetic people if omitted.
        layout: folder structure of the data set; detected if omitted.
        no_flip: embed images only, not the mean of image and mirror image.
        one_file: write the weights into each graph, not into a file that both graphs share.
        device: where PyTorch runs for the comparison; auto uses a GPU if there is one.

    Returns:
        The folder, and how close the graphs are to PyTorch.

    Raises:
        InputError: no such run or data, `out` holds something else, a package is missing, or
            embeddings of float32 graphs differ from PyTorch's.
    """
    import visir.export
    from visir.nets.shipped import as_run

    run = as_run(run)
    if out is None:
        out = (run if run.is_dir() else run.parent) / (
            "onnx" if precision == "fp32" else "onnx-int8"
        )
    return visir.export.export(
        run,
        out,
        data=data,
        layout=layout,
        precision=precision,
        flip=not no_flip,
        one_file=one_file,
        device=device,
        progress=True,
    )
