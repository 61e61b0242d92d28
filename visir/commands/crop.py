"""`visir crop`: crops of people from frames or a video, with boxes that another program made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.commands.terminal import BoxFormat

if TYPE_CHECKING:
    from visir.sources.save import Saved


def crop(
    frames: Path,
    out: Path,
    /,
    *,
    boxes: Path | None = None,
    format: BoxFormat = "auto",
    label: tuple[str, ...] = (),
    crops: int | None = None,
    camera: str | None = None,
    modality: Literal["visible", "infrared"] | None = None,
    start: str | None = None,
    fps: float | None = None,
    tag: tuple[str, ...] = (),
    skip_broken: bool = False,
    every: float = 0.2,
    stream: int | None = None,
    detector: Path | None = None,
    device: str = "auto",
) -> Saved:
    """Cut people out of frames or a video, into a folder that every command reads.

    The boxes are those of another program. labels.csv in the folder says camera, time, tags and
    track of each crop. A track is one person in one camera, no identity across cameras.

    Args:
        frames: a folder of frame images, or a video.
        out: folder to write; crops of other frames in it stay.
        boxes: file with the boxes, or the folder of YOLO's text files.
        format: of the boxes; auto detects it from the content.
        label: classes that are people; person, pedestrian and the like if omitted.
        crops: maximum number of crops of each track, spread over its time; all if omitted.
        camera: name of the camera, if no folder below visible or infrared says it.
        modality: of the frames, if no folder says it; by their colours if omitted.
        start: time of the first frame, as 2026-01-31T18:00; UTC without a zone.
        fps: frames in a second, of a folder of frames, to count their times from --start.
        tag: words that every crop gets.
        skip_broken: skip and count boxes that cannot be cut out.
        every: seconds between the frames of a video that a detector looks at.
        stream: which of the streams of a video, from 0; the first if omitted.
        detector: what finds people in videos: hog, or the file of a network, .pth or .onnx.
        device: where a detector runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.

    Returns:
        How many crops and tracks were written, what was cut off, left out and skipped.

    Raises:
        InputError: frames or boxes cannot be used; the message names the file and the fix.
    """
    from visir.sources.crop import read_options
    from visir.sources.save import save_crops

    how = (modality, camera, tag, every, detector, crops, boxes, format, label, start, fps, stream)
    settings = read_options(*how)
    return save_crops(frames, out, settings, skip_broken=skip_broken, device=device, progress=True)
