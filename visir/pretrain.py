"""A backbone of one's own: DINO on unlabelled crops, written as TransReID-SSL writes its own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import torch

from visir.data.manifest import fitting_layout
from visir.nets.foreign import to_transreid
from visir.run import atomic_write
from visir.train import train


def pretrain(
    data: Path,
    out: Path,
    preset: str = "tiny",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    layout: str | None = None,
    device: str = "cpu",
    resume: bool = False,
    progress: bool = True,
) -> Path:
    """Train a vision transformer with ICS stem on images alone.

    Args:
        data: a folder of crops in any arrangement, or a data set visir knows.
        out: the run folder to write.
        preset: of `visir.methods.dino` to begin with.
        settings: some of them replaced.
        seed: of all random draws.
        layout: of the data; where None and nothing in the folder tells, every image below it is
            taken.
        device: "cpu", "cuda", "cuda:<n>" or "auto".
        resume: go on with the run in `out`.
        progress: show a bar and one line an epoch on standard error.

    Returns:
        `pretrained.pth` in the run folder: the teacher's backbone, for `--start` of every method
        with a transformer, and for TransReID-SSL itself.

    Raises:
        InputError: unusable settings or data, or a run folder in the way.
    """
    layout = layout or fitting_layout(data) or "crops"
    run = train("dino", data, out, preset=preset, settings=settings, seed=seed, layout=layout,
                device=device, resume=resume, progress=progress)  # fmt: skip
    state = torch.load(run.checkpoint, map_location="cpu", weights_only=True)
    teacher = to_transreid(state["method"]["teacher"])
    buffer = io.BytesIO()
    torch.save({"teacher": {f"backbone.{name}": value for name, value in teacher.items()}}, buffer)
    with atomic_write(run.pretrained) as file:
        file.write(buffer.getbuffer())
    return run.pretrained
