"""`visir report`: one page about a run."""

from __future__ import annotations

from pathlib import Path


def report(run: Path, /, *, device: str = "auto") -> Path:
    """Write one self-contained HTML page about a run.

    Args:
        run: run folder; its config.yaml names the data set.
        device: where the network runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.

    Returns:
        The page, report.html in the run folder.

    Raises:
        InputError: the run, its weights or its data are missing, or an image cannot be read.
    """
    from visir.core.types import InputError
    from visir.nets.shipped import is_builtin
    from visir.report import write_report

    if is_builtin(run):
        raise InputError(
            f"{run}: was not trained here, so there is nothing to report; visir eval {run} --data "
            "DATA scores it"
        )
    return write_report(run, device=device)
