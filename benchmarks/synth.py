"""Measure the rendering of people: images per second and core, encoded and written as files.

    python benchmarks/synth.py
    python benchmarks/synth.py --vs ../visir-before  # also beside another checkout, in the same run

Each build renders in a process of its own with one thread. With `--vs` the builds take turns, data
set by data set, and the table gives the ratio of neighbouring data sets.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from builds import ROOT, Worker

TABLE = ROOT / "docs" / "tables" / "synth.md"
SIZES = {"288x144": 8, "144x72": 16, "128x64": 16, "96x48": 24}  # and how many identities to render
RUNS = 7
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def work() -> None:
    """Render what the lines of the standard input ask for; print images per second."""
    import visir
    from visir.synth.write import synthesise

    print(Path(visir.__file__).resolve().parent, flush=True)
    for line in sys.stdin:
        size, ids, seed = line.split()
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "people"
            began = time.perf_counter()
            synthesise(
                out,
                ids=int(ids),
                images=4,
                size=size,
                seed=int(seed),
                workers=1,
                progress=False,
            )
            seconds = time.perf_counter() - began
            print(len(list(out.rglob("*.jpg"))) / seconds, flush=True)


def measure(builds: Sequence[Worker], size: str, ids: int) -> list[list[float]]:
    """(RUNS, builds) images per second; the builds change places from run to run."""
    found = []
    for seed in range(RUNS + 1):  # the first one warms up
        speed = [0.0] * len(builds)
        order = range(len(builds)) if seed % 2 else reversed(range(len(builds)))
        for k in order:
            speed[k] = builds[k].ask(f"{size} {ids} {seed}")
        found.append(speed)
    return found[1:]


def spread(values: Sequence[float], digits: int) -> str:
    """The median, and the lowest to highest value, as two cells of a table."""
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} | {low:.{digits}f} to {high:.{digits}f}"


def table(checkouts: Sequence[Path], name: str) -> list[str]:
    """Measure all sizes; the lines of the table."""
    head = ["size", "images per second and core", "lowest to highest"]
    if name:
        head += [f"the same of {name}", "times as fast", "lowest to highest"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    builds = [Worker([__file__, "--worker"], checkout, ONE_THREAD) for checkout in checkouts]
    for size, ids in SIZES.items():
        speed = measure(builds, size, ids)
        line = f"| {size} | {spread([run[0] for run in speed], 0)} |"
        if name:
            line += f" {statistics.median(run[1] for run in speed):.0f} |"
            line += f" {spread([run[0] / run[1] for run in speed], 2)} |"
        print(line, flush=True)
        lines.append(line)
    for build in builds:
        build.close()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vs", type=Path, help="another checkout of visir to measure beside")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    name, checkouts = "", [ROOT]
    if options.vs:
        other = options.vs.resolve()
        checkouts.append(other)
        command = ["git", "-C", str(other), "rev-parse", "--short", "HEAD"]
        name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    lines = table(checkouts, name)
    lines += ["", f"Median of {RUNS} data sets, one process, one thread ({platform.machine()})."]
    if name:
        lines[-1] += (
            f" Commit {name} and this one took turns; their ratio is of neighbours in time."
        )
    TABLE.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
