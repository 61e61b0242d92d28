"""Measure the accuracy of `visir demo` over seeds, and that labels and file names have no effect.

Each seed has its own people, cameras and training. A row trains CMAG on the same people from the
backbone that knows visible images only. The last row trains on the first seed's images copied to an
unlabelled folder under random names. Results are those of the last epoch; the scored people are
neither trained on nor used for any choice. With --before, the demo of an older build runs right
before this one's, on the first seed.

    python benchmarks/demo.py --before 1684c8a    # resumes if stopped
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from builds import build_of

from visir.commands.demo import BACKBONE, METHOD, PROTOCOL, RANDOM, READY, demo
from visir.core.run import Run
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate
from visir.nets.shipped import BUILTIN
from visir.training.train import train

AFTER, CMAG = "last epoch", "cmag"
TABLE = Path(__file__).parent.parent / "docs" / "tables" / "demo.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--before", help="an older build: a commit, or the path of a checkout")
    arguments = parser.parse_args()
    rows, minutes = [], []
    former = former_demo(arguments.before, arguments.out, arguments.seeds[0])
    for seed in arguments.seeds:
        out = arguments.out / str(seed)
        minutes.append(timed(out, partial(demo, out=out, seed=seed)))
        rows.append(stages(out))
        other, people = arguments.out / f"{seed}-{CMAG}", out / "people"
        again = Run(other).config.exists()
        asked = {"preset": "own", "start": Path("person"), "seed": seed, "resume": again}
        timed(other, partial(train, CMAG, people, other, **asked))
        rows[-1][CMAG] = scored(other, people)
    shuffled = train_on_shuffled_names(arguments.out, arguments.seeds[0])
    text = table(rows, minutes, shuffled)
    if former:
        text += beside(former, minutes[0], rows[0][AFTER][1])
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def timed(out: Path, work: Callable[[], object]) -> float:
    """Minutes that the work took, which is done once; they are kept beside its folder."""
    taken = out.with_name(f"{out.name}-minutes.txt")
    if not taken.exists():
        began = time.perf_counter()
        work()
        taken.write_text(str((time.perf_counter() - began) / 60), encoding="utf-8")
    return float(taken.read_text("utf-8"))


def former_demo(place: str | None, out: Path, seed: int) -> tuple[str, float, float] | None:
    """An older build's name, the minutes of its demo, and the mAP that it reached."""
    if place is None:
        return None
    folder = out.resolve() / "before"
    with tempfile.TemporaryDirectory() as kept:
        build = build_of(place, Path(kept) / "build")
        words = ["visir.cli", "demo", "--out", str(folder), "--seed", str(seed)]
        environment = os.environ | {"PYTHONPATH": str(build)}
        run = partial(subprocess.run, [sys.executable, "-m", *words], env=environment, check=True)
        minutes = timed(folder, run)
    stored = json.loads((folder / "scores.json").read_text("utf-8"))
    return Path(place).name, minutes, stored["protocols"][PROTOCOL]["mean"]["mAP"]


def beside(former: tuple[str, float, float], minutes: float, mean_ap: float) -> str:
    """The older demo in a sentence."""
    name, taken, reached = former
    return (
        f"\nOn the people of one seed, in one run, the demo of {name} took {taken:.1f} minutes and "
        f"reached {100 * reached:.1f} % mAP; this one took {minutes / taken:.2f} of that time and "
        f"reached {100 * mean_ap:.1f} %.\n"
    )


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
    return scored(run.folder, people)


def scored(run: Path, people: Path) -> tuple[float, float]:
    """(rank-1, mAP) of a run on people it was not trained on."""
    mean = evaluate(load(run), open_benchmark(people), [PROTOCOL]).results[PROTOCOL].mean
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
        BACKBONE: "the backbone `person`, knows visible images only",
        CMAG: "from another backbone `person`: CMAG, last epoch",
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
            f"{100 * chance.mean():.1f} %. One demo took {np.median(minutes):.1f} minutes (median) "
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
