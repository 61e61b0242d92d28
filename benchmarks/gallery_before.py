"""PostgreSQL as an older build uses it, beside this one: `python benchmarks/gallery.py --before`.

The vectors, queries and parts are those of `gallery.py`. Each build has its own server and fills
it; then both answer in turns, query by query, so that whatever else the machine does disturbs both
alike.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "gallery_postgres.md"
_open: list[Any] = []  # what this process has opened


def fill(truth: Path, count: int, checkout: Path | None) -> float:
    """Fill a gallery: images added per second."""
    from gallery import pgvector

    _open.append(pgvector(Path(tempfile.mkdtemp(dir=truth.parent)), count, checkout))
    return count / _open[0].seconds


def ask(query: np.ndarray, part: str) -> tuple[list[int], float]:
    """The ten best, and the milliseconds."""
    began = time.perf_counter()
    rows = _open[0].search(query, part)
    return rows.tolist(), 1000 * (time.perf_counter() - began)


def measure(truth: Path, count: int, before: Path, commit: str) -> str:
    """The table.

    Args:
        truth: what `gallery.write_truth` wrote.
        count: images.
        before: where the older build lies.
        commit: its name.
    """
    from gallery import PARTS

    queries, best = np.load(truth.with_suffix(".queries.npy")), np.load(truth)
    spawn = multiprocessing.get_context("spawn")
    pools = {commit: (spawn.Pool(1), before), "this one": (spawn.Pool(1), None)}
    added = {name: of.apply(fill, (truth, count, code)) for name, (of, code) in pools.items()}
    lines = [
        f"| {count:,} images | {' | '.join(pools)} | times as fast |",
        f"|---|{'---|' * (len(pools) + 1)}",
        f"| images added per second | {' | '.join(f'{n:,.0f}' for n in added.values())} "
        f"| {added['this one'] / added[commit]:.1f} |",
    ]
    for part, right in zip(PARTS, best, strict=True):
        ms: dict[str, list[float]] = {name: [] for name in pools}
        hits = dict.fromkeys(pools, 0)
        for number, query in enumerate(queries):
            for name, (of, _) in pools.items():
                rows, took = of.apply(ask, (query, part))
                ms[name] += [took] if number else []  # the first one warms up
                hits[name] += len(np.intersect1d(rows, right[number]))
        cells = [
            f"{np.median(of):.1f} ({np.quantile(of, 0.95):.1f}), {hits[name] / right.size:.3f}"
            for name, of in ms.items()
        ]
        ratio = np.median(ms[commit]) / np.median(ms["this one"])
        lines.append(f"| {part}: ms (p95), recall | {' | '.join(cells)} | {ratio:.1f} |")
        print(lines[-1], flush=True)
    for of, _ in pools.values():
        of.close()
        of.join()
    lines += [
        "",
        f"Median and 95th percentile of {len(queries)} queries, one at a time and in turns, ten "
        "best; a camera is one of six, an hour one image in a hundred. "
        f"{os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    return "\n".join(lines)
