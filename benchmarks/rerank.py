"""Compare re-ranking with the usual research code, at the sizes of SYSU-MM01 and RegDB.

The usual code computes scipy's distances in double precision, whole matrices in half precision, and
a loop over images. Each implementation runs in its own process, so that its peak memory is
measured; both get the same features, and their results are compared. The tests check exactness in
float32.

    python benchmarks/rerank.py            # about six minutes on two cores
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import forget_peak, held
from scipy.spatial.distance import cdist

from visir.evaluation.rerank import k_reciprocal, random_walk

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "rerank.md"
CASES = {  # queries, gallery images, identities
    "SYSU-MM01, single-shot trial": (3803, 301, 96),
    "SYSU-MM01, multi-shot trial": (3803, 3010, 96),
    "RegDB, one direction": (2060, 2060, 206),
}
WIDTH, RUNS = 2048, 5


def features(queries: int, gallery: int, people: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows scattered around a centre for each identity."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(people, WIDTH)).astype(np.float32)
    rows = centres[np.arange(queries + gallery) % people]
    rows = rows + 2 * rng.normal(size=rows.shape).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[:queries], rows[queries:]


def plain_k_reciprocal(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Every matrix whole and in half precision, every image in turn."""
    k1, k2, weight, count = 20, 6, 0.3, len(query)
    whole = np.concatenate([query, gallery]).astype(np.float16)
    apart = cdist(whole, whole).astype(np.float16) ** 2
    apart = (apart / apart.max(axis=0)).T
    rank = np.argsort(apart, axis=1)
    codes = np.zeros_like(apart)

    def mutual(i: int, k: int) -> np.ndarray:
        ahead = rank[i, : k + 1]
        return ahead[np.where(rank[ahead, : k + 1] == i)[0]]

    for i in range(len(whole)):
        own = mutual(i, k1)
        larger = own
        for candidate in own:
            theirs = mutual(candidate, round(k1 / 2))
            if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                larger = np.append(larger, theirs)
        larger = np.unique(larger)
        weights = np.exp(-apart[i, larger])
        codes[i, larger] = weights / weights.sum()
    codes = np.stack([codes[rank[i, :k2]].mean(axis=0) for i in range(len(whole))])
    holders = [np.where(codes[:, column] != 0)[0] for column in range(len(whole))]
    found = np.empty((count, len(gallery)), np.float16)
    for i in range(count):
        shared = np.zeros(len(whole), np.float16)
        for column in np.where(codes[i] != 0)[0]:
            rows = holders[column]
            shared[rows] += np.minimum(codes[i, column], codes[rows, column])
        jaccard = 1 - shared / (2 - shared)
        found[i] = -((1 - weight) * jaccard + weight * apart[i])[count:]
    return found


def plain_random_walk(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """The inverse in float64."""
    own = gallery.astype(np.float64) @ gallery.T.astype(np.float64)
    np.fill_diagonal(own, 0)
    steps = np.exp(own)
    steps /= steps.sum(axis=1, keepdims=True)
    limit = 0.05 * np.linalg.inv(np.eye(len(gallery)) - 0.95 * steps)
    return query.astype(np.float64) @ gallery.T @ limit.T


WAYS = {
    "k-reciprocal": (k_reciprocal, plain_k_reciprocal),
    "random walk": (random_walk, plain_random_walk),
}


def measured(task: tuple[str, Path, int, int]) -> tuple[list[float], float, np.ndarray]:
    """Seconds of each run, MiB above the features, and the result."""
    method, path, count, which = task
    both = np.load(path)
    query, gallery = both[:count], both[count:]
    rerank = WAYS[method][which]
    rerank(query[:50], gallery[:50])  # compile
    forget_peak()
    before, seconds = held("VmRSS"), []
    for _ in range(1 if which else RUNS):
        began = time.perf_counter()
        found = rerank(query, gallery)
        seconds.append(time.perf_counter() - began)
    return seconds, held("VmHWM") - before, found


def alone(task: tuple[str, Path, int, int]) -> tuple[list[float], float, np.ndarray]:
    """`measured` in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measured, (task,))


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    lines = [
        "| | seconds | usual, seconds | times as fast | MiB | usual, MiB | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in WAYS:
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "features.npy"
                np.save(path, np.concatenate(features(*CASES[case])))
                tasks = [(method, path, CASES[case][0], which) for which in (0, 1)]
                (ours, peak, found), (plain, plain_peak, expected) = map(alone, tasks)
            middle = np.median(ours)
            off = np.abs(found - expected).max()
            lines.append(
                f"| {method}, {case} | {middle:.2f} ({min(ours):.2f} to {max(ours):.2f}) "
                f"| {plain[0]:.1f} | {plain[0] / middle:.0f} | {peak:.0f} | {plain_peak:.0f} "
                f"| {off:.1e} |"
            )
            print(lines[-1], flush=True)
    lines += [
        "",
        f"Median (lowest to highest) of {RUNS} runs against one run of the usual implementation: "
        "distances in float64, whole matrices in float16 and a loop over images, as in research "
        "code, or an inverse in float64. The differences are the rounding of that implementation. "
        f"{WIDTH} numbers per embedding; memory without the embeddings. "
        f"{os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    TABLE.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
