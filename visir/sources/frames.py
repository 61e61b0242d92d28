"""Folders of frames: which image a box's frame is, by its number or by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from visir.core.types import InputError, Modality
from visir.data.images import read_size
from visir.data.locate import placed
from visir.data.table import same_name
from visir.data.tree import image_tree
from visir.sources.crop import ReadOptions, timestamp

_NUMBER = re.compile(r"\d+")
_MAX_NUMBER = 10**8  # a larger one in a file name is a time, not a frame's number
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # Label Studio puts it before the name of an uploaded file


class Still(NamedTuple):
    """An image file that is a frame.

    number: of the frame among the images of its folder, from 0; modality: None if its colours say
    it; time: seconds since 1970, None if unknown.
    """

    path: Path
    number: int
    camera: str
    modality: Modality | None
    time: float | None

    def size(self) -> tuple[int, int] | None:
        """(height, width) as it is read, upright; None if it is no image."""
        try:
            return read_size(self.path, self.modality)
        except InputError:  # whoever reads the pixels is told what is wrong with the file
            return None


class Stills:
    """The frames of a folder, found by number or by name.

    Args:
        root: the folder.
        settings: camera and modality where folder names do not say them, start and fps.
        first: the number that the boxes' format gives to the first frame.

    Raises:
        InputError: there is no image, or a start without a frame rate.
    """

    def __init__(self, root: Path, settings: ReadOptions, first: int) -> None:
        self.root = root
        if settings.start is not None and settings.fps is None:
            raise InputError(f"start: {root} has no frame rate; give it with --fps")
        if settings.fps is not None and not settings.fps > 0:
            raise InputError(f"fps: must be more than 0 frames in a second, got {settings.fps}")
        self._all = list(_stills(root, settings, first))
        if not self._all:
            raise InputError(f"{root}: holds no image; give the folder that holds the frames")
        self._by_number = {still.number: still for still in self._all}
        self._by_name: dict[str, list[Still]] = {}
        for still in self._all:
            for name in _names(same_name(still.path.relative_to(root))):
                self._by_name.setdefault(name, []).append(still)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, frame: int | str) -> Still | None:
        """The frame of that number or name; None if there is none.

        A name may be a path from another folder: the longest end of it that fits is taken.

        Raises:
            InputError: numbers, and images in several folders; or a name that fits several images.
        """
        if isinstance(frame, int):
            if len({still.path.parent for still in self._all}) > 1:
                raise InputError(
                    f"{self.root}: the boxes number their frames, but the images are in several "
                    "folders; give the folder of one sequence"
                )
            return self._by_number.get(frame)
        parts = same_name(frame).lstrip("/").split("/")
        bare = [*parts[:-1], _UPLOAD.sub("", parts[-1])]
        for words in (parts, bare) if bare != parts else (parts,):
            for start in range(len(words)):
                found = self._by_name.get("/".join(words[start:]), [])
                if len(found) > 1:
                    raise InputError(
                        f"{self.root}: {len(found)} images are named {'/'.join(words[start:])}; "
                        "write their folders in the file of boxes, or give the folder of one"
                    )
                if found:
                    return found[0]
        return None


def _stills(root: Path, settings: ReadOptions, first: int) -> Iterator[Still]:
    above = root.absolute().parts[-2:]
    folders: dict[Path, list[Path]] = {}
    for path in image_tree(root):
        folders.setdefault(path.parent, []).append(path)
    for folder, paths in folders.items():
        by_folder, camera = placed((*above, *folder.relative_to(root).parts))
        modality = by_folder or settings.modality
        camera = (camera if by_folder else None) or settings.camera or root.absolute().name
        for path, number in zip(paths, _numbers(paths, first), strict=True):
            stamp = timestamp(path.stem)
            if settings.start is not None and settings.fps is not None:
                stamp = settings.start + number / settings.fps
            yield Still(path, number, camera, modality, stamp)


def _numbers(paths: Sequence[Path], first: int) -> list[int]:
    """The frames' numbers from 0: those in the file names, or their places if there are none.

    Names may count from 0 or 1, whatever the boxes do. If the names begin later, some frames are
    missing, and their numbers are those of the boxes, which count from `first`.
    """
    written = [_NUMBER.findall(path.stem) for path in paths]
    if all(written) and not any(timestamp(path.stem) for path in paths):
        found = [int(numbers[-1]) for numbers in written]
        if len({*found}) == len(found) and max(found) < _MAX_NUMBER:
            start = min(found) if min(found) <= 1 else first
            return [number - start for number in found]
    return list(range(len(paths)))


def _names(relative: str) -> Iterator[str]:
    """Every end of a path, with and without the file's ending (YOLO names frames so)."""
    parts = relative.split("/")
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        yield name
        yield str(PurePosixPath(name).with_suffix(""))
