"""Compare the time, memory and labels of clustering with the usual algorithm, at SYSU-MM01's sizes.

Run: python benchmarks/clustering.py [--runs 3] [--sizes N ...] [--large N ...]. Writes
docs/tables/clustering.md. The usual algorithm is written here as in research code: faiss, or NumPy
if faiss-cpu is not installed, for the neighbours; a loop over images for the k-reciprocal sets and
another one for the distances; three dense N x N matrices; scikit-learn's DBSCAN on the last matrix.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from measure import forget_peak, held
from sklearn.cluster import DBSCAN
from sklearn.metrics import adjusted_rand_score
from torch import Tensor
from torch.nn import functional as F

from visir.cluster.candidates import ordered, reach
from visir.cluster.estimates import estimator
from visir.cluster.jaccard import jaccard_graph
from visir.cluster.labels import dbscan
from visir.cluster.neighbors import nearest
from visir.core.device import multiplies_bf16
from visir.core.run import write_text
from visir.core.types import FloatArray, IntArray

TABLE = Path(__file__).parents[1] / "docs" / "tables" / "clustering.md"
SIZES = (5000, 11909, 22258)  # the last two: infrared and visible training images of SYSU-MM01
LARGE = (100_000, 200_000, 500_000, 1_000_000)
COMPARED = 100_000  # the largest size whose approximate labels are compared with the exact ones
PEOPLE, IMAGES = 395, 22258
WIDTH, LATENT, CAMERAS = 768, 64, 4
EPS, MIN_SAMPLES, K1, K2 = 0.6, 4, 30, 6
Result = TypeVar("Result")


def features(count: int, scatter: float = 1.1) -> tuple[Tensor, IntArray]:
    """Unit vectors of people of uneven numbers of images, and who is who.

    Images scatter around a centre for each person and camera, in 64 random directions, with a
    little noise in all 768; people are as many an image as in SYSU-MM01.
    """
    rng = np.random.default_rng(0)
    people = round(count * PEOPLE / IMAGES)
    share = rng.gamma(4.0, size=people)
    who = rng.choice(people, count, p=share / share.sum())
    cam = rng.integers(CAMERAS, size=count)
    centres = rng.standard_normal((people, 1, LATENT), dtype=np.float32)
    views = rng.standard_normal((people, CAMERAS, LATENT), dtype=np.float32)
    views = centres + np.float32(0.6) * views
    basis = np.linalg.qr(rng.normal(size=(WIDTH, LATENT)))[0].T.astype(np.float32)
    found = torch.empty(count, WIDTH)
    for start in range(0, count, 2**14):
        part = slice(start, start + 2**14)
        latent = views[who[part], cam[part]]
        latent += np.float32(scatter) * rng.standard_normal(latent.shape, dtype=np.float32)
        rows = torch.from_numpy(latent @ basis)
        rows += 0.09 * torch.from_numpy(rng.standard_normal(rows.shape, dtype=np.float32))
        found[part] = F.normalize(rows, dim=1)
    return found, who


def ours_after(feats: Tensor, ranks: IntArray) -> IntArray:
    return dbscan(jaccard_graph(feats, EPS, K1, K2, ranks), MIN_SAMPLES)


def usual_neighbours(feats: FloatArray) -> IntArray:
    """The first K1 rows by distance, found exactly."""
    try:
        import faiss
    except ImportError:
        sim = feats @ feats.T
        top = np.argpartition(-sim, K1, axis=1)[:, :K1]
        order = np.take_along_axis(-sim, top, axis=1).argsort(axis=1)
        return np.take_along_axis(top, order, axis=1)
    index = faiss.IndexFlatL2(feats.shape[1])
    index.add(feats)
    return index.search(feats, K1)[1]


def usual_after(feats: FloatArray, ranks: IntArray) -> IntArray:
    """Encode, expand, compare and cluster with dense matrices and loops over rows."""
    count = len(feats)

    def mutual(i: int, k: int) -> IntArray:
        forward = ranks[i, : k + 1]
        backward = ranks[forward, : k + 1]
        return forward[np.where(backward == i)[0]]

    whole = [mutual(i, K1) for i in range(count)]
    half = [mutual(i, round(K1 / 2)) for i in range(count)]
    codes = np.zeros((count, count), np.float32)
    for i in range(count):
        members = whole[i]
        for j in whole[i]:
            if len(np.intersect1d(half[j], whole[i])) > 2 / 3 * len(half[j]):
                members = np.append(members, half[j])
        members = np.unique(members)
        weights = np.exp(2 * (feats[i] @ feats[members].T) - 2)
        codes[i, members] = weights / weights.sum()
    expanded = np.zeros_like(codes)
    for i in range(count):
        expanded[i] = codes[ranks[i, :K2]].mean(axis=0)
    del codes
    holders = [np.where(expanded[:, j] != 0)[0] for j in range(count)]
    distance = np.zeros((count, count), np.float32)
    for i in range(count):
        least = np.zeros(count, np.float32)
        for j in np.where(expanded[i] != 0)[0]:
            least[holders[j]] += np.minimum(expanded[i, j], expanded[holders[j], j])
        distance[i] = 1 - least / (2 - least)
    distance[distance < 0] = 0
    return DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed").fit_predict(distance)


def ours(feats: Tensor) -> IntArray:
    return ours_after(feats, nearest(feats, K1))


def usual(feats: Tensor) -> IntArray:
    return usual_after(feats.numpy(), usual_neighbours(feats.numpy()))


def product(feats: Tensor) -> None:
    for part in torch.split(feats, 4096):
        part @ feats.T


def seconds(work: Callable[[], Result]) -> tuple[float, Result]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def peak(work: Callable[[], object]) -> float:
    """Peak MiB of a piece of work, without what this process already uses."""
    forget_peak()
    before = held("VmRSS")
    work()
    return held("VmHWM") - before


def in_fresh_process(*task: object, script: str = __file__) -> list[str]:
    """The lines that a task of a script gives, where no former work has left its memory."""
    command = [sys.executable, script, "--task", *map(str, task)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return done.stdout.splitlines()


def peak_of(way: Callable[[Tensor], IntArray], count: int) -> list[str]:
    way(features(500)[0])  # compiles, and loads the libraries
    feats, _ = features(count)
    return [str(peak(lambda: way(feats)))]


def exact_columns(feats: Tensor, ranks: IntArray, sample: int = 1000) -> float:
    """Columns per row that the error bound does not exclude, which are compared exactly."""
    space = estimator(feats)
    rows = np.linspace(0, len(feats) - 1, sample).astype(np.int32)
    estimates = space.estimates(rows, space.low_NE)
    found = ordered.py_func(estimates.view(torch.int16).numpy())  # numpy: of a whole array
    worst = (feats[rows] * feats[ranks[rows, -1]]).sum(dim=1).numpy() - space.offset
    limits = [reach(*pair) for pair in zip(worst, space.slack_N[rows], strict=True)]
    return float((found >= np.array(limits)[:, None]).sum(axis=1).mean())


def spelt(times: list[float]) -> str:
    return f"{np.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def exact_cells(count: int, runs: int) -> list[str]:
    """The column of the table that is about one size."""
    feats, _ = features(count)
    times: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Result]) -> Result:
        taken, result = seconds(work)
        times.setdefault(name, []).append(taken)
        return result

    for _ in range(runs):
        timed("product", partial(product, feats))
        ranks = timed("nearest", partial(nearest, feats, K1))
        labels = timed("after", partial(ours_after, feats, ranks))
        theirs = timed("their nearest", partial(usual_neighbours, feats.numpy()))
        expected = timed("their after", partial(usual_after, feats.numpy(), theirs))
    median = {name: float(np.median(values)) for name, values in times.items()}
    whole = median["nearest"] + median["after"]
    memory = [float(in_fresh_process(task, count)[0]) for task in ("ours", "usual")]
    return [
        f"{count:,}",
        f"{labels.max() + 1} + {(labels < 0).mean():.1%}",
        f"{adjusted_rand_score(expected, labels):.6f}",
        f"{(labels != expected).sum()}",
        f"{(np.sort(ranks) != np.sort(theirs)).any(axis=1).sum()}",
        spelt(times["after"]),
        spelt(times["their after"]),
        f"{median['their after'] / median['after']:.0f}",
        spelt(times["nearest"]),
        spelt(times["their nearest"]),
        spelt(times["product"]),
        f"{whole / median['product']:.2f}",
        f"{exact_columns(feats, ranks):.0f}",
        *(f"{m:,.0f}" for m in memory),
        f"{memory[1] / memory[0]:.0f}",
    ]


def large(count: int) -> list[str]:
    """Times of the neighbours and of the rest, then the other cells of the table."""
    few = features(500)[0]
    ours_after(few, nearest(few, K1, exact_up_to=0))  # compiles
    feats, who = features(count, scatter=0.8)
    found = {}

    def cluster() -> None:
        found["search"], found["ranks"] = seconds(lambda: nearest(feats, K1, exact_up_to=0))
        found["after"], found["labels"] = seconds(lambda: ours_after(feats, found["ranks"]))

    memory = peak(cluster)
    ranks, labels = found["ranks"], found["labels"]
    agreement = ""
    if count <= COMPARED:
        exact = ours_after(feats, nearest(feats, K1, exact_up_to=count))
        agreement = f"{adjusted_rand_score(exact, labels):.4f}"
    return [
        str(found["search"]),
        str(found["after"]),
        f"{memory:,.0f}",
        f"{recall(feats, ranks):.3f}",
        agreement,
        f"{labels.max() + 1:,} + {(labels < 0).mean():.1%}",
        f"{adjusted_rand_score(who, labels):.3f}",
    ]


TASKS: dict[str, Callable[[int], list[str]]] = {
    "ours": partial(peak_of, ours),
    "usual": partial(peak_of, usual),
    "large": large,
}


def growth_of(former: tuple[int, float], now: tuple[int, float]) -> float:
    """By how much time grew for each doubling of the size."""
    return (now[1] / former[1]) ** (1 / np.log2(now[0] / former[0]))


def recall(feats: Tensor, ranks: IntArray, sample: int = 1000) -> float:
    """Share of the exact neighbours that were found, over some rows."""
    rows = np.linspace(0, len(feats) - 1, sample).astype(np.int64)
    found = []
    for part in np.array_split(rows, 20):
        exact = (feats[part] @ feats.T).topk(ranks.shape[1], dim=1).indices.numpy()
        found += [len(np.intersect1d(a, b)) for a, b in zip(exact, ranks[part], strict=True)]
    return float(np.mean(found) / ranks.shape[1])


def exact_table(sizes: list[int], runs: int) -> list[str]:
    try:
        import faiss

        index = f"faiss-cpu {faiss.__version__}"
    except ImportError:
        index = "NumPy (faiss-cpu was not installed)"
    head = [
        "images", "clusters + outliers", "ARI", "rows labelled otherwise",
        "rows with other neighbours", "after the neighbours, s", "usual, s", "times faster",
        "neighbours, s", "usual neighbours, s", "float32 product, s", "whole / product",
        "columns compared again, a row", "visir, MiB", "usual, MiB", "times smaller",
    ]  # fmt: skip
    lines = [
        f"Seconds are the median (lowest to highest) of {runs} runs on {machine()}, "
        f"bf16 units: {'yes' if multiplies_bf16(torch.device('cpu')) else 'no'}; "
        f"{WIDTH}-number features, eps {EPS}, DBSCAN, compiled before. The usual algorithm has "
        f"its neighbours from {index}. ARI and labels compare the two. Whole / product is "
        "everything, neighbours included, over one plain float32 product of all features with "
        "all. Compared again: columns a row that the bound on bf16 rounding does not rule out and "
        "that are compared in full precision; no row needs more. MiB are the peak of a fresh "
        "process beyond the features.",
        "",
    ]
    columns = []
    for count in sizes:
        columns.append(exact_cells(count, runs))
        print(line(*columns[-1]), flush=True)
    first, *rest = zip(head, *columns, strict=True)
    return [*lines, line(*first), line(*["---"] * len(first)).replace(" ", ""),
            *(line(*cells) for cells in rest)]  # fmt: skip


def large_table(sizes: list[int]) -> list[str]:
    head = [
        "images", "neighbours, s", "after, s", "whole, s", "growth a doubling", "MiB",
        "recall", "ARI with exact", "clusters + outliers", "ARI with the people",
    ]  # fmt: skip
    lines = [
        f"Neighbours within overlapping cells, one run on {machine()}. Growth a doubling is that "
        "of the whole time since the row above. MiB are the peak beyond the features. Recall is of "
        f"the {K1} exact neighbours of 1,000 rows. ARI with exact compares with the labels of an "
        f"exact search, up to {COMPARED:,} images. Images scatter a little less than above (0.8 "
        "for 1.1), since people crowd.",
        "",
        line(*head),
        line(*["---"] * len(head)).replace(" ", ""),
    ]
    former = None
    for count in sizes:
        search, after, *cells = in_fresh_process("large", count)
        now = count, float(search) + float(after)
        growth = f"{growth_of(former, now):.2f}" if former else ""
        former = now
        times = (f"{float(search):.1f}", f"{float(after):.1f}", f"{now[1]:.1f}", growth)
        lines.append(line(f"{count:,}", *times, *cells))
        print(lines[-1], flush=True)
    return lines


def machine() -> str:
    return f"{os.cpu_count()} cores ({platform.machine()})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="repetitions of each measurement")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="exact")
    parser.add_argument("--large", type=int, nargs="*", default=LARGE, help="approximate")
    parser.add_argument("--task", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task:
        print(*TASKS[args.task[0]](int(args.task[1])), sep="\n")
        return
    few = features(500)[0]
    ours_after(few, nearest(few, K1, exact_up_to=0))  # compiles
    lines = exact_table(args.sizes, args.runs) if args.sizes else []
    lines += ["", *large_table(args.large)] if args.large else []
    if (args.sizes, args.large) == (SIZES, LARGE):
        command = "python benchmarks/clustering.py" + f" --runs {args.runs}" * (args.runs != 3)
        write_text(TABLE, "\n".join([*lines, "", f"Written by `{command}`."]) + "\n")


if __name__ == "__main__":
    main()
