"""`visir pretrain`: a backbone from unlabelled crops."""

from __future__ import annotations

import shlex
from functools import partial
from pathlib import Path
from typing import Any, Literal

from visir.commands.terminal import Written


def pretrain(
    data: Path,
    /,
    *,
    out: Path | None = None,
    method: Literal["dino", "simclr"] = "dino",
    preset: str = "tiny",
    set: tuple[str, ...] = (),
    seed: int = 0,
    layout: str | None = None,
    resume: bool = False,
    device: str = "auto",
    save_every: int = 0,
    devices: int = 1,
    accumulate: int | None = None,
    batch_norm: Literal["shared", "own"] | None = None,
    profile: bool = False,
) -> Written:
    """Train a backbone on unlabelled crops, as a start for other methods.

    Writes pretrained.pth, in the format of TransReID-SSL's files, into the run folder.

    Args:
        data: folder of crops in any arrangement, or of a data set (also --data).
        out: run folder to write; runs/pretrain-DATA-SEED if omitted.
        method: dino as in TransReID-SSL, or simclr, which learns more in a few minutes.
        preset: named settings to start from: own, sized by your images and device; tiny, sysu or
            regdb; `visir config METHOD` shows them.
        set: settings to replace, as key=value.
        seed: seed of all random draws.
        layout: folder structure; if omitted it is detected, or else every image below the folder
            is used (crops).
        resume: continue the run in --out; DATA may name the place its data set has moved to.
        device: where the network trains: cpu, cuda, cuda:1; auto uses a GPU if there is one.
        save_every: save the state inside an epoch after every so many batches; 0 for never.
        devices: GPUs of this machine, or processes on a CPU, that train one run together.
        accumulate: slices in which a batch is computed, to need less memory; 1 if omitted.
        batch_norm: over the images of all devices (shared, as on one), or of each its own.
        profile: also say and log which share of an epoch's time loading, forward, loss, backward,
            optimiser and memories (the teacher) take.

    Returns:
        The backbone's file.

    Raises:
        InputError: unusable settings or data, or `out` holds a run already.
    """
    words = {**locals(), "devices": 1}
    import visir.training.pretrain
    from visir.core.config import parse_pairs

    out = out or Path("runs") / f"pretrain-{data.resolve().name}-{seed}"
    if devices != 1:
        return _by_several(devices, out, words)
    made = visir.training.pretrain.pretrain(
        data, out, method=method, preset=preset, settings=parse_pairs(set), seed=seed,
        layout=layout, device=device, resume=resume, save_every=save_every,
        accumulate=accumulate, batch_norm=batch_norm, profile=profile,
    )  # fmt: skip
    return _written(made)


def _by_several(devices: int, out: Path, words: dict[str, Any]) -> Written:
    from visir.core.run import Run
    from visir.training.launch import launch

    launch(devices, words["device"], partial(pretrain, words.pop("data"), **words))
    return _written(Run(out).pretrained)


def _written(made: Path) -> Written:
    return Written(made, f"start a training from it with: --start {shlex.quote(str(made))}")
