"""Compare training steps with labels, their losses and MRA's memory read with the usual code.

The usual code is that of research projects: reads strip by strip, one matrix after the other, with
the read of instances that the released code computes and discards; attention with a matrix of all
pairs of positions; triplets image by image, centres identity by identity (CAJ's triplets are the
same in both). Published sizes: ResNet-50, 288 x 144, 8 + 8 images, six strips, 6,180 prototypes.
"silent": features as at the start of a training, with which no part prototype is recalled;
"speaking": longer features, with which nearly all positions recall. All variants run in turns.

    python benchmarks/labelled_cost.py            # about eight minutes on two cores
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from visir.core.device import autocast, multiplies_bf16
from visir.core.types import Facts
from visir.data.dataset import TrainingSet, joined
from visir.methods import agw, caj, hct
from visir.methods.losses import batch_hard, hetero_centre_triplet, weighted_triplet
from visir.methods.mra import method as mra
from visir.methods.mra.regulation import Recalled, Regulation
from visir.nets.two_stream import NonLocal

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "labelled_cost.md"
PEOPLE, IMAGES, STRIPS, ROWS, WIDTH = 2, 4, 6, 27, 2048
LENGTHS = {"silent": 30.0, "speaking": 100.0}
BF16 = multiplies_bf16(torch.device("cpu"))  # elsewhere bf16 is far slower than float32


class Plain(torch.nn.Module):
    """A `Regulation`'s weights, read as the released code reads them."""

    def __init__(self, memory: Regulation) -> None:
        super().__init__()
        self.memory = memory

    def forward(self, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Recalled:
        """Read strip by strip; the usual code supports float32 only."""
        del dtype
        parts, whole = [], []
        for strip in inputs.chunk(STRIPS):
            part = plain_read(strip, self.memory.weight, self.memory.threshold)
            parts.append(part)
            whole.append(part)
            if self.memory.granularity == "multi":
                instances, classes = self.memory.coarser()
                plain_read(strip, instances, self.memory.threshold)
                whole[-1] = plain_read(strip, classes, self.memory.threshold)
        return Recalled(torch.cat(whole), torch.cat(parts))


def plain_read(inputs: Tensor, items: Tensor, threshold: float) -> Tensor:
    weights = F.softmax(F.linear(inputs, items), dim=1)
    over = weights - threshold
    weights = F.relu(over) * weights / (over.abs() + 1e-12)
    return F.normalize(weights, p=1, dim=1) @ items


class PlainAttention(torch.nn.Module):
    """A `NonLocal`'s weights, with the matrix of all pairs."""

    def __init__(self, block: NonLocal) -> None:
        super().__init__()
        self.block = block

    def forward(self, maps: Tensor) -> Tensor:
        """All pairs of positions, then what they say."""
        theta, phi, g = (
            part(maps).flatten(2) for part in (self.block.theta, self.block.phi, self.block.g)
        )
        pairs = theta.transpose(1, 2) @ phi / theta.shape[2]
        heard = (pairs @ g.transpose(1, 2)).transpose(1, 2).contiguous()
        return maps + self.block.W(heard.view(*heard.shape[:2], *maps.shape[2:]))


def plain_batch_hard(features: Tensor, labels: Tensor, margin: float = 0.3) -> Tensor:
    """The farthest and the nearest of each image, one image after the other."""
    square = features.pow(2).sum(dim=1, keepdim=True).expand(len(features), len(features))
    apart = (square + square.t() - 2 * features @ features.t()).clamp(min=1e-12).sqrt()
    same = labels.expand(len(labels), len(labels)).eq(labels[:, None])
    own = [apart[row][same[row]].max()[None] for row in range(len(features))]
    others = [apart[row][~same[row]].min()[None] for row in range(len(features))]
    return F.relu(torch.cat(own) - torch.cat(others) + margin).mean()


def plain_centres(
    features: Tensor, labels: Tensor, infrared: Tensor, margin: float = 0.3
) -> Tensor:
    """Centres by chunks of the batch, whose order is relied on."""
    del infrared
    chunks = features.chunk(2 * len(labels.unique()))
    centres = torch.cat([chunk.mean(dim=0, keepdim=True) for chunk in chunks])
    return plain_batch_hard(centres, labels[:: len(labels) // len(chunks)], margin)


def plain_weighted(features: Tensor, labels: Tensor) -> Tensor:
    """Weights by exp over sums, as the script spells them."""
    apart = torch.cdist(features, features, compute_mode="use_mm_for_euclid_dist")
    same = labels.expand(len(labels), len(labels)).eq(labels[:, None]).float()
    other = 1 - same
    far, near = apart * same, -apart * other
    far = torch.exp(far - far.max(dim=1, keepdim=True)[0]) * same
    near = torch.exp(near - near.max(dim=1, keepdim=True)[0]) * other
    own = (apart * far / (far.sum(dim=1, keepdim=True) + 1e-6)).sum(dim=1)
    others = (apart * near / (near.sum(dim=1, keepdim=True) + 1e-6)).sum(dim=1)
    return F.soft_margin_loss(others - own, torch.ones_like(own))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--steps", type=int, default=5, help="of each variant, after one warm-up step"
    )
    arguments = parser.parse_args()
    lines = ["| memory read | seconds | speed-up | cosine |", "|---|---|---|---|"]
    lines += reads(arguments.steps)
    lines += ["", "| loss, 32 + 32 images | milliseconds | usual, milliseconds | speed-up |",
              "|---|---|---|---|", *losses(arguments.steps)]  # fmt: skip
    lines += ["", "| training step, 8 + 8 images | seconds | speed-up |",
              "|---|---|---|", *steps(arguments.steps)]  # fmt: skip
    lines += [
        "",
        f"Median (lowest to highest) of {arguments.steps} steps after one warm-up step, all "
        "variants in turns; losses ten times as often; forward and backward everywhere. Usual "
        "steps are float32 steps of the same method. One read of all positions of 16 images; "
        '"cosine" is that of the gradients of the prototypes (silent prototypes have none). '
        f"{os.cpu_count()} cores ({platform.machine()})."
        + ("" if BF16 else " No bf16: this processor has no units for it."),
        "",
    ]
    text = "\n".join(lines)
    print(text)
    TABLE.write_text(text, encoding="utf-8")


def turns(kinds: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Seconds of `count` runs of each kind, after one that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(count + 1):
        for name, run in kinds.items():
            began = time.perf_counter()
            run()
            if turn:
                taken[name].append(time.perf_counter() - began)
    return taken


def spelt(seconds: list[float]) -> str:
    return f"{np.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def reads(count: int) -> list[str]:
    torch.manual_seed(0)
    memory = Regulation(WIDTH, granularity="single")
    plain = Plain(memory)
    lines = []
    for state, length in LENGTHS.items():
        inputs = F.normalize(torch.randn(16 * STRIPS * ROWS, WIDTH).abs(), dim=1) * length
        inputs.requires_grad_()
        slope = torch.randn(inputs.shape)
        gradients: dict[str, Tensor] = {}

        def once(name: str, read: Callable[[Tensor, torch.dtype], Recalled], dtype: torch.dtype,
                 inputs: Tensor = inputs, slope: Tensor = slope,
                 gradients: dict[str, Tensor] = gradients) -> None:  # fmt: skip
            memory.weight.grad = inputs.grad = None
            (read(inputs, dtype).parts * slope).sum().backward()
            gradients[name] = memory.weight.grad.flatten().clone()

        kinds = {
            name: lambda name=name, read=read, dtype=dtype: once(name, read, dtype)
            for name, read, dtype in (
                ("usual", plain, torch.float32),
                ("float32", memory, torch.float32),
                ("bf16", memory, torch.bfloat16),
            )
            if BF16 or dtype is torch.float32
        }
        taken = turns(kinds, count)
        for name, seconds in taken.items():
            ratio = np.median(taken["usual"]) / np.median(seconds)
            alike = F.cosine_similarity(gradients[name], gradients["usual"], dim=0)
            close = "-" if not gradients["usual"].any() else f"{alike:.4f}"
            lines.append(f"| {state}, {name} | {spelt(seconds)} | {ratio:.1f} x | {close} |")
    return lines


def losses(count: int) -> list[str]:
    torch.manual_seed(0)
    labels = torch.arange(8).repeat_interleave(4).repeat(2)
    infrared = torch.arange(64) >= 32
    # Near ones: the plain weights of far images are 0 / 1e-6, see docs/methods/agw.md.
    features = (0.1 * torch.randn(64, WIDTH)).requires_grad_()
    pairs = {
        "weighted triplets": (
            lambda: weighted_triplet(features, labels), lambda: plain_weighted(features, labels),
        ),
        "batch-hard triplets": (
            lambda: batch_hard(features, labels), lambda: plain_batch_hard(features, labels),
        ),
        "hetero-centre triplets": (
            lambda: hetero_centre_triplet(features, labels, infrared),
            lambda: plain_centres(features, labels, infrared),
        ),
    }  # fmt: skip
    lines = []
    for name, (ours, plain) in pairs.items():
        assert torch.isclose(ours(), plain(), rtol=1e-3), name
        taken = turns({"ours": backward(ours), "usual": backward(plain)}, 10 * count)
        ratio = np.median(taken["usual"]) / np.median(taken["ours"])
        cells = [f"{1000 * np.median(of):.2f} ({1000 * min(of):.2f} to {1000 * max(of):.2f})"
                 for of in taken.values()]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.1f} x |")
    return lines


def backward(loss: Callable[[], Tensor]) -> Callable[[], None]:
    return lambda: loss().backward()


def steps(count: int) -> list[str]:
    lines = []
    for label, module, settings in (
        ("AGW", agw, {}),
        ("CAJ", caj, {}),
        ("HCT", hct, {}),
        ("SG-MRA", mra, {"granularity": "single"}),
        ("MG-MRA", mra, {}),
    ):
        kinds = {
            f"{label}, {name}": ready(module, settings, precision, plain)
            for name, precision, plain in (
                ("usual", "fp32", True), ("float32", "fp32", False), ("bf16", "bf16", False),
            )
            if BF16 or precision == "fp32"
        }  # fmt: skip
        taken = turns(kinds, count)
        slow = np.median(taken[f"{label}, usual"])
        rows = [
            f"| {name} | {spelt(seconds)} | {slow / np.median(seconds):.1f} x |"
            for name, seconds in taken.items()
        ]
        lines += rows
        print("\n".join(rows), flush=True)
    return lines


def ready(module, settings: dict[str, str], precision: str, plain: bool) -> Callable[[], None]:
    """A training step of a method, on random images."""
    torch.manual_seed(0)
    labels = np.arange(206).repeat(2)
    infrared = np.tile([False, True], 206)
    pixels = np.zeros((len(labels), 1, 1, 3), np.uint8)
    data = TrainingSet(pixels, infrared, infrared.astype(np.int64), labels)
    config = replace(module.PRESETS["regdb"], precision=precision, people=PEOPLE, images=IMAGES,
                     **settings)  # fmt: skip
    cpu = torch.device("cpu")
    kind = {agw: agw.Agw, caj: caj.Caj, hct: hct.Hct, mra: mra.Mra}[module]
    method = kind(config, data, cpu, 0)
    optimizer = method.optimizer()
    if plain and module is mra:
        method.branch["memory"] = Plain(method.branch["memory"])
    for name, block in method.model.non_local.items() if plain else ():
        method.model.non_local[name] = PlainAttention(block)
    who = torch.arange(PEOPLE).repeat_interleave(IMAGES).repeat(2)
    infrared = torch.arange(len(who)) >= PEOPLE * IMAGES
    if module is caj:  # a second view of visible images
        who, infrared = torch.cat([who, who[:8]]), torch.cat([infrared, infrared[:8]])
    batch = joined(torch.randn(len(who), 3, 288, 144), Facts(infrared, who, who, who))

    def step() -> None:
        hct.hetero_centre_triplet = plain_centres if plain else hetero_centre_triplet
        agw.weighted_triplet = plain_weighted if plain else weighted_triplet
        method.model.train()
        with autocast(cpu, precision):
            outputs = method.model(batch.images, batch.infrared)
        total = torch.stack(list(method.loss(batch, outputs).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
