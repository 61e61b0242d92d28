"""How good the report's estimate is of images whose people are in one modality only.

The training people of the grid `adapt` are clustered as a report clusters them, by the ready model
and by `pairs` after its last epoch. Their identities, which nothing has used, tell the truth.

    visir bench run adapt --out runs/adapt
    python benchmarks/unpaired_share.py --runs runs/adapt
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from own_people import network_of

from visir.bench.grid import read_grid
from visir.core.types import Modality, Record
from visir.data.registry import open_benchmark
from visir.report.health import examine

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "unpaired_share.md"
ARMS = {"start": "the ready model", "pairs": "`pairs`"}
POINT = 0.01  # by which a truth may lie outside an estimate
Range = tuple[float, float, float]  # truth, least and most, of the clustered images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=Path("runs/adapt"))
    runs = parser.parse_args().runs
    grid = read_grid("adapt")
    lines = [
        "| world | network | truth, %, vis + ir | estimate, %, visible | infrared "
        "| seeds and modalities with the truth within |",
        "|---|---|---|---|---|---|",
    ]
    for data in grid.data:
        images = {s: open_benchmark(runs / "data" / data / str(s) / "images") for s in grid.seeds}
        for arm, name in ARMS.items():
            folder = runs / "arms" / data / arm
            found = [shares(arm, folder / str(seed), of.train) for seed, of in images.items()]
            print(data, arm, found, flush=True)
            lines.append(f"| `{data}` | {name} | {' | '.join(cells(found))} |")
    text = "\n".join(
        [
            *lines,
            "",
            f"Means over {len(grid.seeds)} seeds: the share of clustered images whose people have "
            "none in the other modality, and both ends of the report's estimate of it. Within: "
            "but for one point. The cosine above which two clusters may show one person was chosen "
            "on seeds 0 and 1. The worlds are those of the grid `adapt`.",
            "",
        ]
    )
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def shares(arm: str, run: Path, records: Sequence[Record]) -> dict[Modality, Range]:
    """The truth and the estimate of each modality, 0 to 1."""
    grouping = examine(records, network_of(arm, run).embed_records(records)).grouping
    assert grouping is not None
    people = {m: [r.pid for r in records if r.modality is m] for m in Modality}
    found = {}
    for modality, (least, most) in grouping.unpaired().items():
        alone = ~np.isin(people[modality], people[modality.other])
        found[modality] = (float(alone[grouping.labels[modality] >= 0].mean()), least, most)
    return found


def cells(found: Sequence[dict[Modality, Range]]) -> list[str]:
    """The cells of a row from the shares of each seed."""
    of = np.array([[seed[modality] for modality in Modality] for seed in found])  # (seeds, 2, 3)
    mean = 100 * of.mean(axis=0)
    within = (of[..., 1] <= of[..., 0] + POINT) & (of[..., 0] <= of[..., 2] + POINT)
    ranges = [f"{least:.0f} to {most:.0f}" for _, least, most in mean]
    truth = " + ".join(f"{share:.0f}" for share in mean[:, 0])
    return [truth, *ranges, f"{within.sum()} of {within.size}"]


if __name__ == "__main__":
    main()
