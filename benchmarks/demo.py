"""Measure the accuracy of `visir demo` over seeds, and that labels and file names have no effect.

Each seed has its own people, cameras and training. The last row trains on the first seed's images
copied to an unlabelled folder under random names. Results are those of the last epoch; the scored
people are neither trained on nor used for any choice.

    python benchmarks/demo.py            # about ten minutes on two cores; resumes if stopped
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import time
from pathlib import Path

import numpy as np

from visir.commands.demo import BACKBONE, METHOD, PROTOCOL, RANDOM, READY, demo
from visir.core.run import Run
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate
from visir.nets.shipped import BUILTIN
from visir.training.train import train

AFTER = "last epoch"
TABLE = Path(__file__).parent.parent / "docs" / "tables" / "demo.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    rows, minutes = [], []
    for seed in arguments.seeds:
        out = arguments.out / str(seed)
        taken = out / "minutes.txt"  # written when a seed is done
        if not taken.exists():
            began = time.perf_counter()
            demo(out=out, seed=seed)
            taken.write_text(str((time.perf_counter() - began) / 60), encoding="utf-8")
        minutes.append(float(taken.read_text("utf-8")))
        rows.append(stages(out))
    shuffled = train_on_shuffled_names(arguments.out, arguments.seeds[0])
    text = table(rows, minutes, shuffled)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def stages(out: Path) -> dict[str, tuple[float, float]]:
    """(rank-1, mAP) of networks not trained on these people, after each stage; and chance."""
    lines = [line for line in Run(out).read_metrics() if line["kind"] == "scores"]
    found = {line["label"]: (line["rank1"], line["mAP"]) for line in lines}  # the last of each
    found[AFTER] = (lines[-1]["rank1"], lines[-1]["mAP"])
    found["chance"] = (float("nan"), lines[0]["chance_mAP"])
    return found


def train_on_shuffled_names(out: Path, seed: int) -> tuple[float, float]:
    people, crops = out / str(seed) / "people", out / "shuffled"
    shutil.rmtree(crops, ignore_errors=True)
    benchmark = open_benchmark(people)
    rng = random.Random(seed)
    for record in benchmark.train:
        folder = crops / "crops" / record.modality.value / f"cam{record.cam}"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(record.path, folder / f"{rng.getrandbits(64):016x}.jpg")
    run = train(METHOD, crops / "crops", crops / "run", seed=seed, start=Path(BUILTIN))
    mean = evaluate(load(run.folder), benchmark, [PROTOCOL]).results[PROTOCOL].mean
    return mean.rank1, mean.mAP


def table(
    rows: list[dict[str, tuple[float, float]]],
    minutes: list[float],
    shuffled: tuple[float, float],
) -> str:
    chance = np.array([row["chance"][1] for row in rows])
    before = np.array([row[READY][1] for row in rows])
    names = {
        RANDOM: "random start",
        BACKBONE: "the backbone, knows visible images only",
        READY: "before: the ready model",
        AFTER: "after: pairs, last epoch",
    }
    lines = [
        "| network | rank-1, % | mAP, % | times chance | mAP less before, points |",
        "|---|---|---|---|---|",
    ]
    for label, name in names.items():
        rank1, mean_ap = (np.array([row[label][i] for row in rows]) for i in (0, 1))
        over = [spread(values, 1) for values in (mean_ap / chance, 100 * (mean_ap - before))]
        cells = [name, spread(100 * rank1, 1), spread(100 * mean_ap, 1), *over]
        lines.append(f"| {' | '.join(cells)} |")
    lines.append(
        f"| after, seed 0, files renamed at random, no labels | {100 * shuffled[0]:.1f} "
        f"| {100 * shuffled[1]:.1f} | {shuffled[1] / chance[0]:.1f} "
        f"| {100 * (shuffled[1] - before[0]):z.1f} |"
    )
    last = ", ".join(f"{100 * row[AFTER][1]:.1f}" for row in rows)
    return "\n".join(
        [
            *lines,
            "",
            "Mean ± sample standard deviation over "
            f"{len(rows)} seeds (people, cameras and training all differ), SYSU-MM01 all-search "
            "single-shot with the seeded gallery, 10 trials, on 48 synthetic people never seen in "
            f"training; last epoch, nothing chosen on them. mAP of each seed: {last}. Chance mAP "
            f"{100 * chance.mean():.1f} %. One demo took {spread(np.array(minutes), 1)} minutes "
            f"on {os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


def spread(values: np.ndarray, digits: int) -> str:
    if len(values) == 1:
        return f"{values[0]:z.{digits}f}"
    return f"{values.mean():z.{digits}f} ± {values.std(ddof=1):.{digits}f}"


if __name__ == "__main__":
    main()
