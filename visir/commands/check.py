"""`visir check`: what a data set holds, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visir.data.check import CheckReport


def check(
    data: Path,
    /,
    *,
    layout: str | None = None,
    list: Path | None = None,
    detector: Path | None = None,
) -> CheckReport:
    """Count the images of a data set and list missing and broken files.

    Every image is decoded. Counts are compared with the published ones, or with those that
    `visir synth` wrote down. The exit code is 1 if there are problems. Pictures that are worth a
    look (dark, flat, blurred, nearly the same, of odd shape and others) are counted; they are no
    problems.

    Args:
        data: folder of the data set (also --data).
        layout: folder structure; detected if omitted.
        list: folder to write the names of such pictures to, a text file for each kind;
            --exclude-list of other commands takes these files.
        detector: an .onnx file of a network, which finds the pictures without a person.

    Returns:
        The layout, the text to display, and one sentence for each problem.

    Raises:
        InputError: there is no such folder, or its layout is unknown.
    """
    import visir.data.check
    from visir.core.types import InputError

    person = None
    if detector is not None:
        from visir.sources.onnx_detector import OnnxDetector, is_onnx

        if not is_onnx(detector):
            raise InputError(f"detector: {detector} is no .onnx file; docs/embedding.md names one")
        person = OnnxDetector(detector).shows_person
    report = visir.data.check.check(data, layout, progress=True, person=person)
    if list is not None:
        report.write_lists(list)
    return report
