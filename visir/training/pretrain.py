"""Pre-train your own backbone on unlabelled crops, written in TransReID-SSL's format."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch

from visir.core.run import atomic_write
from visir.core.types import InputError
from visir.data.registry import fitting_layout
from visir.nets.foreign import to_transreid
from visir.training.checkpoint import complete
from visir.training.processes import is_first
from visir.training.settings import BatchNorm
from visir.training.train import OnEpoch, train


def pretrain(
    data: Path,
    out: Path,
    *,
    method: Literal["dino", "simclr"] = "dino",
    preset: str = "tiny",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    layout: str | None = None,
    device: str = "cpu",
    resume: bool = False,
    save_every: int = 0,
    accumulate: int | None = None,
    batch_norm: BatchNorm | None = None,
    profile: bool = False,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> Path:
    """Train a vision transformer with ICS stem on images alone.

    Arguments are those of `visir.commands.pretrain.pretrain`; `settings` replace some of the
    preset's (`{"epochs": "5"}`), `on_epoch` and `progress` are those of
    `visir.training.train.train`.

    Returns:
        `pretrained.pth` in the run folder: the backbone (DINO's teacher), for `--start` of every
        method with a transformer, and for TransReID-SSL itself.

    Raises:
        InputError: unusable settings or data, or a run folder in the way.
    """
    if (settings or {}).get("class_tokens", "1") != "1":
        raise InputError("setting class_tokens: a backbone has one; leave the setting out")
    if (settings or {}).get("network", "").startswith("hybrid"):
        raise InputError(
            "setting network: a backbone's file has an ICS stem; set micro, small or base, or use "
            "visir train, whose run folder starts every network"
        )
    layout = layout or fitting_layout(data) or "crops"
    run = train(
        method, data, out, preset=preset, settings=settings, seed=seed, layout=layout,
        device=device, resume=resume, save_every=save_every, accumulate=accumulate,
        batch_norm=batch_norm, profile=profile, on_epoch=on_epoch, progress=progress,
    )  # fmt: skip
    if not is_first():
        return run.pretrained
    state = complete(run)
    made = to_transreid(state["method"]["teacher"] if method == "dino" else state["model"])
    buffer = io.BytesIO()
    torch.save({"teacher": {f"backbone.{name}": value for name, value in made.items()}}, buffer)
    with atomic_write(run.pretrained) as file:
        file.write(buffer.getbuffer())
    return run.pretrained
