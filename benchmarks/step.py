"""Measure the cost of CMAG's modules and memories in a training step at full size.

ViT-B/16 with ICS stems at 384 x 128, 16 visible images in two views and 16 infrared ones, memories
of SYSU-MM01's size (22,258 + 11,909 images, 690 + 396 clusters) and a full queue; weights and
features are random, which takes as long. Steps of the backbone only and of CMAG run in turns.

    python benchmarks/step.py
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from builds import named
from scipy import sparse
from torch.nn import functional as F

from visir.cluster.memory import Memory
from visir.data.dataset import Part, TrainingSet
from visir.data.transforms import Augmentation, View

Modality = named("visir.core.types:Modality")
autocast = named("visir.core.device:autocast")
TABLE = Path(__file__).parent.parent / "docs" / "tables" / "step.md"
VIS, IR = Modality.VISIBLE, Modality.INFRARED
IMAGES, CLUSTERS, EACH = {VIS: 22_258, IR: 11_909}, {VIS: 690, IR: 396}, 16
NEIGHBOURS = 12  # of an image in every list


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5, help="of each kind, after one to warm up")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    method = ready(device)
    batch = method.data.batch(parts(), 0, 10, device)
    optimizer = method.optimizer()
    before = peak(device)
    taken: dict[str, list[float]] = {"bare": [], "whole": []}
    memory = {}
    for turn in range(arguments.steps + 1):
        for kind, seconds in taken.items():
            began = time.perf_counter()
            step(method, batch, optimizer, device, kind)
            if turn:
                seconds.append(time.perf_counter() - began)
            elif kind not in memory:
                memory[kind] = peak(device)
    ratios = np.array(taken["whole"]) / np.array(taken["bare"])
    text = table(taken, ratios, memory, before, device)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def ready(device: torch.device):
    """CMAG in its second stage, with random memories instead of clustered ones."""
    rng, cmag = np.random.default_rng(0), named("visir.methods.cmag.method:Cmag")
    infrared = np.arange(sum(IMAGES.values())) >= IMAGES[VIS]
    image = rng.integers(256, size=(384, 128, 3), dtype=np.uint8)
    pixels = np.broadcast_to(image, (len(infrared), *image.shape))
    data = TrainingSet(pixels, infrared, rng.integers(2, size=len(infrared)))
    torch.manual_seed(0)
    method = cmag(replace(cmag.presets["sysu"], precision="auto"), data, device, seed=0)
    base, width = method.base, method.queue.rows.shape[1]
    base.when = named("visir.methods.tokenmatcher.camera_stage:When")("stage 2", 10)

    def unit(count: int) -> torch.Tensor:
        return F.normalize(torch.randn(count, width, device=device), dim=1)

    for modality in Modality:
        base.images[modality] = Memory(unit(IMAGES[modality]), 1.0)
        base.memories[modality] = Memory(unit(CLUSTERS[modality]), 0.8)
        base.pure[modality] = Memory(unit(CLUSTERS[modality]), 0.2)
        others = rng.integers(CLUSTERS[modality.other], size=CLUSTERS[modality])
        base.partners[modality] = torch.from_numpy(others)
        mates = rng.integers(-1, CLUSTERS[modality], size=CLUSTERS[modality])
        base.mates[modality] = torch.from_numpy(mates)
    for a, b in ((VIS, VIS), (IR, IR), (VIS, IR)):
        rows = np.arange(IMAGES[a]).repeat(NEIGHBOURS)
        columns = rng.integers(IMAGES[b], size=len(rows))
        found = sparse.csr_array((np.ones(len(rows), bool), (rows, columns)),
                                 shape=(IMAGES[a], IMAGES[b]))  # fmt: skip
        base.neighbours[a, b] = listed(found)
    size = len(method.queue.rows)
    method.queue.push(unit(size), torch.arange(size, device=device) % 2 == 0)
    method.model.train()
    return method


def listed(found: sparse.csr_array):
    """Neighbour lists on the CPU; the builds until commit 1684c8a ask for their device."""
    lists = named("visir.cluster.neighbour_loss:Lists")
    return lists.of(found, *[torch.device("cpu")] * (lists.of.__code__.co_argcount - 2))


def parts() -> list[Part]:
    """16 visible images in two views, 16 infrared ones."""
    rng = np.random.default_rng(1)
    vis, ir = (
        rng.integers(IMAGES[VIS], size=EACH),
        IMAGES[VIS] + rng.integers(IMAGES[IR], size=EACH),
    )
    labels = np.arange(EACH) // 4
    return [
        Part(vis, labels, Augmentation(View.PLAIN)),
        Part(vis, labels, Augmentation(View.EXCHANGE)),
        Part(ir, labels, Augmentation(View.GRAY)),
    ]


def step(method, batch, optimizer: torch.optim.Optimizer, device: torch.device, kind: str) -> None:
    """Forward and backward; of the whole method also its losses, updates and queue."""
    optimizer.zero_grad(set_to_none=True)
    with autocast(device, method.config.precision):
        outputs = method.forward(batch)
    if kind == "bare":
        outputs.embedding.square().mean().backward()
    else:
        torch.stack(list(method.loss(batch, outputs).values())).sum().backward()
        method.after_step(batch, outputs)
    named("visir.core.device:wait_for")(device)


def peak(device: torch.device) -> float:
    """Peak GiB so far, of the GPU or of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def table(
    taken: dict[str, list[float]], ratios: np.ndarray, memory: dict[str, float], before: float,
    device: torch.device,
) -> str:  # fmt: skip
    def spread(values: np.ndarray | list[float]) -> str:
        return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"

    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"{os.cpu_count()} cores ({platform.machine()})"
    )
    return "\n".join(
        [
            "| step | seconds | peak, GiB |",
            "|---|---|---|",
            f"| backbone, forward and backward | {spread(taken['bare'])} | {memory['bare']:.1f} |",
            f"| CMAG, all modules on | {spread(taken['whole'])} | {memory['whole']:.1f} |",
            f"| ratio, step by step | {spread(ratios)} | - |",
            "",
            f"{3 * EACH} views ({EACH} visible images twice, {EACH} infrared ones) at 384 x 128, "
            f"memories and queue of SYSU-MM01's size. Median (lowest to highest) of "
            f"{len(ratios)} steps of each, in turns, on {where}. Memory is that of the process; "
            f"{before:.1f} GiB of it were used before the first step (weights, memories, queue).",
            "",
        ]
    )


if __name__ == "__main__":
    main()
