"""Check that the synthetic people are a fair test: score simple matchers on them.

Scored across modalities on test people, in near infrared and in thermal light: matchers that use
only borders, brightness, grey values or gradients, an untrained network, and the same network
trained with labels on other people. If the data had shortcuts, the first would score too high; if
it were too easy or pure noise, the last would show it. In thermal light so few people are too few
to learn from; there the ready model shows that there is something to learn.

    python benchmarks/fairness.py        # about half an hour on two cores
    python benchmarks/fairness.py --out people    # keeps the images

The exit status is 1 if a limit is exceeded.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from visir.core.device import autocast
from visir.core.types import Benchmark, Modality
from visir.data.dataset import Part, TrainingSet, open_training_set
from visir.data.registry import open_benchmark
from visir.data.rng import generator, key
from visir.data.samplers import cluster_batches
from visir.data.transforms import Augmentation, View
from visir.embedding.pytorch import embed_pixels, load
from visir.evaluation.evaluate import score_features
from visir.nets.shipped import BUILTIN, ShippedWarning
from visir.nets.vit import Vit
from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "fairness.md"
TRAIN_IDS, TEST_IDS = 120, 48
STARTS = 3  # random starts of the untrained network
CPU = torch.device("cpu")
LIMITS = {
    "border strip": 2.0,
    "mean brightness": 2.0,
    "mean brightness, standardised by camera": 2.0,
    "grey histogram": 2.0,
    "grey histogram, standardised by image": 2.0,
    "HOG": 4.0,
    "untrained network": 2.5,
}  # times chance


class World(NamedTuple):
    """People of one kind of infrared light.

    bounds: lowest and highest mAP of networks that learned from labels.
    """

    layout: str
    images: int
    protocol: str
    bounds: dict[str, tuple[float, float]]
    about: str


LABELLED, READY = "trained with labels", "the ready model"
WORLDS = {
    "near infrared": World(
        "sysu", 8, "all-single-seeded", {LABELLED: (0.4, 0.9)},
        "Infrared queries, visible gallery (SYSU-MM01 all-search single-shot, seeded gallery, 10 "
        "trials)",
    ),
    "thermal": World(
        "regdb", 10, "visible-to-infrared", {READY: (0.3, 0.9)},
        "Visible queries, thermal gallery (RegDB's layout and protocol, one split)",
    ),
}  # fmt: skip


class Reached(NamedTuple):
    """Mean average precision over the trials, and what it is by chance."""

    mean_ap: float
    chance: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labelled-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=6000, help="of the training with labels")
    parser.add_argument("--out", type=Path, help="folder that keeps the people")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = [
            measured(name, world, (arguments.out or Path(folder)) / world.layout, arguments)
            for name, world in WORLDS.items()
        ]
    text = "\n".join(part for part, _ in made)
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    return 0 if all(fair for _, fair in made) else 1


def measured(name: str, world: World, out: Path, arguments: argparse.Namespace) -> tuple[str, bool]:
    """The table of one world, and whether every seed keeps within every limit."""
    found: dict[str, list[Reached]] = {}
    for seed in arguments.seeds:
        people = out / str(seed)
        synthesise(people, layout=world.layout, ids=TRAIN_IDS + TEST_IDS,
                   train_ids=TRAIN_IDS, images=world.images, size="128x64", seed=seed)  # fmt: skip
        benchmark = open_benchmark(people)
        features = blind(benchmark, people, seed)
        if seed in arguments.labelled_seeds:
            features[LABELLED] = [labelled(benchmark, people, seed, arguments.steps)]
        if READY in world.bounds:
            features[READY] = [ready(benchmark)]
        for matcher, variants in features.items():
            found.setdefault(matcher, []).append(reached(variants, benchmark, world.protocol))
    return table(found, arguments.steps, name, world)


def reached(variants: list[np.ndarray], benchmark: Benchmark, protocol: str) -> Reached:
    """The mean over variants of one matcher's features."""
    means = [score_features(f, benchmark, [protocol]).results[protocol].mean for f in variants]
    return Reached(float(np.mean([mean.mAP for mean in means])), means[0].chance_mAP)


def blind(benchmark: Benchmark, cache: Path, seed: int) -> dict[str, list[np.ndarray]]:
    """Features, rows of unit length, of everything that has not learnt anything."""
    test = open_training_set(benchmark.test, (128, 64), cache / "cache")
    grey = test.pixels.astype(np.float32).mean(axis=3)
    height, width = (side // 10 for side in grey.shape[1:])
    border = [grey[:, :height], grey[:, -height:], grey[:, :, :width], grey[:, :, -width:]]
    mean = grey.mean(axis=(1, 2))
    by_camera = mean.copy()
    for cam in np.unique(test.cams):
        rows = test.cams == cam
        by_camera[rows] = (mean[rows] - mean[rows].mean()) / mean[rows].std()
    spread = grey.std(axis=(1, 2))[:, None, None]
    small = open_training_set(benchmark.test, (64, 32), cache / "cache")
    return {
        "border strip": [unit(centred(np.concatenate([flat(part) for part in border], axis=1)))],
        "mean brightness": [on_a_circle(mean / 255)],
        "mean brightness, standardised by camera": [on_a_circle(np.clip(by_camera, -3, 3) / 6)],
        "grey histogram": [unit(histograms(grey, 0, 255))],
        "grey histogram, standardised by image": [
            unit(histograms((grey - mean[:, None, None]) / spread, -3, 3))
        ],
        "HOG": [unit(hog(grey / 255))],
        "untrained network": [
            features_of(micro(key(seed, start)), small) for start in range(STARTS)
        ],
    }


def flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def centred(rows: np.ndarray) -> np.ndarray:
    return rows - rows.mean(axis=1, keepdims=True)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9)).astype(np.float32)


def on_a_circle(values: np.ndarray) -> np.ndarray:
    """Numbers as angles: the nearer two of them, the larger their cosine."""
    angle = math.pi * values
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def histograms(images: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.stack([np.histogram(image, 32, (low, high))[0] for image in images]).astype(float)


def hog(grey: np.ndarray, cell: int = 8, bins: int = 9) -> np.ndarray:
    """Histograms of oriented gradients (Dalal, Triggs, 2005): 2 x 2 cells a block, L2."""
    down, across = np.gradient(grey, axis=(1, 2))
    size, angle = np.hypot(across, down), np.arctan2(down, across) % np.pi / np.pi * bins
    count, height, width = grey.shape
    shape = (count, height // cell, cell, width // cell, cell)
    cells = np.empty((count, height // cell, width // cell, bins), np.float32)
    for number in range(bins):
        away = np.abs(angle - number)
        share = np.clip(1 - np.minimum(away, bins - away), 0, 1)
        cells[..., number] = (size * share).reshape(shape).sum(axis=(2, 4))
    corners = [cells[:, :-1, :-1], cells[:, 1:, :-1], cells[:, :-1, 1:], cells[:, 1:, 1:]]
    blocks = np.concatenate(corners, axis=3)
    return flat(blocks / (np.linalg.norm(blocks, axis=3, keepdims=True) + 1e-3))


def micro(seed: int) -> Vit:
    torch.manual_seed(seed)
    return Vit("micro", (64, 32))


def features_of(net: Vit, images: TrainingSet) -> np.ndarray:
    net.eval()
    features = np.empty((len(images.cams), net.embedding_dim), np.float32)
    for modality in Modality:
        rows = images.rows(modality)
        features[rows] = embed_pixels(net, images.pixels, modality, CPU, rows=rows).numpy()
    return features


def labelled(benchmark: Benchmark, cache: Path, seed: int, steps: int) -> np.ndarray:
    """Test features of the micro network after training on the true identities of other people."""
    images = open_training_set(benchmark.train, (64, 32), cache / "cache")
    pids = np.unique([record.pid for record in benchmark.train], return_inverse=True)[1]
    net = micro(key(seed))
    centres = torch.nn.Parameter(0.01 * torch.randn(pids.max() + 1, net.embedding_dim))
    optimizer = torch.optim.AdamW([*net.parameters(), centres], lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.05)
    batches = labelled_batches(images, pids, seed)
    for step in tqdm(range(steps), "training with labels", disable=None):
        net.train()
        batch = images.batch(next(batches), key(seed, step), 4, CPU)
        with autocast(CPU, "auto"):
            embedding = net(batch.images, batch.infrared).embedding
        logits = 16 * F.normalize(embedding, dim=1) @ F.normalize(centres, dim=1).T
        loss = F.cross_entropy(logits, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return features_of(net, open_training_set(benchmark.test, (64, 32), cache / "cache"))


def ready(benchmark: Benchmark) -> np.ndarray:
    """Test features of the model that comes with visir."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShippedWarning)
        network = load(BUILTIN)
    features = np.empty((len(benchmark.test), network.width), np.float32)
    for modality in Modality:
        rows = [row for row, of in enumerate(benchmark.test) if of.modality is modality]
        features[rows] = network.embed([benchmark.test[row].path for row in rows], modality)
    return features


def labelled_batches(images: TrainingSet, pids: np.ndarray, seed: int) -> Iterator[list[Part]]:
    """Four images of each of four people a modality, as the methods draw theirs."""
    vis, ir = (
        cluster_batches(
            np.where(images.infrared == infrared, pids, -1), images.cams, 4, 4,
            generator(seed, infrared),
        )
        for infrared in (False, True)
    )  # fmt: skip
    while True:
        v, i = next(vis), next(ir)
        yield [
            Part(v, pids[v], Augmentation(View.PLAIN)),
            Part(v, pids[v], Augmentation(View.EXCHANGE)),
            Part(i, pids[i], Augmentation(View.GRAY)),
        ]


def table(found: dict[str, list[Reached]], steps: int, name: str, world: World) -> tuple[str, bool]:
    """The table as markdown, and whether every seed keeps within every limit."""
    chance = next(iter(found.values()))
    lines = [
        f"| {name} | mAP, % | times chance | limit | within |",
        "|---|---|---|---|---|",
        f"| chance | {spread([100 * one.chance for one in chance])} | 1 | | |",
    ]
    fair = True
    for matcher, values in found.items():
        ratios = [one.mean_ap / one.chance for one in values]
        if matcher in LIMITS:
            within, limit = max(ratios) <= LIMITS[matcher], f"at most {LIMITS[matcher]:g} x chance"
        elif matcher in world.bounds:
            low, high = world.bounds[matcher]
            within = all(low <= one.mean_ap <= high for one in values)
            limit = f"{100 * low:.0f} to {100 * high:.0f} % mAP"
        else:
            within, limit = True, "none"
        fair &= within
        cells = [matcher, spread([100 * one.mean_ap for one in values]), spread(ratios), limit]
        lines.append(f"| {' | '.join(cells)} | {'yes' if within else '**no**'} |")
    lines += [
        "",
        f"{world.about}, on {TEST_IDS} synthetic people; mean ± sample "
        f"standard deviation over {len(chance)} seeds, one seed where no spread stands; the limit "
        f"holds for every seed. The untrained network is the mean of {STARTS} random starts a "
        f"seed. The labelled one, of the same size, trained for {steps:,} steps of 48 views on "
        f"{TRAIN_IDS} other people.",
        "",
    ]
    return "\n".join(lines), fair


def spread(values: list[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}"


if __name__ == "__main__":
    sys.exit(main())
