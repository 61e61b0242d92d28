"""The files of a folder: each real folder and each real file once, whatever links lead to it."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from visir.core.types import InputError
from visir.data.images import IMAGE_SUFFIXES


def image_files(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted by name; hidden files are ignored."""
    return sorted(path for path in _once(folder, below=False) if is_image(path))


def image_tree(folder: Path) -> list[Path]:
    """Image files anywhere below `folder`, sorted by path; hidden files and folders are ignored.

    Links to folders are followed. Of several names of one file or folder the one that is no link
    is taken, otherwise the first. A link to a folder it lies in is not followed.
    """
    return [path for path in file_tree(folder) if is_image(path)]


def file_tree(folder: Path) -> list[Path]:
    """All files anywhere below `folder`, as `image_tree` finds images."""
    return sorted(_once(folder, below=True))


def is_image(path: Path) -> bool:
    """Whether a name ends as an image's that visir reads."""
    return path.suffix.lower() in IMAGE_SUFFIXES


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
    return frozenset(line.strip() for line in lines if line.strip())


def is_excluded(path: Path, root: Path, names: Collection[str]) -> bool:
    """Whether a list names a file, by its path or by its path below `root`."""
    if not names:
        return False
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    return inside in names or str(path) in names


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
