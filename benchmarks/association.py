"""Compare the associations of clusters when only one modality sees some of the people.

A share of the training people is seen in one modality only. Short second stages start from the same
first stage of ADCA and differ only in the association. Results are those of the last epoch; the
scored people are seen in both modalities and neither trained on nor used for any choice.

    python benchmarks/association.py            # resumes if stopped
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import numpy as np
from demo import spread

from visir.commands.demo import IMAGES, PROTOCOL, SIZE, TEST_IDS, TRAIN_IDS
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate
from visir.methods.adca import PRESETS
from visir.synth.write import synthesise
from visir.training.train import train

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "association.md"
FORCED = {
    "count": "count priority (ADCA)",
    "greedy": "similarity greedy (TokenMatcher)",
    "balanced": "optimal transport, balanced",
}
FREE = {
    "ranking": "ranking vote (SDCL), one embedding",
    "unbalanced": "optimal transport, unbalanced",
    "mutual": "mutually most similar",
}
SECOND = {"stage_epochs": "0,6", "iterations": "25", "lr_step": "5"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-association"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--unpaired", type=float, nargs="+", default=[0, 0.25, 0.5, 1])
    arguments = parser.parse_args()
    found = {}
    for unpaired in arguments.unpaired:
        for seed in arguments.seeds:
            folder = arguments.out / f"{unpaired:g}" / str(seed)
            first_stage(folder, unpaired, seed)
            found[unpaired, "start", seed] = {"mAP": scored(folder, "stage-1")}
            for name in FORCED | FREE:
                found[unpaired, name, seed] = second_stage(folder, name, seed)
                print(unpaired, seed, name, found[unpaired, name, seed], flush=True)
    text = table(found, arguments.unpaired, arguments.seeds)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def first_stage(folder: Path, unpaired: float, seed: int) -> None:
    """People, a warm-up and ADCA's first stage, the same for all associations."""
    people, done = folder / "people", folder / "stage-1.done"
    if done.exists():
        return
    synthesise(people, ids=TRAIN_IDS + TEST_IDS, train_ids=TRAIN_IDS, images=IMAGES, size=SIZE,
               seed=seed, unpaired=unpaired)  # fmt: skip
    warm, stage = folder / "warm-up", folder / "stage-1"
    train("simclr", people, warm, seed=seed, resume=(warm / "config.yaml").exists())
    train("adca", people, stage, seed=seed, start=warm, settings={"stage_epochs": "10,0"},
          resume=(stage / "config.yaml").exists())  # fmt: skip
    done.touch()


def second_stage(folder: Path, name: str, seed: int) -> dict[str, float]:
    """Last-epoch mAP and the association's own right and wrong answers."""
    result = folder / f"{name}.json"
    if not result.exists():
        out = folder / name
        run = train("adca", folder / "people", out, seed=seed, start=folder / "stage-1",
                    settings={**SECOND, "association": name},
                    resume=(out / "config.yaml").exists())  # fmt: skip
        plan = [line for line in run.read_metrics() if line["kind"] == "plan"][-1]
        kept = ("pairs_matched", "pairs_correct", "none_precision", "none_recall")
        about = {key: plan[key] for key in kept if key in plan}
        result.write_text(json.dumps({"mAP": scored(folder, name), **about}))
    return json.loads(result.read_text())


def scored(folder: Path, name: str) -> float:
    """The last epoch's mAP."""
    benchmark = open_benchmark(folder / "people")
    return evaluate(load(folder / name), benchmark, [PROTOCOL]).results[PROTOCOL].mean.mAP


def table(found: dict, shares: list[float], seeds: list[int]) -> str:
    def values(unpaired: float, name: str, key: str) -> np.ndarray:
        got = [found[unpaired, name, seed].get(key) for seed in seeds]
        return np.array([100 * value for value in got if value is not None])

    default = PRESETS["tiny"].association
    lines = [
        "| seen in one modality only | association | mAP, % | of its mAP with all paired, % "
        '| pairs right, % | "none" right, % | of all that have none, % |',
        "|---|---|---|---|---|---|---|",
    ]
    for unpaired in shares:
        start = spread(values(unpaired, "start", "mAP"), 1)
        lines.append(f"| {unpaired:.0%} | none: where all below begin | {start} | - | - | - | - |")
        for name, label in (FORCED | FREE).items():
            score = values(unpaired, name, "mAP")
            kept = 100 * score / values(shares[0], name, "mAP")
            rest = [values(unpaired, name, key) for key in
                    ("pairs_correct", "none_precision", "none_recall")]  # fmt: skip
            cells = [f"{unpaired:.0%}", label + ", the default" * (name == default),
                     spread(score, 1), spread(kept, 0), *(_or_dash(of) for of in rest)]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Default less the best association that gives everybody a partner it can, in mAP "
              "points seed by seed:", ""]  # fmt: skip
    for unpaired in shares:
        best = max(FORCED, key=lambda name: values(unpaired, name, "mAP").mean())
        over = values(unpaired, default, "mAP") - values(unpaired, best, "mAP")
        each = ", ".join(f"{value:+.1f}" for value in over)
        lines.append(f"- {unpaired:.0%}: {spread(over, 1)} against {FORCED[best]} ({each})")
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± sample standard deviation over {len(seeds)} seeds (people, cameras and "
            f"training differ). {TRAIN_IDS} training people; the second stage is "
            f"{SECOND['stage_epochs'][2:]} epochs of {SECOND['iterations']} batches. mAP on "
            f"{TEST_IDS} other people, all seen in both modalities, SYSU-MM01 all-search "
            "single-shot with the seeded gallery; last epoch. The three right columns are those of "
            "the last epoch's association, by the majority identity of each cluster. "
            f"{os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


def _or_dash(values: np.ndarray) -> str:
    return spread(values, 0) if len(values) else "-"


if __name__ == "__main__":
    main()
