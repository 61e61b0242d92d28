"""`visir embed`: embeddings of many images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.commands.terminal import on_terminal

if TYPE_CHECKING:
    from visir.embedding.bulk import Summary

OLD_OPTIONS = {"--tags": "--tag"}


def embed(
    run: Path,
    inputs: tuple[Path, ...],
    /,
    *,
    out: Path,
    modality: Literal["visible", "infrared"] | None = None,
    camera: str | None = None,
    tag: tuple[str, ...] = (),
    shard_size: int = 512,
    skip_broken: bool = False,
    workers: int = 1,
    every: float = 0.2,
    detector: Path | None = None,
    crops: int = 3,
    device: str = "auto",
) -> Summary:
    """Embed many images (folders, tar files, videos), on one machine or several.

    If it was stopped, the same command continues. Several machines that share the output folder
    divide the work. `visir.embedding.bulk.read_shards` reads what was written.

    Args:
        run: run folder or weights file.
        inputs: folders of crops, tar files (.tar, .tar.gz) and videos.
        out: folder to write; the same command continues with what is missing there.
        modality: modality of images whose folder name or JSON does not say it; for videos it is
            otherwise judged by colour.
        camera: camera of images whose folder name or JSON does not say it.
        tag: words that every image gets.
        shard_size: maximum number of images in one output file.
        skip_broken: skip and count images that cannot be read.
        workers: number of processes on this machine.
        every: seconds between the frames of a video that are used.
        detector: weights file of the detector that finds people in videos: torchvision's, for COCO.
        crops: maximum number of images of each person followed through a video.
        device: where networks run: cpu, cuda, cuda:1; auto uses a GPU if there is one.

    Returns:
        Counts of what is in the output folder, and what was skipped.

    Raises:
        InputError: an input cannot be read, or `out` was begun with another model, other inputs
            or other settings.
    """
    from visir.core.types import Modality
    from visir.embedding.bulk import embed_run
    from visir.sources.crop import Settings

    return embed_run(
        run,
        inputs,
        out,
        Settings(
            modality=None if modality is None else Modality(modality),
            camera=camera,
            tags=tag,
            every=every,
            detector=detector,
            crops=crops,
        ),
        workers=workers,
        device=device,
        shard_size=shard_size,
        skip_broken=skip_broken,
        progress=on_terminal(),
    )
