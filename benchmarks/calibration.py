"""Compare the calibrated rates of a calibration with the true rates on other people.

The runs of the demo are calibrated in four ways: on the training people and on half of the other
people, by labels and by clusters. Then galleries with and without each person of the remaining half
are searched for this person, and the results are compared with the truth.

    python benchmarks/calibration.py            # after demo.py
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
from visir.evaluation.calibrate import by_modality, compared, draw_searches, measure

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "calibration.md"
ALLOWED = 0.1
WAYS = {
    "training people, by labels": ("train", True),
    "training people, by clusters": ("train", False),
    "other people, by labels": ("unseen", True),
    "other people, by clusters": ("unseen", False),
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
            demo(out=folder, seed=seed)
        for way, rates in measured(folder, seed).items():
            found[way].append(rates)
            print(seed, way, rates, flush=True)
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def measured(folder: Path, seed: int) -> dict[str, Rates]:
    """Calibrated and true rates of every way, on people that no way has used."""
    embedder, data = load(folder), open_benchmark(folder / "people")
    people = np.random.default_rng(seed).permutation(sorted({r.pid for r in data.test}))
    kept, asked = (set(half.tolist()) for half in np.array_split(people, 2))
    parts = {"train": data.train, "unseen": [r for r in data.test if r.pid in kept]}
    truth = compared(*by_modality(embedder, [r for r in data.test if r.pid in asked]), True)
    searches = draw_searches(truth, np.arange(len(truth[0].counts)), np.random.default_rng(seed))
    found = {}
    for way, (part, labels) in WAYS.items():
        curve, threshold, calibrated = measure(
            compared(*by_modality(embedder, parts[part]), labels), ALLOWED
        )
        sure = curve.confidence(searches.scores, searches.images)
        passed = sure >= threshold
        alarms = float(passed[~searches.there].mean())
        hits = float((passed & searches.right)[searches.there].mean())
        found[way] = (*calibrated, alarms, hits, calibration_error(sure, searches.right))
    return found


def calibration_error(sure: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error of confidences, over ten bins."""
    bins = np.minimum((10 * sure).astype(int), 9)
    total = sum(abs(sure[bins == n].sum() - right[bins == n].sum()) for n in range(10))
    return total / len(sure)


def table(found: dict[str, list[Rates]]) -> str:
    lines = [
        "| measured on | false alarms on absent people: calibrated, % | true, % "
        "| present people found: calibrated, % | true, % | calibration error, % |",
        "|---|---|---|---|---|---|",
    ]
    for way, of in found.items():
        calibrated_alarms, calibrated_hits, alarms, hits, error = 100 * np.array(of).T
        columns = (calibrated_alarms, alarms, calibrated_hits, hits, error)
        lines.append(f"| {way} | {' | '.join(spread(column, 0) for column in columns)} |")
    lines += [
        "",
        f"Mean ± sample standard deviation over {len(found[way])} runs of the demo, of rates over "
        "galleries of 2 to 19 people and both directions. True rates are those of 24 people who "
        "were in neither the training nor the calibration; the calibration error is the mean "
        "difference between confidence and share of right best hits, over ten bins. "
        f"{os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
