"""Measure the cross-modality comparisons of SDCL and ADCA at SYSU-MM01's size.

22,258 visible and 11,909 infrared images with two embeddings of 768 numbers: the ranked lists and
their vote (SDCL's association), the neighbours on which both embeddings agree, and the image pairs
that vote for clusters (ADCA's association). Every measurement runs in a new process; for comparison
there are two float32 products of that size, which the usual code keeps in memory.

    python benchmarks/partners.py            # about three minutes
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from clustering import features, in_fresh_process, machine, peak, seconds
from torch import Tensor

from visir.cluster.agreement import agreeing_neighbours
from visir.cluster.associate import collaborative_ranking, count_priority
from visir.cluster.matches import Side
from visir.core.types import IntArray

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "partners.md"
VISIBLE, INFRARED = 22_258, 11_909
TASKS: dict[str, tuple[str, Callable[..., object]]] = {
    "products": ("two float32 products, for comparison", lambda v, i, *_: products(v, i)),
    "ranking": (
        "SDCL: ranked lists of 20, their vote, smoothing over 5",
        lambda v, i, _, labels: collaborative_ranking(v, i, labels),
    ),
    "agreement": (
        "SDCL: neighbours on which both embeddings agree, ratio .9",
        lambda v, i, *_: agreeing_neighbours(v, i, 0.9),
    ),
    "count": (
        "ADCA: count priority, threshold .5, one embedding",
        lambda v, i, *labels: count_priority(Side(v[0], labels[0]), Side(i[0], labels[1]), 0.5),
    ),
}


def products(vis: list[Tensor], ir: list[Tensor]) -> None:
    for v, i in zip(vis, ir, strict=True):
        for part in v.split(4096):
            part @ i.T


def sides(vis: int, ir: int) -> tuple[list[Tensor], list[Tensor], IntArray, IntArray]:
    """Two embeddings of images of the same people in each modality, and their identities."""
    (deep, who), (shallow, _) = features(vis + ir), features(vis + ir, scatter=1.3)
    return (
        [deep[:vis], shallow[:vis]], [deep[vis:], shallow[vis:]], who[:vis], who[vis:],
    )  # fmt: skip


def task(name: str) -> list[str]:
    work = TASKS[name][1]
    work(*sides(300, 200))  # compiles
    given = sides(VISIBLE, INFRARED)
    taken = [seconds(lambda: work(*given))[0] for _ in range(3)]
    return [*map(str, taken), str(peak(lambda: work(*given)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    name = parser.parse_args().task
    if name:
        print(*task(name), sep="\n")
        return
    lines = ["| comparison | seconds | peak MiB |", "|---|---|---|"]
    for name, (label, _) in TASKS.items():
        *taken, memory = map(float, in_fresh_process(name, script=__file__))
        spread = f"{np.median(taken):.2f} ({min(taken):.2f} to {max(taken):.2f})"
        lines.append(f"| {label} | {spread} | {memory:,.0f} |")
        print(lines[-1], flush=True)
    about = (
        f"{VISIBLE:,} visible against {INFRARED:,} infrared images, 768 numbers. Median (lowest to "
        f"highest) of 3 runs on {machine()}; MiB are the peak beyond the features."
    )
    TABLE.write_text("\n".join([*lines, "", about, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
