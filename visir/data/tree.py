"""The files of a folder: each real folder and each real file once, whatever links lead to it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from visir.core.types import InputError
from visir.data.images import IMAGE_SUFFIXES
from visir.data.table import same_name

_MASKS = frozenset({"seg", "segmentation", "mask", "masks", "parsing", "depth"})


def image_files(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name, without hidden files and `masks`."""
    return _images(_once(folder, below=False))


def image_tree(folder: Path) -> list[Path]:
    """Image files anywhere below `folder`, sorted by path.

    Hidden files and folders are ignored, and masks of other images (see `masks`). Links to folders
    are followed. Of several names of one file or folder the one that is no link is taken, otherwise
    the first. A link to a folder it lies in is not followed.
    """
    return _images(_once(folder, below=True))


def file_tree(folder: Path) -> list[Path]:
    """All files anywhere below `folder`, masks too, as `image_tree` finds images."""
    return sorted(_once(folder, below=True))


def is_image(path: Path) -> bool:
    """Whether a name ends as an image's that visir reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def masks(names: Iterable[str]) -> frozenset[str]:
    """The names that mark parts of another image of these: `a.seg.png` beside `a.jpg`.

    Such a name has one of the words seg, segmentation, mask, masks, parsing and depth between two
    dots, and before it the name of another image up to a dot.
    """
    listed = list(names)
    marked = {name: key for name in listed if (key := _masked(name)) is not None}
    if not marked:
        return frozenset()
    others = {key for name in listed if name not in marked for key in keys(name)}
    return frozenset(name for name, key in marked.items() if key in others)


def _masked(name: str) -> str | None:
    """What stands before the word for a mask in a file name; None without such a word."""
    for key, longer in pairwise(keys(name)):
        if longer.rpartition(".")[2].lower() in _MASKS:
            return key
    return None


def keys(name: str) -> list[str]:
    """`f/a`, `f/a.b` of `f/a.b.png`: what stands before each dot of the file name."""
    folder, slash, file = name.rpartition("/")
    parts = file.split(".")[:-1]
    return [f"{folder}{slash}{'.'.join(parts[:end])}" for end in range(1, len(parts) + 1)]


def excluded(file: Path | None) -> frozenset[str]:
    """The names in a list of files, one a line, as `visir check --list` writes it.

    Raises:
        InputError: it cannot be read.
    """
    if file is None:
        return frozenset()
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"exclude list {file}: cannot be read ({error}); give a text file with the path of an "
            "image in each line"
        ) from error
    return frozenset(same_name(line) for line in lines if line.strip())


def is_excluded(path: Path, root: Path, names: Collection[str]) -> bool:
    """Whether a list that `excluded` read names a file, by its path or by that below `root`."""
    if not names:
        return False
    inside = same_name(path.relative_to(root)) if path.is_relative_to(root) else ""
    return inside in names or same_name(path) in names


def _images(paths: Iterable[Path]) -> list[Path]:
    images = {path.as_posix(): path for path in paths if is_image(path)}
    left_out = masks(images)
    return sorted(path for name, path in images.items() if name not in left_out)


def _once(folder: Path, below: bool) -> Iterator[Path]:
    """Files of a folder, and of those below it if asked, in no order; links come last."""
    seen = {_key(folder)}
    waiting, folders, files = [folder], list[Path](), list[Path]()
    while waiting:
        inner, linked = list[Path](), list[Path]()
        yield from _entries(waiting.pop(), seen, inner, linked)
        folders += [link for link in linked if link.is_dir()]
        files += [link for link in linked if link.is_file()]
        waiting += inner if below else []
        while below and folders and not waiting:
            folders.sort(reverse=True)
            link = folders.pop()
            if _key(link) not in seen and not _leads_up(link):
                seen.add(_key(link))
                waiting.append(link)
    for link in sorted(files):
        if _key(link) not in seen:
            seen.add(_key(link))
            yield link


def _entries(
    folder: Path, seen: set[tuple[int, int]], inner: list[Path], linked: list[Path]
) -> Iterator[Path]:
    """Files directly in a folder that are no links; its folders and links go into the lists."""
    device = folder.stat().st_dev
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                linked.append(Path(entry.path))
                continue
            if not entry.is_dir():
                yield Path(entry.path)
            elif (device, entry.inode()) not in seen:
                inner.append(Path(entry.path))
            seen.add((device, entry.inode()))


def _key(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _leads_up(link: Path) -> bool:
    """Whether a link leads to a folder it lies in."""
    return link.parent.resolve().is_relative_to(link.resolve())
