"""Make the weights that visir ships: render the pool, train, score, and write files and cards.

The files are half precision. All scores are of people, cameras and sensors that no pool contains;
nothing is chosen on them. The table in docs/tables/shipped.md holds the cards.

    python benchmarks/shipped.py            # about 90 minutes on two cores; resumes if stopped
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch

from visir.bench.grid import read_grid
from visir.core.run import Run, sha256
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder
from visir.evaluation.evaluate import evaluate
from visir.nets.shipped import FOLDER, SUMS, Card
from visir.nets.weights import load_weights, read_about
from visir.synth.write import synthesise
from visir.training.train import train

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "shipped.md"
POOL = {"layout": "pool", "ids": 8000, "images": 3, "size": "96x48", "seed": 1}
LIMITS = "never saw a photograph; real cameras, clothes and poses differ"


class Shipped(NamedTuple):
    """A file: what it is, the settings of its training, and the light it sees."""

    title: str
    preset: str
    network: str
    lights: tuple[str, ...]


FILES = {
    "builtin": Shipped("The ready model", "both", "resnet-mini",
                       ("visible", "near infrared", "thermal")),
    "person-hybrid-micro": Shipped("The backbone person, hybrid-micro", "visible", "hybrid-micro",
                                   ("visible",)),
    "person-resnet-micro": Shipped("The backbone person, resnet-micro", "visible", "resnet-micro",
                                   ("visible",)),
}  # fmt: skip
GRID = read_grid("ready")  # its data sets and seeds are scored
SCORED = {
    "near infrared": "default",
    "near infrared that follows visible brightness by half": "follows",
    "near infrared, LLCM's layout": "llcm",
    "thermal, RegDB's layout": "thermal",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/shipped"))
    arguments = parser.parse_args()
    synthesise(arguments.out / "pool", **POOL)  # type: ignore[arg-type]
    cards = {}
    for name, of in FILES.items():
        run = Run(arguments.out / name)
        if not run.weights.exists():
            train("identity", arguments.out / "pool", run.folder, preset=of.preset, seed=0,
                  settings=None if run.config.exists() else {"network": of.network},
                  resume=run.config.exists())  # fmt: skip
        cards[name] = write(name, of, run, arguments.out / "scored")
        print(cards[name].as_table(), flush=True)
    sums = [f"{sha256(FOLDER / f'{name}.safetensors')}  {name}.safetensors" for name in FILES]
    (FOLDER / SUMS).write_text("\n".join(sums) + "\n", encoding="utf-8")
    TABLE.write_text(table(cards), encoding="utf-8")


def write(name: str, of: Shipped, run: Run, scored: Path) -> Card:
    """Write the file of a finished training, scored as it is written; return its card."""
    path, about = FOLDER / f"{name}.safetensors", read_about(run.weights)
    seconds = sum(line["seconds"] for line in run.read_metrics() if line["kind"] == "epoch")
    card = Card(
        title=of.title,
        network=of.network,
        size=tuple(about["net"]["image_size"]),
        data=f"{POOL['ids']:,} synthetic people of {-(-int(POOL['ids']) // 50)} worlds, "
        f"{'both modalities' if of.preset == 'both' else 'visible images only'}, with labels",
        lights=of.lights,
        command="python benchmarks/shipped.py",
        seeds=f"pool {POOL['seed']}, training 0",
        minutes=f"{seconds / 60:.0f} minutes on one of {os.cpu_count()} cores "
        f"({platform.machine()})",
        accuracy={},
        limits=LIMITS,
    )
    path.parent.mkdir(exist_ok=True)
    _save(path, run, {**about, "dataset": "synthetic pool"}, card)
    card.accuracy.update(_accuracy(path, scored))
    _save(path, run, {**about, "dataset": "synthetic pool"}, card)
    return card


def _save(path: Path, run: Run, about: dict[str, Any], card: Card) -> None:
    """Matrices in half precision; norms and biases, which are few, as they are."""
    state = {
        name: value.half() if value.is_floating_point() and value.ndim > 1 else value
        for name, value in safetensors.torch.load_file(run.weights).items()
    }
    described = json.dumps({**about, "card": asdict(card)})
    path.write_bytes(safetensors.torch.save(state, {"visir": described}))


def _accuracy(path: Path, scored: Path) -> dict[str, float]:
    """The mAP in percent of each world, mean over seeds."""
    net, about, _ = load_weights(path)
    embedder = Embedder(net, about, "cpu", sha256(path))
    found = {}
    for title, data in SCORED.items():
        values = []
        for seed in GRID.seeds:
            folder = scored / data / str(seed)
            synthesise(folder, **GRID.data[data], seed=seed)
            benchmark = open_benchmark(folder)
            key = next(key for key in GRID.protocols if key in benchmark.protocols)
            values.append(100 * evaluate(embedder, benchmark, [key]).results[key].mean.mAP)
        found[title] = float(np.mean(values))
    return found


def table(cards: dict[str, Card]) -> str:
    """All cards, and what their numbers are."""
    sizes = [(FOLDER / f"{name}.safetensors").stat().st_size / 1e6 for name in cards]
    about = (
        f"mAP: mean of {len(GRID.seeds)} seeds of people and cameras, SYSU-MM01 all-search "
        f"single-shot, LLCM and RegDB visible-to-infrared, without any training on them. The files "
        f"have {', '.join(f'{size:.1f}' for size in sizes)} MB."
    )
    return "\n".join([*(card.as_table() for card in cards.values()), about]) + "\n"


if __name__ == "__main__":
    main()
