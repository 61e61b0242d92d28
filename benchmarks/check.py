"""Measure what `visir check` does with an image beside decoding it.

    python benchmarks/check.py

Rendered people, saved as JPEG and PNG of three sizes. An image is decoded and looked at in turn; of
many calls the fastest counts, so that other work on the machine does not matter, and the table has
the median over the images.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path

import numpy as np
from PIL import Image

from visir.core.types import Modality
from visir.data.images import read_image, resized
from visir.data.pictures import look
from visir.data.registry import open_benchmark
from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "check.md"
SIZES = ((64, 32), (128, 64), (288, 144))
ENDINGS = ("jpg", "png")
IMAGES = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-check"))
    parser.add_argument("--calls", type=int, default=25)
    arguments = parser.parse_args()
    data = arguments.out / "people"
    if not data.exists():
        synthesise(data, ids=10, images=2, size="288x144", seed=0, progress=False)
    lines = [
        "| image | visible: decoded, ms | looked at, ms | times "
        "| infrared: decoded, ms | looked at, ms | times |",
        "|---|" + "---|" * 6,
    ]
    for size in SIZES:
        for ending in ENDINGS:
            paths = saved(arguments.out, data, size, ending)
            lines.append(row(f"{size[0]} x {size[1]}, {ending}", paths, arguments.calls))
            print(lines[-1], flush=True)
    text = "\n".join(
        [
            *lines,
            "",
            f"The fastest of {arguments.calls} calls of each image, median over {IMAGES} images; "
            f"decoding is a part of looking. One thread of {os.cpu_count()} cores "
            f"({platform.machine()}).",
            "",
        ]
    )
    TABLE.write_text(text, encoding="utf-8")


def saved(out: Path, data: Path, size: tuple[int, int], ending: str) -> dict[Modality, list[Path]]:
    """Images of both modalities in a size and a format."""
    paths: dict[Modality, list[Path]] = {modality: [] for modality in Modality}
    for record in open_benchmark(data).train:
        mine = paths[record.modality]
        if len(mine) < IMAGES // 2:
            path = out / f"{size[0]}-{record.modality.value}-{len(mine)}.{ending}"
            Image.fromarray(resized(read_image(record.path), size)).save(path, quality=90)
            mine.append(path)
    return paths


def row(name: str, paths: dict[Modality, list[Path]], calls: int) -> str:
    """A row of the table."""
    cells = [name]
    for modality, of in paths.items():
        decoded, seen = fastest(of, modality, calls)
        cells += [f"{np.median(decoded):.2f}", f"{np.median(seen):.2f}"]
        cells.append(f"{np.median(seen / decoded):.1f}")
    return f"| {' | '.join(cells)} |"


def fastest(paths: list[Path], modality: Modality, calls: int) -> np.ndarray:
    """(2, images) milliseconds of the fastest call: decoding, and looking."""
    found = np.full((2, len(paths)), np.inf)
    for _ in range(calls):
        for number, path in enumerate(paths):
            for kind, call in enumerate((read_image, look)):
                began = time.perf_counter()
                call(path, modality, None)
                took = 1000 * (time.perf_counter() - began)
                found[kind, number] = min(found[kind, number], took)
    return found


if __name__ == "__main__":
    main()
