"""`visir prepare`: a copy of a data set in the arrangement that other code reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from visir.commands.terminal import Written


def prepare(layout: Literal["sysu", "regdb"], data: Path, out: Path, /) -> Written:
    """Copy a data set into a Market-1501 style tree, for code other than visir.

    visir itself reads the original folders. If it was stopped, the same command continues.

    Args:
        layout: folder structure of the data set.
        data: folder of the data set (also --data).
        out: folder to write.

    Returns:
        The folder.

    Raises:
        InputError: the data set cannot be read, or the disk is full (files already copied are
            complete and stay).
    """
    import visir.data.prepare

    visir.data.prepare.prepare(layout, data, out, progress=True)
    return Written(out)
