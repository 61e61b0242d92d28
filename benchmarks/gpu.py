"""Measure training steps of CMAG and HCT on a GPU: speed and memory, bf16 and torch.compile.

CMAG as in `benchmarks/step.py` (ViT-B/16 at 384 x 128, memories of SYSU-MM01's size), HCT as in
`benchmarks/labelled_cost.py` (ResNet-50 at 288 x 144). Each step is forward, losses, backward,
optimiser, and the updates after it.

    python benchmarks/gpu.py --out runs/gpu            # about three minutes on a GPU
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from visir.bench.build import processor, this_build
from visir.core.device import autocast, wait_for
from visir.core.run import write_json, write_text
from visir.core.types import Batch, Facts
from visir.data.dataset import TrainingSet, joined
from visir.methods.contract import Method

VARIANTS = {
    "fp32": ("fp32", False),
    "bf16": ("bf16", False),
    "bf16, torch.compile": ("bf16", True),
}
PEOPLE, IMAGES = 8, 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20, help="of each kind, after three others")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    if arguments.device != "cpu" and not torch.cuda.is_available():
        print("benchmarks/gpu.py: no usable GPU was found", file=sys.stderr)
        return 1
    device = torch.device(arguments.device)
    found: list[dict[str, Any]] = []
    for name, prepared in (("CMAG", cmag), ("HCT", hct)):
        for variant, (precision, compiled) in VARIANTS.items():
            about = {"method": name, "variant": variant}
            try:
                about |= measured(*prepared(device), precision, compiled, arguments.steps, device)
            except (RuntimeError, ImportError, OSError) as error:  # such as no compiler
                about["error"] = str(error).splitlines()[0]
            found.append(about)
            print(about, flush=True)
            whole = {"build": this_build().as_json(), "torch": torch.__version__,
                     "processor": processor(arguments.device), "steps": found}  # fmt: skip
            write_json(arguments.out / "steps.json", whole)
    write_text(arguments.out / "steps.md", table(found, processor(arguments.device)))
    return 0


def cmag(device: torch.device) -> tuple[Method, Batch]:
    """CMAG's second stage with random memories."""
    import step

    return step.ready(device), step.drawn(device)


def hct(device: torch.device) -> tuple[Method, Batch]:
    """HCT with a batch of people in both modalities."""
    from visir.methods.hct import PRESETS, Hct

    rng = np.random.default_rng(0)
    infrared = np.arange(2 * PEOPLE * IMAGES) >= PEOPLE * IMAGES
    labels = np.tile(np.arange(PEOPLE).repeat(IMAGES), 2)
    config = PRESETS["sysu"]
    data = TrainingSet(
        np.empty((0, *config.size, 3), np.uint8), infrared, rng.integers(2, size=len(infrared)),
        identities=labels,
    )  # fmt: skip
    torch.manual_seed(0)
    images = torch.randn(len(labels), 3, *config.size, device=device)
    mask, people = torch.from_numpy(infrared), torch.from_numpy(labels)
    batch = joined(images, Facts(mask, people, people, torch.arange(len(labels))))
    return Hct(config, data, device, seed=0), batch


def measured(
    method: Method, batch: Batch, precision: str, compiled: bool, steps: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of a step, views per second and the highest memory."""
    network: Callable[..., Any] = torch.compile(method.model) if compiled else method.model
    optimizer = method.optimizer()
    method.model.train()
    seconds, first = [], 0.0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    for turn in range(steps + 3):
        wait_for(device)
        began = time.perf_counter()
        with autocast(device, precision):
            outputs = network(batch.images, batch.host.infrared)
        total = torch.stack(list(method.loss(batch, outputs).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        method.after_step(batch, outputs)
        wait_for(device)
        taken = time.perf_counter() - began
        first = first or taken
        seconds += [taken] if turn >= 3 else []
    median = float(np.median(seconds))
    memory = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return {
        "seconds": median,
        "fastest": min(seconds),
        "slowest": max(seconds),
        "first_step": first,
        "views_per_second": len(batch.rows) / median,
        "peak_gib": memory,
    }


def table(found: list[dict[str, Any]], place: dict[str, Any]) -> str:
    lines = [
        "| method | variant | views/s | seconds | first step, s | peak, GiB |",
        "|---|---|---|---|---|---|",
    ]
    for of in found:
        head = f"| {of['method']} | {of['variant']} "
        if "error" in of:
            lines.append(f"{head}| failed: {of['error']} | - | - | - |")
            continue
        cells = (f"{of['views_per_second']:.0f}",
                 f"{of['seconds']:.4f} ({of['fastest']:.4f} to {of['slowest']:.4f})",
                 f"{of['first_step']:.1f}", f"{of['peak_gib']:.1f}")  # fmt: skip
        lines.append(f"{head}| {' | '.join(cells)} |")
    where = place.get("gpu", place["name"])
    said = f"Median (lowest to highest) of steps after three others; {where}, PyTorch "
    return "\n".join([*lines, "", f"{said}{torch.__version__}.", ""])


if __name__ == "__main__":
    sys.exit(main())
