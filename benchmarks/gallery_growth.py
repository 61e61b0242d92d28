"""Galleries of up to ten million images: `python benchmarks/gallery.py --ten-million`.

The vectors are drawn as in `gallery.py`, one image in 25 has a tag. The database is filled by the
store's own statements without its journal, which `visir index add` does not do; the scan is then
made by the store's own path, as at the end of an add. Queries are asked one at a time, in a process
of their own that only reads. Recall is of the ten best by exact products within the part.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measure import held

WIDTH, CAMERAS, QUERIES, BEST, CHUNK = 768, 6, 200, 10, 20_000
TABLE = Path(__file__).parent.parent / "docs" / "tables" / "gallery_growth.md"
Search = Callable[[np.ndarray, str], np.ndarray]  # a query and a part: (10,) row numbers
PARTS = ("all images", "a camera", "an hour", "a tag")


def belongs(rows: np.ndarray, count: int, part: str) -> np.ndarray:
    """Which rows a part holds; times are in no order."""
    if part == "a camera":
        return rows % CAMERAS == 2
    if part == "an hour":
        return rows * 7919 % count < count // 100
    if part == "a tag":
        return rows % 50 < 2
    return np.ones(len(rows), bool)


def fill(folder: Path, count: int, chunks: Iterator[np.ndarray]) -> None:
    """Fill a database."""
    from visir.core.types import Modality
    from visir.gallery.sqlite import SqliteStore
    from visir.gallery.sqlite_tables import insert, note_change, put
    from visir.gallery.store import ModelId
    from visir.sources.crop import Entry

    shutil.rmtree(folder / "gallery", ignore_errors=True)
    gallery = SqliteStore(folder / "gallery", create=True)
    model = ModelId("f" * 64, "made", WIDTH, (384, 128), True)
    gallery.db.run("PRAGMA journal_mode = OFF")
    gallery.db.run("PRAGMA synchronous = OFF")
    put(gallery.db, "model", json.dumps(model._asdict()))
    for rows, vectors in _numbered(chunks, count, "filled"):
        entries = [
            Entry(f"{row}.jpg", f"cam{row % CAMERAS}", Modality.VISIBLE, float(row * 7919 % count),
                  ("gate",) if row % 50 < 2 else ())
            for row in rows.tolist()
        ]  # fmt: skip
        with gallery.db.changing():
            insert(gallery.db, (rows + 1).tolist(), entries)
            blobs = ((row + 1, vectors[row - rows[0]].tobytes()) for row in rows.tolist())
            gallery.db.run_many("INSERT INTO vectors VALUES (?, ?)", blobs)
            note_change(gallery.db)
    gallery.db.run("PRAGMA journal_mode = WAL")
    gallery.close()


def write_truth(
    folder: Path, count: int, chunks: Iterator[np.ndarray], queries_QD: np.ndarray
) -> None:
    """Write the queries, and the ten best of every query and part."""
    best = [_Best(len(queries_QD)) for _ in PARTS]
    for rows, vectors in _numbered(chunks, count, "compared exactly"):
        products = queries_QD @ vectors.T
        for kept, part in zip(best, PARTS, strict=True):
            mine = np.flatnonzero(belongs(rows, count, part))
            kept.take(products[:, mine], rows[mine])
    np.save(folder / "queries.npy", queries_QD)
    np.save(folder / "best.npy", np.stack([kept.rows for kept in best]))


def _numbered(
    chunks: Iterator[np.ndarray], count: int, done: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks with their row numbers; says how far it is."""
    began, start = time.perf_counter(), 0
    for vectors in chunks:
        yield np.arange(start, start + len(vectors)), vectors
        start += len(vectors)
        if start % (50 * CHUNK) == 0:
            print(f"{start:,} of {count:,} {done}, {time.perf_counter() - began:.0f} s", flush=True)


class _Best:
    """The best rows so far, of every query."""

    def __init__(self, queries: int) -> None:
        self.rows = np.zeros((queries, BEST), np.int64)
        self.scores = np.full((queries, BEST), -2, np.float32)

    def take(self, products_QM: np.ndarray, rows_M: np.ndarray) -> None:
        for query, row in zip(*np.nonzero(products_QM > self.scores[:, -1:]), strict=True):
            score = products_QM[query, row]
            if score > self.scores[query, -1]:
                at = int(np.searchsorted(-self.scores[query], -score))
                for kept, new in ((self.scores, score), (self.rows, rows_M[row])):
                    kept[query, at + 1 :] = kept[query, at:-1].copy()
                    kept[query, at] = new


def asked(folder: Path, name: str, mode: Any) -> dict[str, Any]:
    """What a system answers: of each part the median and 95th percentile in ms, and the recall.

    Args:
        folder: of the filled database.
        name: "visir" or "faiss".
        mode: of a search in the gallery.
    """
    count = int(folder.name)
    queries, best = np.load(folder / "queries.npy"), np.load(folder / "best.npy")
    began = time.perf_counter()
    search, opened = _gallery(folder, count, mode) if name == "visir" else _faiss(folder, count)
    found: dict[str, Any] = {"seconds": time.perf_counter() - began, **opened}
    for part, right_QK in zip(PARTS, best, strict=True):
        search(queries[0], part)
        seconds, hits = [], 0
        for query, right in zip(queries, right_QK, strict=True):
            began = time.perf_counter()
            rows = search(query, part)
            seconds.append(time.perf_counter() - began)
            hits += len(np.intersect1d(rows, right))
        ms = (1000 * np.quantile(seconds, [0.5, 0.95])).tolist()
        found[part] = [*ms, hits / right_QK.size]
        print(folder.name, name, mode, part, found[part], flush=True)
    return found | _memory()


def _gallery(folder: Path, count: int, mode: Any) -> tuple[Search, dict[str, Any]]:
    from visir.gallery.sqlite import SqliteStore
    from visir.gallery.store import Filter

    gallery = SqliteStore(folder / "gallery")
    gallery.settle()
    where = {
        "all images": Filter(),
        "a camera": Filter(cameras=("cam2",)),
        "an hour": Filter(since=0, until=count // 100 - 1),
        "a tag": Filter(tags=("gate",)),
    }
    files = [file for file in (folder / "gallery").rglob("*") if file.is_file()]
    return lambda query, part: gallery.nearest(query, BEST, where[part], mode).ids - 1, {
        "disk": sum(file.stat().st_size for file in files) / 2**30
    }


def _faiss(folder: Path, count: int) -> tuple[Search, dict[str, Any]]:
    import faiss
    from gallery import makes

    index = faiss.index_factory(
        WIDTH, f"PCAR96,IVF{int(4 * count**0.5)},PQ48", faiss.METRIC_INNER_PRODUCT
    )
    step = max(1, count // 200_000)
    index.train(np.concatenate([rows[::step].copy() for rows in makes(count, 0)]))
    for _, rows in _numbered(makes(count, 0), count, "added to faiss"):
        index.add(rows)
    everyone = np.arange(count)
    chosen = {
        part: faiss.IDSelectorBitmap(np.packbits(belongs(everyone, count, part), bitorder="little"))
        for part in PARTS[1:]
    }

    def search(query: np.ndarray, part: str) -> np.ndarray:
        cells = {"nprobe": 64} | ({"sel": chosen[part]} if part in chosen else {})
        options = faiss.SearchParametersPreTransform(
            index_params=faiss.SearchParametersIVF(**cells)
        )
        return index.search(query[None], BEST, params=options)[1][0]

    faiss.write_index(index, str(folder / "index"))
    size = (folder / "index").stat().st_size / 2**30
    (folder / "index").unlink()
    return search, {"disk": size}


def settled(folder: Path) -> tuple[float, float]:
    """Make the scan of a filled database: seconds, and GiB of memory at the peak."""
    from visir.gallery.sqlite import SqliteStore

    began = time.perf_counter()
    gallery = SqliteStore(folder / "gallery")
    gallery.settle()
    gallery.close()
    return time.perf_counter() - began, _memory()["VmHWM"]


def _memory() -> dict[str, float]:
    """GiB of this process's memory, now (VmRSS) and at its peak (VmHWM)."""
    return {name: held(name) / 1024 for name in ("VmRSS", "VmHWM")}


# What the name of a system runs, and how the table calls it.
SYSTEMS = {
    "auto": ("visir", "auto", "visir, auto"),
    "exact": ("visir", "exact", "visir, exact"),
    "faiss": ("faiss", "", "faiss, PCA 96, IVF (64 of 4 √N cells), PQ 48"),
}


def measure(
    sizes: Sequence[int],
    systems: Sequence[str],
    makes: Callable[[int, int], Iterator[np.ndarray]],
    work: Path,
) -> str:
    """The table.

    Args:
        sizes: numbers of images.
        systems: names of `SYSTEMS`.
        makes: draws the vectors of a size and a seed, in chunks.
        work: keeps databases and results; what is there is not made again.
    """
    for count in sizes:
        folder = work / str(count)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "best.npy").exists():
            write_truth(folder, count, makes(count, 0), next(makes(count, 1))[:QUERIES])
        ours = any(SYSTEMS[name][0] == "visir" for name in systems)
        if ours and not (folder / "made.json").exists():
            fill(folder, count, makes(count, 0))
            (folder / "made.json").write_text(json.dumps(_apart(settled, folder)))
        for name in systems:
            kept = folder / f"{name}.json"
            if not kept.exists():
                kept.write_text(json.dumps(_apart(asked, folder, *SYSTEMS[name][:2])))
    return table(sizes, work)


def _apart(use: Callable[..., Any], *arguments: Any) -> Any:
    """What a function says in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(use, arguments)


def table(sizes: Sequence[int], work: Path) -> str:
    """Markdown of the results in a folder; those that were not measured are left out."""
    lines = [
        f"| images | | making it: s, GiB at the peak | {' | '.join(PARTS)}: ms (p95), recall "
        "| GiB of memory | GiB on disk |",
        f"|---|---|---|{'---|' * (len(PARTS) + 2)}",
    ]
    for count in sizes:
        folder = work / str(count)
        for name, (system, _, label) in SYSTEMS.items():
            kept = folder / f"{name}.json"
            if not kept.exists():
                continue
            of = json.loads(kept.read_text())
            seconds, peak = of["seconds"], of["VmHWM"]
            memory = of["VmHWM" if system == "visir" else "VmRSS"]
            if system == "visir":
                seconds, peak = json.loads((folder / "made.json").read_text())
            parts = [f"{of[p][0]:.1f} ({of[p][1]:.1f}), {of[p][2]:.3f}" for p in PARTS]
            cells = [f"{count:,}", label, f"{seconds:,.0f}, {peak:.1f}", *parts]
            cells += [f"{memory:.1f}", f"{of['disk']:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Median and 95th percentile of {QUERIES} queries, one at a time, ten best; recall of the "
        "ten best by exact products within the part: all images, one camera of six, one hour (one "
        "image in a hundred), one tag (one in 25). Making is that of the scan from the filled "
        "database, or of the index. Memory is resident (visir: at the peak of opening and "
        "searching), without the page cache, in which the database's pages are as far as there is "
        f"room. {os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    return "\n".join(lines)
