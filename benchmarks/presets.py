"""Compute what the published presets need: GPU memory, disk, and operations, without a GPU.

Memory is counted (`visir.nets.cost`): weights, gradients, the optimiser's state in float32, and the
tensors that one batch keeps for the backward pass. Operations are counted by PyTorch in one forward
pass on the CPU; training takes three times as many, embedding all images with their mirror images
before each epoch once. Hours are operations by a throughput, which is an assumption. Losses,
clustering and reading are in neither.

    python benchmarks/presets.py         # about five minutes on two cores
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from visir.core.run import write_text
from visir.data.dataset import TrainingSet
from visir.methods import METHODS
from visir.methods.contract import Method
from visir.nets.build import Network, build
from visir.nets.cost import Cost, cost

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "presets.md"
# Training images of a modality with the cameras, and people: SYSU-MM01 and one split of RegDB.
SETS = {
    "sysu": ({False: (22_258, 4), True: (11_909, 2)}, 395),
    "regdb": ({False: (2_060, 1), True: (2_060, 1)}, 206),
}
WITHOUT = ("adca", "sdcl", "tokenmatcher", "cmag")
WITH = ("agw", "caj", "hct", "mra")
TERAFLOPS = 20
DISK_OF_A_WEIGHT = 28  # two checkpoints with Adam's means, and the weights


class Found(NamedTuple):
    """Of a network at a size: memory, and operations of a forward pass over one view."""

    cost: Cost
    flops: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="*", default=[*WITHOUT, *WITH])
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    known: dict[str, Found] = {}
    lines = [
        "| method | preset | views in a batch | batches | GPU memory, GiB | disk, GB | PFLOP "
        f"| hours at {TERAFLOPS} TFLOP/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in arguments.methods:
        for preset in SETS:
            lines.append(row(name, preset, known))
            print(lines[-1], flush=True)
    note = f"Computed in float32, not measured on a GPU; PyTorch {torch.__version__}."
    write_text(arguments.out, "\n".join([*lines, "", note, ""]))


def row(name: str, preset: str, known: dict[str, Found]) -> str:
    """A line of the table."""
    method, images = made(name, preset)
    config = method.config
    key = f"{method.model.described} {config.size}"
    if key not in known:
        known[key] = counted(method.model, config.size)
    found, views = known[key], views_of(config, name)
    batches = sum(method.steps(epoch) or 0 for epoch in range(method.epochs))
    embeds = 0 if METHODS[name].learns_from_labels else 2 * images * method.epochs
    flops = found.flops * (3 * views * batches + embeds)
    disk = images * int(np.prod(config.size)) * 3 + DISK_OF_A_WEIGHT * found.cost.weights
    memory = found.cost.memory(views) / 2**30
    return (
        f"| `{name}` | `{preset}` | {views} | {batches:,} | {memory:.1f} | {disk / 1e9:.1f} | "
        f"{flops / 1e15:,.0f} | {flops / TERAFLOPS / 1e12 / 3600:.1f} |"
    )


def made(name: str, preset: str) -> tuple[Method, int]:
    """The method with as many images, cameras and people as the data set; nothing is decoded."""
    sides, people = SETS[preset]
    infrared, cams, first = [], [], 0
    for side, (count, cameras) in sides.items():
        infrared.append(np.full(count, side))
        cams.append(first + np.arange(count) % cameras)
        first += cameras
    rows = sum(count for count, _ in sides.values())
    config = METHODS[name].presets[preset]
    pixels = np.broadcast_to(np.zeros(1, np.uint8), (rows, *config.size, 3))
    labels = np.concatenate([np.arange(len(side)) % people for side in infrared])
    learns = METHODS[name].learns_from_labels
    data = TrainingSet(
        pixels, np.concatenate(infrared), np.concatenate(cams), labels if learns else None
    )
    return METHODS[name](config, data, torch.device("cpu"), 0), rows


def views_of(config: Any, name: str) -> int:
    """Views in a batch of the main stages; CAJ uses visible images twice."""
    if "people" in vars(config):
        return config.people * config.images * (3 if name == "caj" else 2)
    return (2 * config.visible_clusters + config.infrared_clusters) * config.instances


def counted(model: Network, size: tuple[int, int]) -> Found:
    """Build the network again and run it forward."""
    described = dict(model.described)
    net = build(described.pop("size"), size, **described)
    views = 4
    infrared = torch.arange(views) % 2 == 1
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net.eval()(torch.zeros(views, 3, *size), infrared)
    return Found(cost(net, size), counter.get_total_flops() / views)


if __name__ == "__main__":
    main()
