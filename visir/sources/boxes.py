"""Crops of the boxes that another program found, in a folder of frames or in a video."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visir.core.types import InputError, Modality
from visir.data.boxes import Annotation, Mark, described, read_boxes
from visir.data.ranges import NONE, RangeBook, Ranges, settle_files
from visir.sources import video
from visir.sources.crop import Broken, Crop, ReadOptions, require_count
from visir.sources.cuts import (
    ROUNDING,
    Cut,
    from_images,
    modality_of,
    pixels_of,
    range_name,
)
from visir.sources.decode import Film
from visir.sources.frames import Still, Stills
from visir.sources.tracks import PATIENCE, Box, Sight, picks, tracks

_GAP = 5  # frames without a box inside one track, where tracks are made and no times are known


class BoxesWarning(UserWarning):
    """Some boxes were cut off at the frame's edge or left out."""


class Listed(NamedTuple):
    """What is to be cut out, and what happened to the other boxes.

    clipped: boxes that reached beyond the frame and were cut off at its edge; left_out: reason ->
    boxes of other classes, groups and the like; tracks: number of tracks.
    """

    cuts: list[Cut]
    clipped: int
    left_out: Counter[str]
    tracks: int

    def notes(self) -> list[str]:
        """What was not taken as it is, a line each."""
        lines = [f"{self.clipped:,} boxes cut off at the frame's edge"] if self.clipped else []
        return [*lines, f"left out: {described(self.left_out)}"] if self.left_out else lines


class _Seen(NamedTuple):
    """A box in its frame: where it is cut out, and what its crop is called."""

    mark: Mark
    still: Still
    size: tuple[int, int] | None
    box: Box


def listed(path: Path, settings: ReadOptions, skip_broken: bool = False) -> Listed:
    """What to cut out of a folder of frames or a video, sorted by frame.

    Args:
        path: the folder or video.
        settings: `boxes` names the file with the boxes; `crops` limits the crops of a track.
        skip_broken: list boxes that cannot be cut out too, so that they can be counted as skipped.

    Raises:
        InputError: the boxes cannot be read or are of other frames; or a box has no size, lies
            outside its frame, is the second of its track in a frame, or its frame is missing, and
            not `skip_broken`.
    """
    assert settings.boxes is not None
    require_count(settings)
    annotation = read_boxes(settings.boxes, settings.format, settings.label)
    is_video = path.is_file()
    if not is_video:
        settings = replace(
            settings,
            camera=settings.camera or annotation.camera,
            fps=annotation.fps if settings.fps is None else settings.fps,
        )
    seen, faults = (
        _in_video(path, annotation, settings)
        if is_video
        else _in_folder(path, annotation, settings)
    )
    clipped = 0
    kept: list[_Seen] = []
    taken: dict[tuple[Path, int, str], Mark] = {}
    for each in seen:
        fault = _fault(each) or _repeated(each, taken)
        if fault:
            faults.append(_faulty(each.mark, each.still, fault))
        else:
            kept.append(each)
            clipped += _reaches_out(each)
    if faults and not skip_broken:
        raise Broken(faults[0].source, faults[0].fault).error()
    sequence = is_video or annotation.sequence
    film = Film(path, settings.stream) if is_video else None
    chosen, count = _chosen(kept, settings, sequence, film)
    named = (video.video_name(path, settings), video.stream_name(settings)) if is_video else None
    cuts = [_cut(each, track, number, named, annotation.camera) for each, track, number in chosen]
    cuts.sort(key=lambda cut: (cut.file, cut.frame))
    return Listed([*cuts, *faults], clipped, annotation.left_out, count)


def warn_of(found: Listed) -> None:
    """Say what was not taken as it is."""
    if found.notes():
        warnings.warn("boxes: " + "; ".join(found.notes()), BoxesWarning, stacklevel=2)


def settle(path: Path, cuts: Sequence[Cut], settings: ReadOptions, book: RangeBook) -> None:
    """Fix the ranges of cameras whose frames have more than 8 bits a pixel."""
    if path.is_file():
        book.says(path.parent)
        video.settle(path, settings, book)
        return
    book.says(path)
    cameras: dict[str, tuple[Modality, list[Path]]] = {}
    for cut in cuts:
        if not cut.fault:
            frames = cameras.setdefault(range_name(cut), (modality_of(cut), []))[1]
            if not frames or frames[-1] != Path(cut.file):
                frames.append(Path(cut.file))
    settle_files(book, cameras)


def crops(
    path: Path, cuts: Sequence[Cut], settings: ReadOptions, ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Cut out what `listed` has found; `ranges` are of the cameras."""
    if path.is_dir():
        return from_images(cuts, settings.tags, ranges)
    return video.cut(path, cuts, settings, ranges)


def _in_folder(
    root: Path, annotation: Annotation, settings: ReadOptions
) -> tuple[list[_Seen], list[Cut]]:
    if settings.stream is not None:
        raise InputError(f"stream: {root} is no video, which alone has streams; leave --stream out")
    if annotation.folder and (root / annotation.folder).is_dir():
        root = root / annotation.folder
    stills = Stills(root, settings, annotation.first)
    sizes: dict[Path, tuple[int, int] | None] = {}
    seen, faults = [], []
    for mark in annotation.marks:
        still = stills.find(mark.frame)
        if still is None:
            if not mark.assumed:
                faults.append(_missing(mark, root, annotation))
            continue
        if still.path not in sizes:
            sizes[still.path] = still.size()
            _require_size(annotation, mark.frame, still.path, sizes[still.path])
        size = sizes[still.path]
        seen.append(_Seen(mark, still, size, _box(mark, size if annotation.shares else None)))
    if not seen:
        raise InputError(
            f"{annotation.path}: none of the frames of its boxes is in {root}, which holds "
            f"{len(stills):,} images; give the frames that the boxes were made of"
        )
    return seen, faults


def _in_video(
    path: Path, annotation: Annotation, settings: ReadOptions
) -> tuple[list[_Seen], list[Cut]]:
    if settings.fps is not None:
        raise InputError(f"fps: {path} is a video, which has its own times; leave --fps out")
    named = next((mark for mark in annotation.marks if isinstance(mark.frame, str)), None)
    if named is not None:
        raise InputError(
            f"{named.where}: names the image {named.frame}, but {path} is a video; give the folder "
            "of the images"
        )
    size, stored = video.frame_sizes(path, settings)
    if annotation.sizes.get(None) == (size[1], size[0]):
        stored = size
    _require_size(annotation, None, path, stored)
    # Other programs count the pixels that are stored, whatever their shape.
    scale = size if annotation.shares else (size[0] / stored[0], size[1] / stored[1])
    camera, modality, time = video.origin(path, settings)
    marks = annotation.marks
    if any(mark.assumed for mark in marks):
        count = sum(1 for _ in Film(path, settings.stream))
        marks = [mark for mark in marks if not mark.assumed or int(mark.frame) < count]
    seen = [
        _Seen(
            mark,
            Still(path, int(mark.frame), camera, modality, time),
            size,
            _box(mark, scale),
        )
        for mark in marks
    ]
    return seen, []


def _box(mark: Mark, scale: tuple[float, float] | None) -> Box:
    """Edges in pixels; scale: pixels in each unit of the mark, downwards and across."""
    height, width = scale or (1, 1)
    left, right = mark.left * width, mark.right * width
    return Box(left, mark.top * height, right, mark.bottom * height, mark.score)


def _require_size(
    annotation: Annotation, frame: int | str | None, path: Path, size: tuple[int, int] | None
) -> None:
    """Refuse frames of another size than the file of boxes says."""
    said = annotation.sizes.get(frame if isinstance(frame, str) else None)
    if size is not None and said is not None and said != (size[1], size[0]):
        raise InputError(
            f"{annotation.path}: was made on frames of {said[0]} x {said[1]} pixels, but {path} "
            f"has {size[1]} x {size[0]}; give the frames that the boxes were made of"
        )


def _fault(seen: _Seen) -> str:
    """Why a box cannot be cut out, empty if it can."""
    box, where = seen.box, seen.mark.where
    if not (box.right > box.left and box.bottom > box.top):
        return (
            f"{where}: the box is {box.right - box.left:g} x {box.bottom - box.top:g} pixels; "
            "correct its width and height or remove it"
        )
    if seen.size is None:
        return ""  # reading the frame says what is wrong with it
    left, top, right, bottom = pixels_of(box, seen.size)
    if right > left and bottom > top:
        return ""
    height, width = seen.size
    return (
        f"{where}: the box from {box.left:g}, {box.top:g} to {box.right:g}, {box.bottom:g} lies "
        f"outside the frame of {width} x {height} pixels; correct or remove it"
    )


def _repeated(seen: _Seen, taken: dict[tuple[Path, int, str], Mark]) -> str:
    """Why a box is not the only one of its track in a frame, empty if it is; `taken` gets it."""
    mark, still = seen.mark, seen.still
    if mark.track is None:
        return ""
    first = taken.setdefault((still.path, still.number, mark.track), mark)
    if first is mark:
        return ""
    return (
        f"{mark.where}: track {mark.track} has another box in this frame, {first.where}; a track "
        "is one person, so give this box a track of its own or remove it"
    )


def _reaches_out(seen: _Seen) -> bool:
    if seen.size is None:
        return False
    (height, width), box = seen.size, seen.box
    return max(-box.left, -box.top, box.right - width, box.bottom - height) > ROUNDING


def _missing(mark: Mark, root: Path, annotation: Annotation) -> Cut:
    frame = mark.frame if isinstance(mark.frame, str) else mark.frame + annotation.first
    still = Still(root / str(frame), 0, root.name, None, None)
    return _faulty(
        mark, still, f"{mark.where}: frame {frame} is not in {root}; add it or remove the box"
    )


def _faulty(mark: Mark, still: Still, fault: str) -> Cut:
    return Cut(f"{still.path}::{mark.where}", str(still.path), 0, 0, 0, 0, 0, "", fault=fault)


def _chosen(
    seen: Sequence[_Seen], settings: ReadOptions, sequence: bool, film: Film | None
) -> tuple[list[tuple[_Seen, str | None, int]], int]:
    """The boxes to cut out, each with its track and a number in its frame; number of tracks."""
    groups: dict[tuple[str, str], list[_Seen]] = {}
    loose: dict[str, list[_Seen]] = {}
    for each in seen:
        camera, track = each.still.camera, each.mark.track
        if track is None:
            loose.setdefault(camera, []).append(each)
        else:
            groups.setdefault((camera, track), []).append(each)
    chosen: list[tuple[_Seen, str | None]] = []
    for camera, boxes in loose.items():
        if sequence:
            followed = enumerate(_followed(boxes, settings.fps, film), start=1)
            groups |= {(camera, f"found {number}"): sights for number, sights in followed}
        else:
            chosen += [(each, None) for each in boxes]
    for (_, track), boxes in groups.items():
        boxes.sort(key=lambda each: (each.still.number, str(each.still.path)))
        sights = tuple(Sight(row, each.box) for row, each in enumerate(boxes))
        size = boxes[0].size or (0, 0)
        chosen += [(boxes[sight.frame], track) for sight in picks(sights, size, settings.crops)]
    numbers: Counter[Path] = Counter()
    numbered = []
    for each, name in chosen:
        numbers[each.still.path] += 1
        numbered.append((each, name, numbers[each.still.path]))
    return numbered, len(groups)


def _followed(seen: Sequence[_Seen], fps: float | None, film: Film | None) -> list[list[_Seen]]:
    """Boxes without tracks of one camera, joined into tracks as a detector's are."""
    frames: dict[int, list[_Seen]] = {}
    for each in seen:
        frames.setdefault(each.still.number, []).append(each)
    moments, hidden = _moments(frames, fps, film)
    followed = []
    for clip in sorted({clip for clip, _ in moments.values()}):
        numbers = sorted((n for n in frames if moments[n][0] == clip), key=lambda n: moments[n][1])
        times = [moments[number][1] for number in numbers]
        step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
        boxes = [[each.box for each in frames[number]] for number in numbers]
        by_box = {(row, each.box): each for row, n in enumerate(numbers) for each in frames[n]}
        found = tracks(boxes, times, hidden + step)
        followed += [[by_box[sight] for sight in track] for track in found]
    return followed


def _moments(
    frames: Mapping[int, Sequence[_Seen]], fps: float | None, film: Film | None
) -> tuple[dict[int, tuple[int, float]], float]:
    """Clip and time of each frame by its number, and how long a person may be hidden."""
    if fps is not None:
        return {number: (0, number / fps) for number in frames}, PATIENCE
    if film is None:
        times = {number: group[0].still.time for number, group in frames.items()}
        known = {number: (0, time) for number, time in times.items() if time is not None}
        if len(known) == len(frames):
            return known, PATIENCE
        return {number: (0, float(number)) for number in frames}, float(_GAP)
    last = max(frames)
    moments = {number: (-1, float(number)) for number in frames}  # if the video has no such frame
    for raw in film:
        if raw.number in frames:
            moments[raw.number] = (raw.clip, raw.seconds)
        if raw.number >= last:
            break
    return moments, PATIENCE


def _cut(
    seen: _Seen,
    track: str | None,
    number: int,
    video_names: tuple[str, str] | None,
    sequence: str | None,
) -> Cut:
    """video_names: of the video and of its stream, as sources have them; None for an image.

    sequence: its name, which the tracks' names begin with; None for the name of the images' folder.
    """
    _, still, size, box = seen
    end = f"box {number}" if track is None else f"track {track}"
    name = sequence or still.path.parent.name
    if video_names is not None:
        name = video_names[0]
        end = f"{video_names[1]}{end} @ frame {still.number}"
    place = pixels_of(box, size) if size else (0, 0, 1, 1)
    return Cut(
        f"{still.path}::{end}",
        str(still.path),
        0 if video_names is None else still.number,
        *place,
        still.camera,
        None if still.modality is None else still.modality.value,
        still.time,
        None if track is None else f"{name}:{track}",
    )
