"""Inputs of any kind, divided into parts that are each read by themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from visir.core.types import InputError
from visir.sources import folders, tars, video
from visir.sources.crop import Broken, Crop, Settings

if TYPE_CHECKING:
    from visir.sources.detector import Detector


class Part(NamedTuple):
    """A share of the work, in values JSON has: some images of a folder or a shard, or a video.

    kind: "folder", "tar" or "video"; items: `folders.Listed` or `tars.Member`, none for a video.
    """

    kind: str
    path: str
    items: Sequence[Sequence[Any]] = ()


def parts(
    inputs: Sequence[Path], settings: Settings, size: int, skip_broken: bool = False
) -> Iterator[Part]:
    """Look through all inputs and divide them.

    Args:
        inputs: folders, tar shards and videos.
        settings: how they are read.
        size: images in a part at most; a compressed shard or a video is one part whatever it holds.
        skip_broken: list members of shards that cannot be read, for the reader to tell of.

    Raises:
        InputError: an input is none of these, is in another one, or cannot be used as it is.
    """
    _require_apart(inputs)
    for path in inputs:
        kind = _kind(path)
        if kind == "video":
            video.require(path, settings)
            yield Part(kind, str(path))
        else:
            listed: Sequence[Sequence[Any]] = (
                folders.listed(path, settings)
                if kind == "folder"
                else tars.listed(path, skip_broken)
            )
            step = len(listed) if kind == "tar" and tars.compressed(path) else size
            for start in range(0, len(listed), step):
                yield Part(kind, str(path), listed[start : start + step])


def crops(
    part: Part, settings: Settings, detector: Callable[[], Detector]
) -> Iterator[Crop | Broken]:
    """The crops of a part in their order; files of a folder are not read yet.

    Args:
        part: what to read.
        settings: how.
        detector: gives what finds people, where it is needed.
    """
    path = Path(part.path)
    if part.kind == "folder":
        return folders.crops((folders.Listed(*item) for item in part.items), settings)
    if part.kind == "tar":
        return tars.crops(path, (tars.Member(*item) for item in part.items), settings)
    return video.crops(path, settings, detector())


def _kind(path: Path) -> str:
    name = path.name.lower()
    if path.is_dir():
        return "folder"
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder; check the path")
    if name.endswith(tars.SUFFIXES):
        return "tar"
    if name.endswith(video.SUFFIXES):
        return "video"
    raise InputError(
        f"{path}: neither a folder nor a file ending in {', '.join(tars.SUFFIXES)} or "
        f"{', '.join(video.SUFFIXES)}; give one of these"
    )


def _require_apart(inputs: Sequence[Path]) -> None:
    """Refuse inputs of which one holds another, whose images would be there twice."""
    if not inputs:
        raise InputError("inputs: nothing was given; name a folder, tar shard or video")
    places = {path.resolve(): path for path in inputs}
    if len(places) < len(inputs):
        raise InputError("inputs: something was given twice; name each input once")
    for place, path in places.items():
        outer = next((places[above] for above in place.parents if above in places), None)
        if outer is not None and path.is_dir():
            raise InputError(f"{path}: is in {outer}, which is given too; name only one of them")
