"""Planning an epoch of SYSU-MM01's size, compared with an older build: seconds and memory.

The training set has 22,258 visible and 11,909 infrared images, and an embedding has 768 numbers,
drawn as in `clustering.py`. Measured are pseudo-labels of the modalities apart and joint, and all
that ADCA and SDCL do before an epoch of their second stage, but for embedding the images. Builds
run in processes of their own, in turns.

    python benchmarks/planning.py --before 1684c8a    # a commit, or the path of a checkout
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from builds import ROOT, Worker, build_of, named
from measure import forget_peak, held, in_turns, spread
from torch.nn import functional as F

TABLE = ROOT / "docs" / "tables" / "planning.md"
VISIBLE, IMAGES, PEOPLE, CAMERAS, WIDTH, LATENT = 22_258, 34_167, 395, 6, 768, 64
ROWS = {
    "apart": "pseudo-labels, the modalities apart",
    "joint": "pseudo-labels, joint",
    "adca": "an epoch of ADCA",
    "sdcl": "an epoch of SDCL",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="after one to warm up")
    parser.add_argument("--before", required=True, help="a commit, or the path of a checkout")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work()
        return
    with tempfile.TemporaryDirectory() as folder:
        before = build_of(arguments.before, Path(folder) / "before")
        builds = {"visir": ROOT, arguments.before: before}
        lines = [
            f"| | visir, s | {arguments.before}, s | visir / {arguments.before} | visir, MiB "
            f"| {arguments.before}, MiB |",
            "|---|---|---|---|---|---|",
        ]
        for row, label in ROWS.items():
            seconds, memory = measure(builds, row, arguments.turns)
            now, then = (np.array(of) for of in seconds.values())
            cells = [spread(of, 2) for of in (now, then, now / then)]
            cells += [f"{of:,.0f}" for of in memory.values()]
            lines.append(f"| {label} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        f"Median (lowest to highest) of {arguments.turns} turns, ratios turn by turn; MiB at the "
        f"peak beyond the embeddings. {VISIBLE:,} visible and {IMAGES - VISIBLE:,} infrared "
        f"images, {WIDTH} numbers each. {os.cpu_count()} cores ({platform.machine()}), PyTorch "
        f"{torch.__version__}. Written by `python benchmarks/planning.py`.",
        "",
    ]
    text = "\n".join(lines)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def measure(
    builds: dict[str, Path], row: str, turns: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Seconds turn by turn, the first not counted, and MiB, of each build."""
    workers = {
        name: Worker([__file__, "--before", "", "--worker"], of) for name, of in builds.items()
    }
    seconds = in_turns(workers, row, turns)
    memory = {name: worker.ask("memory") for name, worker in workers.items()}
    for worker in workers.values():
        worker.close()
    return seconds, memory


# ---- in the processes


def work() -> None:
    """Answer a row with the seconds it takes, and "memory" with the peak beyond the embeddings."""
    import visir

    print(Path(visir.__file__).resolve().parent, flush=True)
    features, cams = embeddings()
    base, run, row = held("VmRSS"), None, ""
    for line in sys.stdin:
        if line.strip() == "memory":
            print(held("VmHWM") - base, flush=True)
            continue
        if line.strip() != row:
            row = line.strip()
            run = maker(row, features, cams)
            run()
            base = held("VmRSS")
            forget_peak()
        began = time.perf_counter()
        run()
        print(time.perf_counter() - began, flush=True)


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

    if row == "apart":
        return lambda: [pseudo_labels(of, 0.6) for of in features.values()]
    if row == "joint":
        both = torch.cat(list(features.values()))
        return lambda: pseudo_labels(both, 0.6)
    module: Any = importlib.import_module(f"visir.methods.{row}")
    module.embed_training = lambda *_: dict(features)
    kind = getattr(module, row.capitalize())
    pixels = np.broadcast_to(np.zeros((64, 32, 3), np.uint8), (IMAGES, 64, 32, 3))
    data = TrainingSet(pixels, np.arange(IMAGES) >= VISIBLE, cams)
    method = kind(kind.presets["tiny"], data, torch.device("cpu"), seed=0)
    return lambda: method.plan(method.epochs - 1)


if __name__ == "__main__":
    main()
