"""`visir synth`: a data set of synthetic people."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Literal

from visir.commands.terminal import Written


def synth(
    out: Path,
    /,
    *,
    layout: Literal["sysu", "regdb", "llcm", "pool"] = "sysu",
    twin: Literal["sysu", "regdb"] | None = None,
    ids: int = 24,
    images: int = 4,
    train_ids: int | None = None,
    size: str | None = None,
    unpaired: float = 0.0,
    set: tuple[str, ...] = (),
    seed: int = 0,
    workers: int = 0,
    device: str = "cpu",
) -> Written:
    """Make a data set of synthetic people, in the folder structure of a public data set.

    If it was stopped, the same command continues with what is missing.

    Args:
        out: folder to write: new, empty, or begun by the same command.
        layout: data set whose folders and sensors are imitated; pool: people to pre-train on.
        twin: make the exact identities and image counts of this data set; --ids and --images are
            then ignored.
        ids: number of identities, training and test together.
        images: number of images of each identity in each camera that sees it.
        train_ids: number of identities for training; half of them if omitted.
        size: height x width of the images, in pixels; 288x144 if omitted, for regdb 128x64.
        unpaired: share (0 to 1) of training identities seen in one modality only.
        set: physics of the sensors to replace, as key=value, such as nir_follows=0.5.
        seed: seed of all random draws; the same seed gives the same images.
        workers: number of processes; 0 for one per core. The images are the same for any number.
        device: computes exposure, tone and blur: cpu, cuda, cuda:1; auto: a GPU if there is one.

    Returns:
        The folder.

    Raises:
        InputError: impossible numbers, no such device, or `out` holds something else.
    """
    from visir.synth.write import synthesise

    synthesise(
        out,
        layout=layout,
        twin=twin,
        ids=ids,
        images=images,
        train_ids=train_ids,
        size=size,
        unpaired=unpaired,
        physics=set,
        seed=seed,
        workers=workers,
        device=device,
        progress=True,
    )
    return Written(out, f"check it with: visir check {shlex.quote(str(out))}")
