"""A training of SYSU-MM01's size without a GPU: one epoch of CMAG's first stage on its twin.

The twin has 34,167 training images of 288 x 144, rendered first. Settings are those of the preset
`sysu`, but for the number of epochs and the network, which is the smallest, with images of 96 x 48.
So files, clustering, batches and memories are those of a real training, and only the network is
not.

    python benchmarks/rehearsal.py             # about ten minutes on two cores
    python benchmarks/rehearsal.py --people 40 # a part, to try it
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from visir.core.run import Run

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "rehearsal.md"
EPOCHS, TERAFLOPS, PETAFLOP = 150, 20, 1184  # of the preset; what presets.py assumes, and counts
PARTS = ("embedding", "clustering", "loading", "forward", "loss", "backward", "optimiser",
         "memories", "other")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, help="training identities, instead of the twin")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        people, run = Path(folder) / "people", Path(folder) / "run"
        twin = ["--twin", "sysu"]
        if arguments.people:
            twin = ["--ids", str(arguments.people + 10), "--train-ids", str(arguments.people)]
        fewer = ["gsmem_start=64"] if arguments.people else []
        rendering = visir("synth", str(people), *twin)
        training = visir(
            "train", "cmag", "--data", str(people), "--out", str(run), "--preset", "sysu",
            "--profile", "--start", "none", "--device", "cpu",
            "--set", "network=micro", "size=96,48", "stage_epochs=1,0", "adapt=eps", *fewer,
        )  # fmt: skip
        size = sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) / 1e9
        text = table(rendering, training, Run(run), size)
    print(text)
    if not arguments.people:
        TABLE.write_text(text, encoding="utf-8")


def visir(*words: str) -> tuple[float, float]:
    """Run a command; seconds, and GiB of memory at the peak."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "visir.cli", *words])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"visir {words[0]}: ended with {os.waitstatus_to_exitcode(status)}")
    return time.perf_counter() - began, used.ru_maxrss / 2**20


def table(
    rendering: tuple[float, float], training: tuple[float, float], run: Run, size: float
) -> str:
    """What was measured, and what follows for a GPU."""
    lines = run.read_metrics()
    (epoch,) = (line for line in lines if line["kind"] == "epoch")
    (plan,) = (line for line in lines if line["kind"] == "plan")
    seconds = {name: epoch["seconds"] * epoch["shares"][name] for name in PARTS}
    rows = [
        ("rendering the twin, s", rendering[0]),
        ("training, s", training[0]),
        ("of it decoding the images, and the start, s", training[0] - epoch["seconds"]),
        *((f"of it {name}, s", of) for name, of in seconds.items()),
        ("memory at the peak, GiB", training[1]),
        ("run folder, GB", size),
    ]
    gpu = PETAFLOP / TERAFLOPS * 1000 / 3600
    host = EPOCHS * (seconds["clustering"] + seconds["loading"]) / 3600
    return "\n".join([
        "| | |",
        "|---|---|",
        *(f"| {name} | {of:,.1f} |" for name, of in rows),
        "",
        f"{plan['clusters_visible']} visible and {plan['clusters_infrared']} infrared clusters. "
        f"The whole preset has {EPOCHS} epochs. Its network needs {PETAFLOP:,} PFLOP, "
        f"{gpu:.1f} hours of a GPU that computes {TERAFLOPS} TFLOP/s, which is an assumption. "
        f"Clustering and loading as here, by two cores, would take {host:.1f} hours beside them. "
        f"{os.cpu_count()} cores ({platform.machine()}).",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
