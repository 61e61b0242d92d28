"""Planning an epoch of SYSU-MM01's size, compared with an older build: seconds and memory.

The training set has 22,258 visible and 11,909 infrared images, and an embedding has 768 numbers,
drawn as in `clustering.py`. Measured are pseudo-labels of the modalities apart and joint, and all
that a method does before an epoch (ADCA and SDCL: of their second stage), but for embedding the
images. A build without the method `pairs` makes pseudo-labels of the modalities apart in its rows.
Matches of as many clusters as a million images may have are compared with the last build that held
all their cosines. Builds run in processes of their own, in turns.

    python benchmarks/planning.py --before 1684c8a    # a commit, or the path of a checkout
    python benchmarks/planning.py --before 1684c8a --pairs    # the method pairs, and matches
    OMP_NUM_THREADS=1 python benchmarks/planning.py --before 1684c8a --cpu    # on a busy machine
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builds import ROOT, Worker, build_of, named
from measure import forget_peak, held, in_turns, spread
from torch.nn import functional as F

TABLES = ROOT / "docs" / "tables"
VISIBLE, IMAGES, PEOPLE, CAMERAS, WIDTH, LATENT = 22_258, 34_167, 395, 6, 768, 64
ROWS = {
    "apart": "pseudo-labels, the modalities apart",
    "joint": "pseudo-labels, joint",
    "adca": "an epoch of ADCA",
    "sdcl": "an epoch of SDCL",
}
PAIRS = {
    "pairs": "an epoch of pairs",
    "pairs association=joint": "an epoch of pairs, `association=joint`",
}
CLUSTERS, NUMBERS = (25_000, 12_000), 256  # of a million images; as the ready model embeds
MATCHES = {"matches": f"matches of {CLUSTERS[0]:,} and {CLUSTERS[1]:,} clusters"}
DENSE = "554096a"  # the last build that held all cosines of clusters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--before", required=True, help="a commit, or the path of a checkout")
    parser.add_argument("--pairs", action="store_true", help="the method pairs, and matches")
    parser.add_argument("--cpu", action="store_true", help="count seconds of the processor")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(time.process_time if arguments.cpu else time.perf_counter)
        return
    tables = [(arguments.before, ROWS)]
    if arguments.pairs:
        tables = [(arguments.before, PAIRS), (DENSE, MATCHES)]
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for commit, rows in tables:
            before = build_of(commit, Path(folder) / Path(commit).name)
            builds = {"visir": ROOT, commit: before}
            lines += [*table(builds, rows, arguments.turns, arguments.cpu), ""]
    kind = "seconds of the processor" if arguments.cpu else "seconds"
    clusters = f"; those of clusters have {NUMBERS}" if arguments.pairs else ""
    lines += [
        f"Median (lowest to highest) of {arguments.turns} turns in {kind}, ratios turn by turn; "
        "MiB at the peak beyond what a process holds after one run, in brackets beyond the "
        "embeddings, with libraries, network and compiled code. "
        f"{VISIBLE:,} visible and {IMAGES - VISIBLE:,} infrared images, {WIDTH} numbers each"
        f"{clusters}. {os.cpu_count()} cores ({platform.machine()}), threads: "
        f"{torch.get_num_threads()}, PyTorch {torch.__version__}. Written by "
        f"`python benchmarks/planning.py{' --pairs' * arguments.pairs}{' --cpu' * arguments.cpu}`.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    name = "planning_pairs.md" if arguments.pairs else "planning.md"
    (TABLES / name).write_text(text, encoding="utf-8")


def table(builds: Mapping[str, Path], rows: Mapping[str, str], turns: int, cpu: bool) -> list[str]:
    """Lines of a table that compares this build with another one, whose name is the second."""
    _, other = builds
    lines = [
        f"| | visir, s | {other}, s | visir / {other} | visir, MiB | {other}, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for row, label in rows.items():
        seconds, memory = measure(builds, row, turns, cpu)
        now, then = (np.array(of) for of in seconds.values())
        cells = [spread(of, 2) for of in (now, then, now / then)]
        cells += [f"{of:,.0f} ({whole:,.0f})" for of, whole in memory.values()]
        lines.append(f"| {label} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


def measure(
    builds: Mapping[str, Path], row: str, turns: int, cpu: bool
) -> tuple[dict[str, list[float]], dict[str, tuple[float, float]]]:
    """Seconds turn by turn, the first not counted, and MiB, of each build."""
    words = [__file__, "--before", "", "--worker", *["--cpu"] * cpu]
    workers = {name: Worker(words, of) for name, of in builds.items()}
    seconds = in_turns(workers, row, turns)
    memory = {name: (worker.ask("memory"), worker.ask("whole")) for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return seconds, memory


# ---- in the processes


def work(clock: Callable[[], float]) -> None:
    """Answer a row with the seconds it takes.

    "memory" is answered with the peak since the first run beyond what it left, "whole" with that
    beyond the embeddings.
    """
    import visir

    print(Path(visir.__file__).resolve().parent, flush=True)
    features, cams = embeddings()
    bases, run, row = {"whole": held("VmRSS")}, None, ""
    for line in sys.stdin:
        if line.strip() in {"memory", "whole"}:
            print(held("VmHWM") - bases[line.strip()], flush=True)
            continue
        if line.strip() != row:
            row = line.strip()
            run = maker(row, features, cams)
            run()
            bases["memory"] = held("VmRSS")
            forget_peak()
        began = clock()
        run()
        print(clock() - began, flush=True)


def embeddings() -> tuple[dict[Any, torch.Tensor], np.ndarray]:
    """Of each modality, and the cameras of all images."""
    modality = named("visir.core.types:Modality")
    rng = np.random.default_rng(0)
    share = rng.gamma(4.0, size=PEOPLE)
    who = rng.choice(PEOPLE, IMAGES, p=share / share.sum())
    cams = rng.integers(CAMERAS, size=IMAGES)
    centres = rng.standard_normal((PEOPLE, 1, LATENT), dtype=np.float32)
    views = rng.standard_normal((PEOPLE, CAMERAS, LATENT), dtype=np.float32)
    latent = (centres + np.float32(0.6) * views)[who, cams]
    latent += np.float32(1.1) * rng.standard_normal(latent.shape, dtype=np.float32)
    basis = np.linalg.qr(rng.normal(size=(WIDTH, LATENT)))[0].T.astype(np.float32)
    rows = torch.from_numpy(latent @ basis)
    rows += 0.09 * torch.from_numpy(rng.standard_normal(rows.shape, dtype=np.float32))
    vis, ir = F.normalize(rows, dim=1).split([VISIBLE, IMAGES - VISIBLE])
    return {modality.VISIBLE: vis, modality.INFRARED: ir}, cams


def maker(row: str, features: dict[Any, torch.Tensor], cams: np.ndarray) -> Callable[[], object]:
    """What a row measures."""
    from visir.cluster.labels import pseudo_labels
    from visir.data.dataset import TrainingSet

    name, *settings = row.split()
    if name == "matches":
        return matches()
    if name == "apart" or (name == "pairs" and not find_spec("visir.methods.pairs")):
        return lambda: [pseudo_labels(of, 0.6) for of in features.values()]
    if name == "joint":
        both = torch.cat(list(features.values()))
        return lambda: pseudo_labels(both, 0.6)
    module: Any = importlib.import_module(f"visir.methods.{name}")
    module.embed_training = lambda *_: dict(features)
    kind = getattr(module, name.capitalize())
    config = replace(kind.presets["tiny"], **dict(setting.split("=") for setting in settings))
    pixels = np.broadcast_to(np.zeros((64, 32, 3), np.uint8), (IMAGES, 64, 32, 3))
    data = TrainingSet(pixels, np.arange(IMAGES) >= VISIBLE, cams)
    method = kind(config, data, torch.device("cpu"), seed=0)
    return lambda: method.plan(method.epochs - 1)


def matches() -> Callable[[], object]:
    """Match clusters of one image each as the method `pairs` does; the modalities share people."""
    from visir.cluster.matches import Side, mutual

    rng = np.random.default_rng(0)
    people = rng.standard_normal((max(CLUSTERS), NUMBERS), dtype=np.float32)
    sides = []
    for count in CLUSTERS:
        rows = people[:count] + rng.standard_normal((count, NUMBERS), dtype=np.float32)
        sides.append(Side(F.normalize(torch.from_numpy(rows), dim=1), np.arange(count)))
    return lambda: mutual(*sides, scaled=5, one_sided=0.1, chance=0.3)


if __name__ == "__main__":
    main()
