"""The verb that embeds many images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from visir.commands.terminal import on_terminal

_LISTED = 10


def embed(
    run: Path,
    inputs: tuple[Path, ...],
    /,
    *,
    out: Path,
    modality: Literal["visible", "infrared"] | None = None,
    camera: str | None = None,
    tags: tuple[str, ...] = (),
    shard_size: int = 512,
    skip_broken: bool = False,
    workers: int = 1,
    every: float = 0.2,
    detector: Path | None = None,
    crops: int = 3,
    device: str = "auto",
) -> None:
    """Embed many images: folders, tar shards, videos, by any number of machines.

    Args:
        run: run folder or weights file.
        inputs: folders of crops, tar shards (.tar, .tar.gz) and videos.
        out: folder to write; the same command goes on with what is missing there.
        modality: of images no folder name or JSON says it of; a video's is else judged by colour.
        camera: of images no folder name or JSON says it of.
        tags: words every image gets.
        shard_size: images in a part of the work at most.
        skip_broken: pass over images that cannot be read, and count them.
        workers: processes on this machine.
        every: seconds between the frames of a video that are looked at.
        detector: weights file that finds people in videos: torchvision's, for COCO.
        crops: images of each person followed through a video at most.
        device: where networks run: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.core.types import Modality
    from visir.embedding.bulk import embed_run
    from visir.sources.crop import Settings

    kind = None if modality is None else Modality(modality)
    done = embed_run(
        run,
        inputs,
        out,
        Settings(kind, camera, tags, every, detector, crops),
        workers=workers,
        device=device,
        shard_size=shard_size,
        skip_broken=skip_broken,
        progress=on_terminal(),
    )
    if os.environ.get("RANK", "0") != "0":
        return
    print(f"{done.embedded} images embedded in {done.shards} shards, {len(done.skipped)} skipped")
    for broken in done.skipped[:_LISTED]:
        print(f"  {broken.reason}")
    if len(done.skipped) > _LISTED:
        print(f"  and {len(done.skipped) - _LISTED} more")
