"""Measure the accuracy of methods with labels on synthetic people, beside training without labels.

AGW, CAJ, HCT, SG-MRA and MG-MRA on HCT, MG-MRA on AGW, and MG-MRA with visir's own addressing, with
a narrow ResNet: first with random weights on the people of the demo; then in thermal images, in
RegDB's layout and with as many training images as RegDB has, started from AGW's network of the
demo's people. Results are those of the last epoch; the scored people are neither trained on nor
used for any choice: the settings for thermal images were chosen on people outside the table.

    visir bench run backbones --out runs/backbones
    python benchmarks/labelled.py            # resumes if stopped
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import safetensors.torch
import torch
from demo import spread

from visir.bench.store import read_result
from visir.commands.demo import IMAGES, PROTOCOL, SIZE, TEST_IDS, TRAIN_IDS
from visir.core.run import Run
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import evaluate
from visir.synth.write import synthesise
from visir.training.train import train

DOCS = Path(__file__).parent.parent / "docs"
TABLE, PICTURE = DOCS / "tables" / "labelled.md", DOCS / "tables" / "labelled.png"
RUNS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "agw": ("agw", "tiny", {}, "AGW"),
    "caj": ("caj", "tiny", {}, "CAJ"),
    "hct": ("hct", "tiny", {}, "HCT"),
    "sg-mra": ("mra", "tiny", {"granularity": "single"}, "SG-MRA on HCT"),
    "mg-mra": ("mra", "tiny", {}, "MG-MRA on HCT"),
    "mg-mra-agw": ("mra", "tiny-agw", {}, "MG-MRA on AGW"),
    "mg-mra-cosine": ("mra", "tiny", {"addressing": "cosine"}, "MG-MRA on HCT, our addressing"),
}


class Light(NamedTuple):
    """What the people of a layout are seen in, how many they are, and what is scored."""

    title: str
    protocol: str
    train_ids: int
    images: int


LIGHTS = {
    "sysu": Light("near infrared, SYSU-MM01's layout", PROTOCOL, TRAIN_IDS, IMAGES),
    "regdb": Light("thermal, RegDB's layout", "visible-to-infrared", 206, 10),
}
THERMAL = {"epochs": "40", "lr_steps": "30,37"}
BASE = {"sg-mra": "hct", "mg-mra": "hct", "mg-mra-agw": "agw", "mg-mra-cosine": "hct"}
KEPT = ("memory_alive", "memory_share")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-labelled"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--without", type=Path, default=Path("runs/backbones"))
    arguments = parser.parse_args()
    without = without_labels(arguments.without, arguments.seeds)
    text, all_found = [], {}
    for layout, light in LIGHTS.items():
        found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
        for seed in arguments.seeds:
            synthesise(arguments.out / layout / str(seed) / "people", layout=layout,
                       ids=light.train_ids + TEST_IDS, train_ids=light.train_ids,
                       images=light.images, size=SIZE, seed=seed)  # fmt: skip
            for name in RUNS:
                found[name].append(trained(arguments.out, layout, seed, name))
                print(layout, seed, name, found[name][-1], flush=True)
        all_found[layout] = found
        text += [*rows(layout, found), ""]
    text += [beside_none(without, all_found["sysu"]), "", explanation(len(without)), ""]
    draw(all_found, without)
    print("\n".join(text))
    TABLE.write_text("\n".join(text), encoding="utf-8")


def trained(root: Path, layout: str, seed: int, name: str) -> dict[str, float]:
    """Last-epoch accuracy, and what the memory was seen doing in the last epoch."""
    folder = root / layout / str(seed)
    result = folder / f"{name}.json"
    if not result.exists():
        method, preset, settings, _ = RUNS[name]
        start = None
        if layout == "regdb":
            start = backbone_of(root / "sysu" / str(seed) / "agw", folder / "trunk.pth")
            settings = settings | thermal(name)
        out = folder / name
        resume = (out / "config.yaml").exists()
        run = train(method, folder / "people", out, preset=preset,
                    settings=None if resume else settings, seed=seed, start=start,
                    resume=resume)  # fmt: skip
        benchmark, key = open_benchmark(folder / "people"), LIGHTS[layout].protocol
        mean = evaluate(load(run.folder), benchmark, [key]).results[key].mean
        lines = run.read_metrics()
        plan = next((line for line in reversed(lines) if line["kind"] == "plan"), {})
        seconds = sum(line["seconds"] for line in lines if line["kind"] == "epoch")
        kept = {key: plan[key] for key in KEPT if key in plan}
        measured = {"rank1": mean.rank1, "mAP": mean.mAP, "chance": mean.chance_mAP,
                    "minutes": seconds / 60, **kept}  # fmt: skip
        result.write_text(json.dumps(measured))
    found: dict[str, float] = json.loads(result.read_text())
    return found


def thermal(name: str) -> dict[str, str]:
    """Settings for thermal light: at the preset's rate HCT sends all its images to one point."""
    by_centres = "hct" in (name, BASE.get(name))
    return THERMAL | ({"lr": "0.003"} if by_centres else {})


def backbone_of(run: Path, file: Path) -> Path:
    """Write a run's visible stem and shared layers under torchvision's names of a ResNet."""
    state = safetensors.torch.load_file(Run(run).weights)
    torch.save(
        {name.split(".", 1)[1]: value for name, value in state.items()
         if name.startswith(("vis_stem.", "layers."))},
        file,
    )  # fmt: skip
    return file


def rows(layout: str, found: dict[str, list[dict[str, float]]]) -> list[str]:
    def column(name: str, key: str) -> np.ndarray:
        return np.array([one[key] for one in found[name]])

    chance = 100 * np.mean([one["chance"] for one in found["agw"]])
    lines = [
        f"| {LIGHTS[layout].title} | rank-1, % | mAP, % | over its base "
        "| positions that recall, % | minutes |",
        "|---|---|---|---|---|---|",
        f"| chance | | {chance:.1f} | | | |",
    ]
    for name, (*_, label) in RUNS.items():
        over = "-"
        if name in BASE:
            over = spread(100 * (column(name, "mAP") - column(BASE[name], "mAP")), 1)
        alive = f"{100 * column(name, 'memory_alive').mean():.1f}" if name in BASE else "-"
        cells = [label, spread(100 * column(name, "rank1"), 1),
                 spread(100 * column(name, "mAP"), 1), over, alive,
                 spread(column(name, "minutes"), 1)]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def without_labels(folder: Path, seeds: list[int]) -> np.ndarray:
    """The mAP in percent of CMAG from SimCLR on the same people, made by `visir bench`."""
    scores = [read_result(folder / "arms" / "people" / "cmag-simclr" / str(seed) / "result.json")
              ["scores"][PROTOCOL] for seed in seeds]  # fmt: skip
    return np.array([100 * of["mean"]["mAP"] for of in scores])


def beside_none(without: np.ndarray, found: dict[str, list[dict[str, float]]]) -> str:
    """Labels against none, on the same people."""
    over = ", ".join(
        f"{label} {spread(100 * np.array([one['mAP'] for one in found[name]]) - without, 1)}"
        for name, (*_, label) in RUNS.items()
        if name not in BASE
    )
    return (
        f"CMAG from SimCLR, without labels on the same people: {spread(without, 1)} % mAP; with "
        f"labels over that, seed by seed: {over} points."
    )


def explanation(seeds: int) -> str:
    counts = ", ".join(
        f"{light.train_ids} training people with {light.images} images a camera in {light.title}"
        for light in LIGHTS.values()
    )
    return (
        f"Mean ± sample standard deviation over {seeds} seeds (people, cameras and training "
        f'differ); "over its base" is the mean of the differences to HCT, or AGW, seed by seed. '
        f"{counts}; {TEST_IDS} others to score: SYSU-MM01 all-search single-shot with the seeded "
        "gallery, 10 trials, and RegDB visible to infrared, one split; no re-ranking; mirror "
        "images averaged; last epoch. In thermal light every network starts from the backbone of "
        f"the AGW above and trains for {THERMAL['epochs']} epochs, HCT and what is built on it at "
        f"a rate of {thermal('hct')['lr']}. "
        f"{os.cpu_count()} cores ({platform.machine()})."
    )


def draw(all_found: dict[str, dict[str, list[dict[str, float]]]], without: np.ndarray) -> None:
    """A bar for each method, a dot for each seed, and a line for training without labels."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(LIGHTS), sharey=True, figsize=(10, 3), constrained_layout=True
    )
    for axes, (layout, found) in zip(panels, all_found.items(), strict=True):
        for place, name in enumerate(RUNS):
            values = [100 * one["mAP"] for one in found[name]]
            axes.barh(-place, np.mean(values), color="#2f6fb5" if name in BASE else "#3a8f5c")
            axes.plot(values, [-place] * len(values), "o", color="black", markersize=3)
        axes.set_xlabel("mAP, %")
        axes.set_title(LIGHTS[layout].title, fontsize=9)
        axes.axvline(100 * found["agw"][0]["chance"], color="#888", linestyle=":",
                     label="chance")  # fmt: skip
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].axvline(np.mean(without), color="#c0504d", label="CMAG, without labels")
    panels[0].set_yticks([-place for place in range(len(RUNS))], [row[-1] for row in RUNS.values()])
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=2,
                  frameon=False, fontsize=8)  # fmt: skip
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
