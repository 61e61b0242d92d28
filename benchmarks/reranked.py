"""What each re-ranking is worth: the backbone person and the ready model on people they never saw.

Nothing is trained. Every seed has people, clothes and cameras of its own, in SYSU-MM01's layout.

    python benchmarks/reranked.py          # resumes if stopped
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from demo import spread

from visir.core.run import write_json
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import load
from visir.evaluation.evaluate import score_features
from visir.evaluation.rerank import RERANKERS
from visir.nets.shipped import start_file
from visir.synth.write import synthesise

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "reranked.md"
PROTOCOLS = {
    "all-single-seeded": "one image of a person and camera",
    "all-multi-seeded": "ten images of a person and camera",
}
NETWORKS = {
    "the backbone person": (start_file("person", "hybrid-micro"), "96x48"),
    "the ready model": ("builtin", "128x64"),
}
PEOPLE = 96
Scores = dict[str, dict[str, dict[str, tuple[float, float]]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-reranked"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found: list[Scores] = []
    for seed in arguments.seeds:
        path = arguments.out / f"{seed}.json"
        if not path.exists():
            write_json(path, measured(arguments.out / "people", seed))
            print(f"seed {seed}", flush=True)
        found.append(json.loads(path.read_text("utf-8")))
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def measured(folder: Path, seed: int) -> Scores:
    """(mAP, Rank-1) in percent by network, protocol and re-ranking."""
    found: Scores = {}
    for name, (network, size) in NETWORKS.items():
        data = folder / f"{seed}-{size}"
        if not data.exists():
            synthesise(data, ids=PEOPLE + 2, train_ids=2, images=10, size=size, seed=seed)
        benchmark = open_benchmark(data)
        features = load(network).embed_records(list(benchmark.test), progress=True)
        found[name] = {}
        for protocol in PROTOCOLS:
            found[name][protocol] = {}
            for how in ("none", *RERANKERS):
                mean = score_features(features, benchmark, [protocol], how).results[protocol].mean
                found[name][protocol][how] = (100 * mean.mAP, 100 * mean.rank1)
    return found


def table(found: list[Scores]) -> str:
    """Markdown, mean and standard deviation over the seeds."""
    names = ("none", *RERANKERS)
    lines = [
        "| network | gallery | " + " | ".join(f"{name}, mAP / Rank-1" for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for network in NETWORKS:
        for protocol, gallery in PROTOCOLS.items():
            cells = []
            for name in names:
                values = np.array([one[network][protocol][name] for one in found])
                cells.append(" / ".join(spread(of, 1) for of in values.T))
            lines.append(f"| {network} | {gallery} | " + " | ".join(cells) + " |")
    return "\n".join(
        [
            *lines,
            "",
            f"All-search, {PEOPLE} people, seeds 0 to {len(found) - 1}; ± is the standard "
            "deviation.",
            "",
        ]
    )


if __name__ == "__main__":
    main()
