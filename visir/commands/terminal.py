"""What commands share: values of options, and the line that names a written file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BoxFormat = Literal["auto", "mot", "coco", "cvat", "label-studio", "yolo"]
"""Of a file of boxes; those of `visir.data.boxes.FORMATS`, written here so that help is quick."""


@dataclass(frozen=True)
class Written:
    """The result of a command that writes one file or folder, and what to do with it next."""

    path: Path
    next_step: str = ""

    def __str__(self) -> str:
        return f"{self.path}: written" + (f"; {self.next_step}" if self.next_step else "")
