"""Measure the rendering of people: images per second and core, encoded and written as JPEG.

python benchmarks/synth.py           # about a minute
"""

from __future__ import annotations

import platform
import statistics
import tempfile
import time
from pathlib import Path

from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "synth.md"
SIZES = {"288x144": 8, "144x72": 16, "96x48": 24}  # and how many identities to render
RUNS = 5


def images_per_second(size: str, ids: int) -> list[float]:
    found = []
    for seed in range(RUNS + 1):  # the first one warms up
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "people"
            began = time.perf_counter()
            synthesise(out, ids=ids, images=4, size=size, seed=seed, workers=1, progress=False)
            seconds = time.perf_counter() - began
            found.append(len(list(out.rglob("*.jpg"))) / seconds)
    return found[1:]


def main() -> None:
    lines = ["| size | images per second and core | lowest to highest |", "|---|---|---|"]
    for size, ids in SIZES.items():
        speed = images_per_second(size, ids)
        lines.append(
            f"| {size} | {statistics.median(speed):.0f} | {min(speed):.0f} to {max(speed):.0f} |"
        )
    lines += [
        "",
        f"Median of {RUNS} data sets, one process, one thread ({platform.machine()}).",
        "",
    ]
    print("\n".join(lines))
    TABLE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
