"""`visir embed`: embeddings of many images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.commands.terminal import BoxFormat

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
    exclude_list: Path | None = None,
    workers: int = 1,
    every: float = 0.2,
    stream: int | None = None,
    detector: Path | None = None,
    crops: int = 3,
    boxes: Path | None = None,
    format: BoxFormat = "auto",
    label: tuple[str, ...] = (),
    start: str | None = None,
    fps: float | None = None,
    device: str = "auto",
) -> Summary:
    """Embed many images (folders, tar files, videos), on one or several machines.

    Args:
        run: run folder, weights file, or builtin.
        inputs: folders of crops, tar files (.tar, .tar.gz) and videos.
        out: folder to write; the same command continues with what is missing there.
        modality: of images without one in folder name or JSON; for videos detected by colour.
        camera: of images without one in folder name or JSON.
        tag: words that every image gets.
        shard_size: maximum number of images in one output file.
        skip_broken: skip and count images that cannot be read.
        exclude_list: names of images to leave out, a file of `visir check --list`.
        workers: number of processes on this machine.
        every: seconds between the frames of a video that are used.
        stream: which of the streams of a video, from 0; the first if omitted.
        detector: what finds people in videos: hog, or the file of a network, .pth or .onnx.
        crops: maximum number of images of each person followed through a video.
        boxes: file with boxes that another program made, for one folder of frames or one video.
        format: of the boxes; auto detects it from the content.
        label: classes of boxes that are people; person, pedestrian and the like if omitted.
        start: time of the first frame, as 2026-01-31T18:00; UTC without a zone.
        fps: frames in a second, of a folder of frames, to count their times from --start.
        device: where networks run: cpu, cuda, cuda:1; auto uses a GPU if there is one.

    Returns:
        Counts of what is in the output folder, and what was skipped.

    Raises:
        InputError: an input cannot be read, or `out` was begun with another model or inputs.
    """
    from visir.embedding.bulk import embed_run
    from visir.sources.crop import read_options

    how = (modality, camera, tag, every, detector, crops, boxes, format, label, start, fps, stream)
    return embed_run(run, inputs, out, read_options(*how, exclude_list), workers=workers,
        device=device, shard_size=shard_size, skip_broken=skip_broken, progress=True)  # fmt: skip
