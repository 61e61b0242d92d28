"""What a calibration promises, and what it keeps, on people the network has never seen.

The runs of the demo are calibrated in four ways: on the people they were trained on and on half of
the people they have never seen, by labels and by clusters. Then everybody of the other half is
looked for in galleries with and without them, and the answers are compared with the truth.

    python benchmarks/calibration.py            # about five minutes on two cores, after demo.py
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import numpy as np
from demo import spread

from visir.commands.demo import demo
from visir.core.run import Run
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.calibrate import compared, look_around, measure

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "calibration.md"
ALLOWED = 0.1
WAYS = {
    "people of the training, by labels": ("train", True),
    "people of the training, by clusters": ("train", False),
    "people it has never seen, by labels": ("unseen", True),
    "people it has never seen, by clusters": ("unseen", False),
}
Rates = tuple[float, float, float, float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark-demo"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found: dict[str, list[Rates]] = {way: [] for way in WAYS}
    for seed in arguments.seeds:
        folder = arguments.runs / str(seed)
        if not Run(folder).scores.exists():
            demo(folder, seed, say=print)
        for way, rates in measured(folder, seed).items():
            found[way].append(rates)
            print(seed, way, rates, flush=True)
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def measured(folder: Path, seed: int) -> dict[str, Rates]:
    """Promised and true rates of every way, on people no way has looked at."""
    embedder, data = load(folder), open_benchmark(folder / "people")
    people = np.random.default_rng(seed).permutation(sorted({r.pid for r in data.test}))
    kept, asked = (set(half.tolist()) for half in np.array_split(people, 2))
    parts = {"train": data.train, "unseen": [r for r in data.test if r.pid in kept]}
    truth = compared(embedder, [r for r in data.test if r.pid in asked], labels=True)
    looks = look_around(truth, np.arange(len(truth[0].counts)), np.random.default_rng(seed))
    found = {}
    for way, (part, labels) in WAYS.items():
        curve, threshold, promised = measure(compared(embedder, parts[part], labels), ALLOWED)
        sure = curve.confidence(looks.scores, looks.images)
        passed = sure >= threshold
        alarms = float(passed[~looks.there].mean())
        hits = float((passed & looks.right)[looks.there].mean())
        found[way] = (*promised, alarms, hits, off(sure, looks.right))
    return found


def off(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: how far confidence is from the share of right hits, in tenths."""
    tenths = np.minimum((10 * sure).astype(int), 9)
    return sum(
        abs(sure[tenths == tenth].sum() - right[tenths == tenth].sum()) for tenth in range(10)
    ) / len(sure)  # fmt: skip


def table(found: dict[str, list[Rates]]) -> str:
    lines = [
        "| measured on | absent people who find somebody: promised, % | true, % "
        "| people who are there and are found: promised, % | true, % | confidence is off by, % |",
        "|---|---|---|---|---|---|",
    ]
    for way, of in found.items():
        promised_alarms, promised_hits, alarms, hits, error = 100 * np.array(of).T
        columns = (promised_alarms, alarms, promised_hits, hits, error)
        lines.append(f"| {way} | {' | '.join(spread(column, 0) for column in columns)} |")
    lines += [
        "",
        f"Mean ± sample standard deviation over {len(found[way])} runs of the demo, of rates over "
        "galleries of 2 to 19 people and both directions. True rates are those of the 24 people "
        "that neither the training nor the calibration has seen; confidence is off by the mean "
        "distance of confidence and share of right best hits, over ten bins. "
        f"{os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
