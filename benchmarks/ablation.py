"""Measure the gain of each module of CMAG on synthetic people.

All second stages have the same length, start from one first stage of TokenMatcher per seed, and
differ only in their switches: the published order (baseline, + DCAM, + CATS, + CARC, + GSMEM, which
is CMAG), each module alone on TokenMatcher, other interpretations of some modules, TokenMatcher
without each of its own parts, and, as the control, the first stage continued for as long. Results
are those of the last epoch; the scored people are neither trained on nor used for any choice.

    python benchmarks/ablation.py            # resumes if stopped
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path

import matplotlib as mpl
import numpy as np
from demo import spread

from visir.commands.demo import IMAGES, PROTOCOL, SIZE, TEST_IDS, TRAIN_IDS
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate
from visir.synth.write import synthesise
from visir.training.train import train

DOCS = Path(__file__).parent.parent / "docs"
TABLE, PICTURE = DOCS / "tables" / "ablation.md", DOCS / "tables" / "ablation.png"
FIRST, SECOND = {"stage_epochs": "10,0"}, {"stage_epochs": "0,12", "iterations": "40"}
OFF = {"cats": "false", "dcam": "false", "gsmem": "false", "carc": "false"}
BARE = {"neighbour_weight": "0", "mate_weight": "0,0"}
CAMERAS = {"camera_epochs": "2,2"}  # TokenMatcher's own, where CARC does not replace them
PRINTED = {
    "baseline": ("ViT baseline, our reading", 52.9),
    "dcam": ("+ DCAM", 57.0),
    "cats": ("+ CATS", 59.2),
    "carc": ("+ CARC, and with it neighbours and mates", None),
    "cmag": ("+ GSMEM: CMAG", 64.0),
}
ALONE = {
    "tokenmatcher": "TokenMatcher",
    "tm-dcam": "TokenMatcher + DCAM",
    "tm-cats": "TokenMatcher + CATS",
    "tm-carc": "TokenMatcher, CARC for its camera stage",
    "tm-gsmem": "TokenMatcher + GSMEM",
}
WITHOUT = {
    "tm-no-cameras": "without its camera stage and filter",
    "tm-no-neighbours": "without its neighbour loss",
    "tm-no-mates": "without its mate losses",
}
READINGS = {  # beside: the run it is another reading of
    "tm-dcam-paired": ("DCAM, an image asks its pair alone", "tm-dcam"),
    "tm-cats-simple": ("CATS, rings of four images that close along", "tm-cats"),
    "tm-gsmem-plain": ("GSMEM, density not divided by R", "tm-gsmem"),
    "tm-ninth": ("TokenMatcher, neighbours from nine tenths as printed", "tokenmatcher"),
    "cmag-ninth": ("CMAG, the same", "cmag"),
    "cmag-gsmem-plain": ("CMAG, density in GSMEM not divided by R", "cmag"),
    "cmag-uncertainty": ("CMAG, its losses weighted by learned variances", "cmag"),
}
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "control": ("tokenmatcher", {"stage_epochs": "12,0", "camera_epochs": "0,0"}),
    "baseline": ("vit-baseline", {}),
    "dcam": ("cmag", {**OFF, **BARE, "dcam": "true"}),
    "cats": ("cmag", {**OFF, **BARE, "dcam": "true", "cats": "true"}),
    "carc": ("cmag", {"gsmem": "false"}),
    "cmag": ("cmag", {}),
    "tokenmatcher": ("tokenmatcher", {}),
    "tm-dcam": ("cmag", {**OFF, **CAMERAS, "dcam": "true"}),
    "tm-cats": ("cmag", {**OFF, **CAMERAS, "cats": "true"}),
    "tm-carc": ("cmag", {**OFF, "carc": "true"}),
    "tm-gsmem": ("cmag", {**OFF, **CAMERAS, "gsmem": "true"}),
    "tm-dcam-paired": ("cmag", {**OFF, **CAMERAS, "dcam": "true", "dcam_scope": "paired_tokens"}),
    "tm-cats-simple": ("cmag", {**OFF, **CAMERAS, "cats": "true", "cats_simple": "true",
                                "cats_closing": "same"}),
    "tm-gsmem-plain": ("cmag", {**OFF, **CAMERAS, "gsmem": "true", "gsmem_per_radius": "false"}),
    "tm-ninth": ("tokenmatcher", {"neighbour_ratio": "0.9"}),
    "cmag-ninth": ("cmag", {"neighbour_ratio": "0.9"}),
    "cmag-gsmem-plain": ("cmag", {"gsmem_per_radius": "false"}),
    "cmag-uncertainty": ("cmag", {"weighting": "uncertainty"}),
    "tm-no-cameras": ("tokenmatcher", {"camera_epochs": "0,0"}),
    "tm-no-neighbours": ("tokenmatcher", {"neighbour_weight": "0"}),
    "tm-no-mates": ("tokenmatcher", {"mate_weight": "0,0"}),
}  # fmt: skip
RULE = "|---|---|---|---|---|---|"
SEEN = ("cats_kept", "cats_across", "dcam_gate", "gsmem_with_3", "carc_kept_visible",
        "carc_kept_infrared")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-ablation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for seed in arguments.seeds:
        folder = arguments.out / str(seed)
        first_stage(folder, seed)
        for name in RUNS:
            found[name].append(second_stage(folder, name, seed))
            print(seed, name, found[name][-1], flush=True)
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    draw(found)


def first_stage(folder: Path, seed: int) -> None:
    """People, a warm-up and TokenMatcher's first stage, the same for all."""
    people, done = folder / "people", folder / "stage-1.done"
    if done.exists():
        return
    synthesise(people, ids=TRAIN_IDS + TEST_IDS, train_ids=TRAIN_IDS, images=IMAGES, size=SIZE,
               seed=seed)  # fmt: skip
    warm, stage = folder / "warm-up", folder / "stage-1"
    train("simclr", people, warm, seed=seed, resume=(warm / "config.yaml").exists())
    train("vit-baseline", people, stage, seed=seed, start=warm, settings=FIRST,
          resume=(stage / "config.yaml").exists())  # fmt: skip
    done.touch()


def second_stage(folder: Path, name: str, seed: int) -> dict[str, float]:
    """Last-epoch accuracy, and what the modules were seen doing in the last epoch."""
    result = folder / f"{name}.json"
    if not result.exists():
        method, settings = RUNS[name]
        out = folder / name
        run = train(method, folder / "people", out, seed=seed, start=folder / "stage-1",
                    settings={**SECOND, **settings},
                    resume=(out / "config.yaml").exists())  # fmt: skip
        benchmark = open_benchmark(folder / "people")
        scores = evaluate(load(run.folder), benchmark, [PROTOCOL]).results[PROTOCOL].mean
        plan = [line for line in run.read_metrics() if line["kind"] == "plan"][-1]
        kept = {key: plan[key] for key in (*SEEN, "pairs_correct") if key in plan}
        result.write_text(json.dumps({"rank1": scores.rank1, "mAP": scores.mAP, **kept}))
    found: dict[str, float] = json.loads(result.read_text())
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    score = {name: 100 * np.array([one["mAP"] for one in of]) for name, of in found.items()}
    right = {name: 100 * np.array([one["pairs_correct"] for one in of])
             for name, of in found.items() if name != "control"}  # fmt: skip

    def row(name: str, label: str, below: str, printed: str) -> str:
        over = spread(score[name] - score[below], 1) if below else "-"
        control = spread(score[name] - score["control"], 1)
        pairs = f"{right[name].mean():.0f}" if name in right else "-"
        return f"| {label} | {spread(score[name], 1)} | {over} | {control} | {pairs} | {printed} |"

    head = "mAP, % | over the one above | over the control | right pairs, % | printed, SYSU-MM01 |"
    lines = [f"| the printed ladder | {head}", RULE]
    lines.append(row("control", "first stage continued: the control", "", "-"))
    below = ""
    for name, (label, printed) in PRINTED.items():
        lines.append(row(name, label, below, "-" if printed is None else f"{printed:.1f}"))
        below = name
    lines += ["", f"| one module at a time | {head.replace('the one above', 'TokenMatcher')}",
              RULE]  # fmt: skip
    for name, label in ALONE.items():
        lines.append(row(name, label, "" if name == "tokenmatcher" else "tokenmatcher", "-"))
    lines += ["", f"| TokenMatcher's own parts | {head.replace('the one above', 'TokenMatcher')}",
              RULE]  # fmt: skip
    lines += [row(name, label, "tokenmatcher", "-") for name, label in WITHOUT.items()]
    lines += ["", f"| other readings | {head.replace('the one above', 'the first reading')}",
              RULE]  # fmt: skip
    lines += [row(name, label, first, "-") for name, (label, first) in READINGS.items()]
    over = score["cmag"] - score["tokenmatcher"]
    each = ", ".join(f"{value:+.1f}" for value in over)
    together = [np.corrcoef([right[name][seed] for name in right],
                            [score[name][seed] for name in right])[0, 1]
                for seed in range(len(over))]  # fmt: skip
    return "\n".join(
        [
            *lines,
            "",
            f"CMAG less TokenMatcher: {spread(over, 1)} mAP points ({each}).",
            "",
            f"mAP and the share of right pairs in the last epoch, over the {len(right)} second "
            f"stages of a seed: correlation {', '.join(f'{value:.2f}' for value in together)}.",
            "",
            f"Mean ± sample standard deviation over {len(over)} seeds (people, cameras, training "
            f'differ); "over" is the mean of the differences seed by seed. {TRAIN_IDS} training '
            f"people; second stages of {SECOND['stage_epochs'][2:]} epochs of "
            f"{SECOND['iterations']} batches from one first stage. mAP on {TEST_IDS} other people, "
            "SYSU-MM01 all-search single-shot with the seeded gallery; last epoch. The printed "
            "numbers are the authors', on another data set and network. "
            f"{os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


def draw(found: dict[str, list[dict[str, float]]]) -> None:
    """A bar for each run, a dot for each seed, a line at the control."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    labels = {name: label for name, (label, _) in PRINTED.items()} | ALONE
    labels |= {name: f"TokenMatcher {label}" for name, label in WITHOUT.items()}
    labels |= {name: label for name, (label, _) in READINGS.items()}
    figure, axes = plt.subplots(figsize=(8, 5.6), constrained_layout=True)
    for place, (name, label) in enumerate(labels.items()):
        values = [100 * one["mAP"] for one in found[name]]
        height = len(labels) - place
        axes.barh(height, np.mean(values), color="#2f6fb5" if name in PRINTED else "#3a8f5c")
        axes.plot(values, [height] * len(values), "o", color="black", markersize=3)
        axes.text(0.3, height, label, va="center", fontsize=8, color="white")
    control = 100 * np.mean([one["mAP"] for one in found["control"]])
    axes.axvline(control, color="#8a8a8a", linestyle=":", label="first stage continued")
    axes.set_yticks([])
    axes.set_xlabel("mAP, %")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
