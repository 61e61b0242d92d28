"""Measure how much a search loses when images are corrupted: queries, gallery or both.

The 15 corruptions of ImageNet-C in five severities (Hendrycks and Dietterich, ICLR 2019), as person
re-identification uses them (Chen et al., NeurIPS 2021 Datasets and Benchmarks), on synthetic people
that the network has never seen. In SYSU-MM01's layout queries are infrared, the gallery is visible.

    pip install corrupt_tta==0.1.7
    python benchmarks/corruption.py                     # the ready model
    python benchmarks/corruption.py --run runs/cmag
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import warnings
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from corrupt_tta import corrupt
from demo import spread

from visir.core.run import write_json
from visir.core.types import Benchmark, FloatArray, Modality
from visir.data.images import read_resized
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.evaluate import score_features
from visir.synth.write import synthesise

TABLES = Path(__file__).parent.parent / "docs" / "tables"
PROTOCOL = "all-single-seeded"
PEOPLE, IMAGES = 48, 2
CORRUPTIONS = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
SEVERITIES = (1, 2, 3, 4, 5)
SIDES = {"query": (Modality.INFRARED,), "gallery": (Modality.VISIBLE,), "both": tuple(Modality)}


class Case(NamedTuple):
    """One corruption of all images."""

    name: str
    severity: int


CASES = [
    Case(name, severity)
    for names in CORRUPTIONS.values()
    for name in names
    for severity in SEVERITIES
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-corruption"))
    parser.add_argument("--run", default="builtin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the ready model's own caution
    name = Path(arguments.run).name
    found = [
        measured(arguments.out, arguments.run, name, seed, arguments.processes)
        for seed in arguments.seeds
    ]
    text = table(found, name)
    print(text)
    (TABLES / f"corruption-{name}.md").write_text(text, encoding="utf-8")
    plot(found, TABLES / f"corruption-{name}.png")


def measured(out: Path, run: str, name: str, seed: int, processes: int) -> dict[str, float]:
    """Accuracy (mAP, percent) by SIDE/CORRUPTION/SEVERITY, and of clean images; kept in a file."""
    path = out / name / f"{seed}.json"
    if path.exists():
        return dict(json.loads(path.read_text("utf-8")))
    height, width = load(run).size
    data = out / "people" / f"{height}x{width}-{seed}"
    if not data.exists():
        synthesise(
            data,
            ids=PEOPLE + 2,
            train_ids=2,
            images=IMAGES,
            size=f"{height}x{width}",
            seed=seed,
            progress=False,
        )
    search = opened(run, data)
    clean = search.features()
    work = partial(scores, run, data, clean)
    found = {"clean": search.mean_ap(clean)}
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        for number, part in enumerate(pool.imap(work, CASES), 1):
            found |= part
            print(f"seed {seed}: {number} of {len(CASES)} corruptions", flush=True)
    write_json(path, found)
    return found


def scores(run: str, data: Path, clean: FloatArray, case: Case) -> dict[str, float]:
    """Accuracy with one corruption of the queries, of the gallery and of both.

    clean: features of the images as they are.
    """
    warnings.simplefilter("ignore")
    search = opened(run, data)
    spoilt, found = search.features(case), {}
    for side, modalities in SIDES.items():
        mixed = clean.copy()
        rows = np.isin([record.modality for record in search.benchmark.test], modalities)
        mixed[rows] = spoilt[rows]
        found[f"{side}/{case.name}/{case.severity}"] = search.mean_ap(mixed)
    return found


class Search:
    """A network and the people to find."""

    def __init__(self, run: str, data: Path) -> None:
        self.embedder: Embedder = load(run)
        self.benchmark: Benchmark = open_benchmark(data)

    def features(self, case: Case | None = None) -> FloatArray:
        """(N, D) of all test images, corrupted or not."""
        test = self.benchmark.test
        found = np.empty((len(test), self.embedder.width), np.float32)
        for modality in Modality:
            rows = [number for number, record in enumerate(test) if record.modality is modality]
            images = [read_resized(test[row].path, self.embedder.size) for row in rows]
            if case is not None:
                np.random.seed(CASES.index(case))  # corrupt_tta draws from NumPy's global stream
                spoilt = [corrupt(of, case.severity, corruption_name=case.name) for of in images]
                images = [np.asarray(of).round().clip(0, 255).astype(np.uint8) for of in spoilt]
            found[rows] = self.embedder.embed_pixels(np.stack(images), modality)
        return found

    def mean_ap(self, features_ND: FloatArray) -> float:
        """In percent."""
        found = score_features(features_ND, self.benchmark, [PROTOCOL])
        return 100 * found.results[PROTOCOL].mean.mAP


@cache
def opened(run: str, data: Path) -> Search:
    """A network and the people to find, opened once in each process."""
    return Search(run, data)


def table(found: list[dict[str, float]], name: str) -> str:
    """Markdown: a row for each corruption, mean over the severities; the hardest last."""
    clean = spread(np.array([of["clean"] for of in found]), 1)
    lines = [
        "| corrupted | " + " | ".join(f"{side}, mAP %" for side in SIDES) + " |",
        "|---|" + "---|" * len(SIDES),
        f"| nothing | {' | '.join([clean] * len(SIDES))} |",
    ]
    for group, names in CORRUPTIONS.items():
        for corruption in names:
            cells = [spread(over(found, side, [corruption], SEVERITIES), 1) for side in SIDES]
            lines.append(f"| {group}: {corruption.replace('_', ' ')} | {' | '.join(cells)} |")
    everything = [corruption for names in CORRUPTIONS.values() for corruption in names]
    for severity in SEVERITIES:
        cells = [spread(over(found, side, everything, [severity]), 1) for side in SIDES]
        lines.append(f"| all, severity {severity} | {' | '.join(cells)} |")
    return "\n".join(
        [
            *lines,
            "",
            f"Mean ± sample standard deviation over {len(found)} seeds (people and cameras "
            f"differ); network: {name}. {PEOPLE} synthetic people, {IMAGES} images a camera, "
            "SYSU-MM01 all-search single-shot with the seeded gallery: queries are infrared, the "
            "gallery is visible. A corruption's row is the mean over five severities. "
            f"{os.cpu_count()} cores ({platform.machine()}).",
            "",
        ]
    )


def over(
    found: list[dict[str, float]], side: str, names: Sequence[str], severities: Sequence[int]
) -> np.ndarray:
    """A value for each seed: the mean over corruptions and severities."""
    keys = [f"{side}/{name}/{severity}" for name in names for severity in severities]
    return np.array([np.mean([of[key] for key in keys]) for of in found])


def plot(found: list[dict[str, float]], path: Path) -> None:
    """Accuracy by severity, a panel for each group of corruptions, a line for each side."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(CORRUPTIONS), figsize=(12, 3), sharey=True)
    clean = float(np.mean([of["clean"] for of in found]))
    for axis, (group, names) in zip(axes, CORRUPTIONS.items(), strict=True):
        for side in SIDES:
            means = [np.mean(over(found, side, names, [severity])) for severity in SEVERITIES]
            axis.plot((0, *SEVERITIES), [clean, *means], marker="o", label=side)
        axis.set(title=group, xlabel="severity", ylim=(0, 100))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("mAP, %")
    axes[0].legend(title="corrupted", frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
