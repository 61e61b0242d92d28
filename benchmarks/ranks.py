"""Steps a second of two processes on two cores, compared with one process of one thread.

SimCLR on the micro transformer, in turns: each turn trains the same steps with one process, with
two, and with two whose batch norms use only their own images. The losses of the first two are
equal up to rounding.

    python benchmarks/ranks.py            # about five minutes on two cores
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import spread

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that start from here

from visir.core.run import Run
from visir.synth.write import synthesise
from visir.training.launch import launch
from visir.training.settings import BatchNorm
from visir.training.train import train

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "ranks.md"
ROWS: dict[str, tuple[int, BatchNorm]] = {
    "1": (1, "shared"),
    "2": (2, "shared"),
    "2, batch norms of their own (`--batch-norm own`)": (2, "own"),
}
SETTINGS = {"epochs": "2", "batch": "32", "size": "96,48"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40, help="of an epoch; the second is counted")
    arguments = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in ROWS}
    with tempfile.TemporaryDirectory() as place:
        people = Path(place) / "people"
        synthesise(people, ids=30, train_ids=20, images=4, size="96x48", progress=False)
        settings = {**SETTINGS, "iterations": str(arguments.steps)}
        for turn in range(arguments.turns):
            for number, (name, (count, norms)) in enumerate(ROWS.items()):
                out = Path(place) / f"{turn}-{number}"
                work = partial(
                    train, "simclr", people, out, settings=settings, batch_norm=norms,
                    progress=False,
                )  # fmt: skip
                launch(count, "cpu", work)
                taken[name].append(rate(Run(out), 4 * int(SETTINGS["batch"])))
                print(f"{name}: {taken[name][-1]:.2f} steps a second", flush=True)
    text = table(taken)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def rate(run: Run, views: int) -> float:
    """Steps a second of the second epoch, without planning; a step has so many views."""
    epochs = [line for line in run.read_metrics() if line["kind"] == "epoch"]
    return float(epochs[-1]["views_per_second"]) / views


def table(taken: dict[str, list[float]]) -> str:
    """A row for each kind."""
    one = np.array(taken["1"])
    lines = ["| processes | steps a second | ratio, turn by turn |", "|---|---|---|"]
    for name, of in taken.items():
        rates = np.array(of)
        lines.append(f"| {name} | {spread(rates, 2)} | {spread(rates / one, 2)} |")
    lines += [
        "",
        f"SimCLR, micro transformer, 4 x {SETTINGS['batch']} views of 96 x 48 pixels, one "
        f"thread a process, gloo. Median (lowest to highest) of {len(one)} turns on "
        f"{os.cpu_count()} cores ({platform.machine()}), PyTorch {torch.__version__}.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
