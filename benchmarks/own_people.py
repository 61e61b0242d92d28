"""What training without labels does for the people it was trained on, beside people it never saw.

A site searches its own images: the people of the training are those it looks for. The runs of the
grid `adapt` are scored on the training people that both modalities show, whose identities no
training has used, and on the other people.

    visir bench run adapt --out runs/adapt
    python benchmarks/own_people.py --runs runs/adapt
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from demo import spread

from visir.bench.grid import read_grid
from visir.core.types import Benchmark, Modality, Record
from visir.data.protocols import two_directions
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.evaluate import evaluate
from visir.nets.shipped import BUILTIN, ShippedWarning

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "own_people.md"
PROTOCOL, DONE = "infrared-to-visible", "result.json"
ARMS = {
    "start": "the ready model",
    "pairs": "`pairs`",
    "untested": "`pairs`, matches by chance included",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/adapt"))
    runs = parser.parse_args().runs
    grid = read_grid("adapt")
    lines = [
        "| world | network | seeds | mAP on its own people, % | on other people, % |",
        "|---|---|---|---|---|",
    ]
    for data, arguments in grid.data.items():
        if arguments.get("unpaired") == 1:  # nobody is in both modalities
            continue
        folder = runs / "arms" / data
        done = [s for s in grid.seeds if all((folder / a / str(s) / DONE).exists() for a in ARMS)]
        found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in ARMS if done}
        for seed in done:
            benchmark = open_benchmark(runs / "data" / data / str(seed) / "images")
            own, other = (of_both(benchmark, part) for part in (benchmark.train, benchmark.test))
            for arm, scores in found.items():
                run = folder / arm / str(seed)
                scores.append((scored(arm, run, own), scored(arm, run, other)))
                print(data, seed, arm, scores[-1], flush=True)
        for arm, scores in found.items():
            cells = (spread(100 * np.array(column), 1) for column in zip(*scores, strict=True))
            lines.append(f"| `{data}` | {ARMS[arm]} | {len(done)} | {' | '.join(cells)} |")
    text = "\n".join(
        [
            *lines,
            "",
            "Mean ± sample standard deviation over the seeds; every infrared image searches all "
            "visible ones; last epoch. Own people are those of the training who are in both "
            "modalities. The columns have different numbers of people, so rows compare within a "
            "column. The worlds are those of the grid `adapt`.",
            "",
        ]
    )
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def of_both(benchmark: Benchmark, part: Sequence[Record]) -> Benchmark:
    """A benchmark of those people of a part who are in both modalities: all images search all."""
    both = set.intersection(*({r.pid for r in part if r.modality is m} for m in Modality))
    test = tuple(record for record in part if record.pid in both)
    protocols = two_directions(benchmark.root, test, benchmark.name, "full gallery")
    return replace(benchmark, test=test, protocols=protocols)


def network_of(arm: str, run: Path) -> Embedder:
    """The ready model for the arm `start`, and the network of the run for others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShippedWarning)
        return load(BUILTIN if arm == "start" else run)


def scored(arm: str, run: Path, benchmark: Benchmark) -> float:
    """Mean average precision of the last epoch, 0 to 1."""
    return evaluate(network_of(arm, run), benchmark, [PROTOCOL]).results[PROTOCOL].mean.mAP


if __name__ == "__main__":
    main()
