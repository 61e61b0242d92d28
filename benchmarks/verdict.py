"""What the report's verdict without labels rests on, for three networks whose accuracy is known.

The ready model, the backbone person and random weights embed the same synthetic people. The limits
of `visir.report.verdict` lie between their numbers.

    python benchmarks/verdict.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from demo import spread

from visir.cluster.metrics import majority
from visir.core.types import Benchmark, IntArray, Modality, Record
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.evaluate import score_features
from visir.nets.build import build
from visir.nets.shipped import start_file
from visir.report.health import Health, examine
from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "verdict.md"
NETWORKS = {
    "ready model": "builtin",
    "backbone `person`": start_file("person", "resnet-micro"),
    "random weights": None,
}
PEOPLE, SIZE = 30, (64, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-verdict"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NETWORKS}
    for seed in arguments.seeds:
        data = arguments.out / str(seed)
        if not data.exists():
            synthesise(data, ids=PEOPLE + 2, train_ids=2, images=8, size="128x64", seed=seed)
        benchmark = open_benchmark(data)
        for name in NETWORKS:
            found[name].append(measured(benchmark, network(name, seed)))
            print(seed, name, found[name][-1], flush=True)
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def network(name: str, seed: int) -> Embedder:
    path = NETWORKS[name]
    if path is not None:
        return load(path)
    torch.manual_seed(seed)
    net = build("resnet-micro", SIZE)
    return Embedder(net, {"net": {**net.described, "image_size": SIZE}, "method": "none"})


def measured(benchmark: Benchmark, embedder: Embedder) -> dict[str, float]:
    """The lines of the table."""
    records = list(benchmark.test)
    features = embedder.embed_records(records)
    health = examine(records, features)
    scores = next(iter(score_features(features, benchmark).results.values())).mean
    assert health.grouping is not None
    vis, leads = health.grouping.leads()
    people = {m: shown(health, records, m) for m in Modality}
    right = (
        people[Modality.VISIBLE][vis] == people[Modality.INFRARED][health.grouping.partners[vis]]
    )
    return {
        "mAP, %": 100 * scores.mAP,
        "mAP by chance, %": 100 * scores.chance_mAP,
        "matched clusters, % of those that could": 100 * len(vis) / min(health.grouping.sims.shape),
        "of these right, %": 100 * float(right.mean()) if len(vis) else np.nan,
        "median margin": float(np.median(leads)) if len(vis) else np.nan,
        "visible images in no cluster, %": 100 * health.measures["outliers_visible"],
        "infrared images in no cluster, %": 100 * health.measures["outliers_infrared"],
        "hubs, % of the images": 100 * len(health.hubs()) / len(records),
        "images that no search brings up, %": 100 * health.never(),
    }


def shown(health: Health, records: list[Record], modality: Modality) -> IntArray:
    """The person that most images of each cluster show."""
    assert health.grouping is not None
    truth = np.array([records[row].pid for row in health.rows[modality]])
    return majority(health.grouping.labels[modality], truth)


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Markdown, mean and standard deviation over the seeds."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    first = next(iter(found.values()))
    for line in first[0]:
        digits = 2 if line == "median margin" else 1
        cells = [spread(np.array([one[line] for one in of]), digits) for of in found.values()]
        lines.append(f"| {line} | " + " | ".join(cells) + " |")
    note = f"{PEOPLE} synthetic people, {len(first)} seeds; ± is the standard deviation."
    return "\n".join([*lines, "", note, ""])


if __name__ == "__main__":
    main()
