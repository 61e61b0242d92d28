"""`visir convert`: a weights file from a checkpoint of other code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visir.nets.weights import Opened


@dataclass(frozen=True)
class Converted:
    """The file written, the network in it, and which tensors were used."""

    path: Path
    opened: Opened

    def __str__(self) -> str:
        net, about, loaded = self.opened
        size = "x".join(map(str, about["net"]["image_size"]))
        lines = [
            f"{self.path}: written, a network of {about['method']} for images of {size}",
            f"{type(net).__name__}: {', '.join(f'{k}={v}' for k, v in net.described.items())}",
            str(loaded),
        ]
        if loaded.unused:
            lines.append(f"unused: {', '.join(loaded.unused)}")
        return "\n".join(lines)


def convert(file: Path, out: Path, /, *, gem_p: float | None = None) -> Converted:
    """Convert a checkpoint of other code into a weights file of visir.

    No code in the file is executed. Lists which tensors were used.

    Args:
        file: checkpoint of AGW, CAJ, HCT, SG-MRA, MG-MRA, ADCA, TokenMatcher or CMAG.
        out: file to write; its name ends in .safetensors.
        gem_p: power p of GeM pooling, which checkpoints do not store; needed for ResNets without
            attention: 3 or 10 for HCT and MRA, 3 for ADCA, 1 (the mean) for AGW's method base.

    Returns:
        The file, the network, and which tensors were used.

    Raises:
        InputError: the checkpoint cannot be read or is of visir already, or `out` exists or has
            another ending.
    """
    import visir.nets.weights

    return Converted(out, visir.nets.weights.convert(file, out, gem_p=gem_p))
