"""Measure the gains of the second stages of ADCA and SDCL on the demo's synthetic people.

All runs start from one SimCLR warm-up per seed: ADCA with its preset, with the published
association, with its first stage for all epochs (the control), and SDCL. Results are those of the
last epoch; the scored people are neither trained on nor used for any choice.

    python benchmarks/methods.py            # about 50 minutes on two cores; resumes if stopped
"""

from __future__ import annotations

import argparse
import os
import platform
from pathlib import Path

import matplotlib as mpl
import numpy as np
from demo import spread

from visir.commands.demo import IMAGES, PROTOCOL, SIZE, TEST_IDS, TRAIN_IDS
from visir.core.run import Run
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate
from visir.synth.write import synthesise
from visir.training.train import train

DOCS = Path(__file__).parent.parent / "docs"
TABLE, PICTURE = DOCS / "tables" / "methods.md", DOCS / "tables" / "methods.png"
RUNS = {
    "control": ("adca", {"stage_epochs": "30,0"}, "ADCA, first stage all the time: the control"),
    "count": ("adca", {"association": "count"}, "ADCA, count priority as published"),
    "adca": ("adca", {}, "ADCA, the preset's association"),
    "sdcl": ("sdcl", {}, "SDCL"),
}
COLOURS = {"control": "#8a8a8a", "count": "#d98c2b", "adca": "#2f6fb5", "sdcl": "#3a8f5c"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-methods"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    scores: dict[str, list[tuple[float, float]]] = {}
    plans: dict[str, list[list[dict]]] = {}
    for seed in arguments.seeds:
        folder = arguments.out / str(seed)
        synthesise(folder / "people", ids=TRAIN_IDS + TEST_IDS, train_ids=TRAIN_IDS, images=IMAGES,
                   size=SIZE, seed=seed)  # fmt: skip
        warm = folder / "warm-up"
        train("simclr", folder / "people", warm, seed=seed, resume=(warm / "config.yaml").exists())
        for name in ("warm-up", *RUNS):
            run = Run(folder / name) if name == "warm-up" else trained(folder, name, seed)
            mean = scored(folder, run)
            scores.setdefault(name, []).append(mean)
            plans.setdefault(name, []).append(
                [line for line in run.read_metrics() if line["kind"] == "plan"]
            )
            print(seed, name, mean, flush=True)
    text = table(scores, plans)
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    draw(plans)


def trained(folder: Path, name: str, seed: int) -> Run:
    method, settings, _ = RUNS[name]
    out = folder / name
    resume = (out / "config.yaml").exists()
    return train(method, folder / "people", out, seed=seed, start=folder / "warm-up",
                 settings=None if resume else settings, resume=resume)  # fmt: skip


def scored(folder: Path, run: Run) -> tuple[float, float]:
    benchmark = open_benchmark(folder / "people")
    mean = evaluate(load(run.folder), benchmark, [PROTOCOL]).results[PROTOCOL].mean
    return mean.rank1, mean.mAP


def table(scores: dict[str, list[tuple[float, float]]], plans: dict[str, list[list[dict]]]) -> str:
    labels = {"warm-up": "before: SimCLR warm-up"}
    labels |= {name: label for name, (_, _, label) in RUNS.items()}
    control = np.array([mean_ap for _, mean_ap in scores["control"]])
    lines = [
        "| training | rank-1, % | mAP, % | over the control | clusters, vis + ir | purity, % "
        "| pairs right, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, label in labels.items():
        rank1, mean_ap = (np.array(column) for column in zip(*scores[name], strict=True))
        over = spread(100 * (mean_ap - control), 1) if name in RUNS and name != "control" else "-"
        last = [lines_of[-1] for lines_of in plans[name] if lines_of]
        cells = [label, spread(100 * rank1, 1), spread(100 * mean_ap, 1), over]
        for keys in (("clusters_visible", "clusters_infrared"),
                     ("purity_visible", "purity_infrared"), ("pairs_correct",)):  # fmt: skip
            scale = 1 if "clusters" in keys[0] else 100
            found = [[scale * line[key] for line in last if key in line] for key in keys]
            cells.append(" + ".join(f"{np.mean(of):.0f}" for of in found if of) or "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± sample standard deviation over {len(control)} seeds (people, cameras and "
            'training differ); "over the control" is the mean of the differences seed by seed, in '
            "mAP points. SYSU-MM01 all-search single-shot with the seeded gallery, 10 trials, on "
            "people never seen in training; last epoch. Clusters, purity and pairs are of the "
            f"last epoch. {os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


def draw(plans: dict[str, list[list[dict]]]) -> None:
    """Clusters, purity and right pairs over the epochs, a thin line a seed and their mean."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), constrained_layout=True)
    panels = {
        "clusters, visible": "clusters_visible",
        "purity, infrared": "purity_infrared",
        "association, share right": "pairs_correct",
    }
    for axis, (title, key) in zip(axes, panels.items(), strict=True):
        for name, colour in COLOURS.items():
            lines = [[line.get(key, np.nan) for line in of] for of in plans[name]]
            epochs = 1 + np.arange(len(lines[0]))
            for line in lines:
                axis.plot(epochs, line, color=colour, alpha=0.25, linewidth=0.8)
            mean = np.mean(lines, axis=0)
            if not np.isnan(mean).all():
                axis.plot(epochs, mean, color=colour, linewidth=1.8, label=name)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("epoch after the warm-up", fontsize=9)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].axhline(60, color="#8a8a8a", linewidth=0.8, linestyle=":")
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
