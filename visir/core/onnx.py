"""Open a graph in ONNX Runtime, which is optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from visir.core.types import InputError


def session(graph: Path, threads: int | None = None) -> Any:  # noqa: ANN401 - an optional package's type
    """An ONNX Runtime session on the CPU.

    Args:
        graph: the ONNX file.
        threads: how many it computes in; None for as many as there are cores.

    Raises:
        InputError: ONNX Runtime is missing, or the file is missing or no graph that it can run.
    """
    try:
        import onnxruntime
    except ImportError:
        raise InputError(
            "ONNX Runtime is not installed; install it with pip install onnxruntime, or "
            'pip install "visir[export]"'
        ) from None
    if not graph.is_file():
        raise InputError(f"{graph}: no such file; check the path")
    try:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: as many as there are cores
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no common base class
        raise InputError(
            f"{graph}: ONNX Runtime {onnxruntime.__version__} cannot run this file "
            f"({str(error).splitlines()[0]}); make it again"
        ) from error
