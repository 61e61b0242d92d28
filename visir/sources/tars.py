"""Read crops from tar shards in WebDataset's form, without unpacking them to disk.

Folders in a member's name have the same meaning as on disk, and `key.json` beside `key.jpg` or
`key.front.jpg` may hold camera, modality, time and tags. The headers are read once, for the list
of members; then a member is read by its position in the file, so names and links in a shard cannot
lead outside it.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from visir.core.times import parse_time
from visir.core.types import InputError, Modality
from visir.core.untrusted import parse_json
from visir.data.images import DEEP_SUFFIXES, IMAGE_SUFFIXES, decode, decode_values
from visir.data.locate import MODALITY_OF_FOLDER, placed
from visir.data.ranges import NONE, RangeBook, Ranges, name_of, sampled
from visir.data.tree import keys, masks
from visir.sources.crop import Broken, Crop, ReadOptions, exif_time, timestamp

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NAMED = 3  # masks that a warning names
_MAX_BYTES = 2**28  # larger than any accepted image without compression
_UNUSABLE = (InputError, ValueError, TypeError, AttributeError, OverflowError)
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError)


class ShardWarning(UserWarning):
    """Some images of a shard were passed over."""


class Member(NamedTuple):
    """An image in a shard: the position of its bytes and of its JSON file (size 0: none).

    fault: why it cannot be used; empty if it can.
    """

    name: str
    start: int
    size: int
    about_start: int = 0
    about_size: int = 0
    fault: str = ""


class _ModalityError(InputError):
    """Not a fault of one member, so it is never skipped."""


class _About(NamedTuple):
    """The content of a `key.json`."""

    camera: str | None = None
    modality: Modality | None = None
    time: float | None = None
    tags: tuple[str, ...] = ()


def compressed(shard: Path) -> bool:
    """Whether the shard is compressed, so that it can only be read from its beginning."""
    return not shard.name.lower().endswith(".tar")


def listed(shard: Path, skip_broken: bool = False) -> list[Member]:
    """List the images of a shard in their order, unreadable ones with their faults.

    Masks of other images (`visir.data.tree.masks`) are passed over, with a `ShardWarning`.

    Raises:
        InputError: not a tar file, no image in it, or a faulty member and not `skip_broken`.
    """
    images: list[Member] = []
    abouts: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    last, cut = "", ""
    try:
        for header in _headers(shard):
            last = str(PurePosixPath(header.name))
            if header.isreg() and last.lower().endswith(".json"):
                abouts[keys(last)[-1]] = (header.offset_data, header.size)
            elif _is_image(last) and not header.isdir():
                fault = "two members have this name; rename one" if last in seen else _fault(header)
                images.append(Member(last, header.offset_data, header.size, fault=fault))
                seen.add(last)
    except _DAMAGED as error:
        if not last:
            raise InputError(
                f"{shard}: not a tar file, or damaged ({error}); copy it again or omit it"
            ) from None
        cut = f"the shard is cut short or damaged at or after this member ({error}); copy it again"
    images = _without_masks(shard, images)
    members = [Member(*m[:3], *_about_of(m.name, abouts), m.fault) for m in images]
    members = _without_tail(shard, members, last, cut) if cut else members
    if not members:
        raise InputError(f"{shard}: holds no image; give a shard with images in it")
    for member in members:
        if member.fault and not skip_broken:
            raise _refused(shard, member).error()
    return members


def settle(shard: Path, members: Sequence[Member], settings: ReadOptions, book: RangeBook) -> None:
    """Fix the ranges of cameras with more than 8 bits a pixel, by a sample of every folder."""
    folders: dict[PurePosixPath, list[Member]] = {}
    for member in members:
        name = PurePosixPath(member.name)
        if name.suffix.lower() in DEEP_SUFFIXES and not member.fault:
            folders.setdefault(name.parent, []).append(member)
    values: dict[str, list[npt.NDArray[Any]]] = {}
    with _opened(shard) as file:
        for group in folders.values():
            for member in sampled(group):
                try:
                    found = _read(file, f"{shard}::{member.name}", member, settings)
                    deep = decode_values(io.BytesIO(found.data), member.name, found.modality)
                except InputError:  # whoever needs the image is told what is wrong with it
                    continue
                if deep is not None:
                    values.setdefault(name_of(found.modality, found.camera), []).append(deep)
    for camera, pooled in sorted(values.items()):
        book.settle(camera, pooled)


def crops(
    shard: Path, members: Iterable[Member], settings: ReadOptions, ranges: Ranges = NONE
) -> Iterator[Crop | Broken]:
    """Read these members as crops; `ranges` are of their cameras.

    Raises:
        InputError: the shard cannot be opened, or the modality of a member is unknown.
    """
    with _opened(shard) as file:
        for member in members:
            if member.fault:
                yield _refused(shard, member)
            else:
                yield _crop(file, f"{shard}::{member.name}", member, settings, ranges)


def _refused(shard: Path, member: Member) -> Broken:
    source = f"{shard}::{member.name}"
    return Broken(source, f"{source}: {member.fault}")


class _Found(NamedTuple):
    """The bytes of a member, and what is known of it."""

    data: bytes
    about: _About
    modality: Modality
    camera: str


def _read(file: BinaryIO, source: str, member: Member, settings: ReadOptions) -> _Found:
    places = [(member.start, member.size), (member.about_start, member.about_size)]
    # In the order of the shard: a compressed one starts anew to go back.
    data = {start: _bytes(file, source, start, size) for start, size in sorted(places) if size}
    about = _about(data[member.about_start], source) if member.about_size else _About()
    said, folder = placed(PurePosixPath(member.name).parent.parts)
    modality = _in_name(member.name) or about.modality or said or settings.modality
    if modality is None:
        raise _ModalityError(
            f"{source}: neither its name nor its JSON says its modality; give it with --modality"
        )
    camera = about.camera or folder or settings.camera or modality.value
    return _Found(data[member.start], about, modality, camera)


def _crop(
    file: BinaryIO, source: str, member: Member, settings: ReadOptions, ranges: Ranges
) -> Crop | Broken:
    try:
        data, about, modality, camera = _read(file, source, member, settings)
        span = ranges.get(name_of(modality, camera))
        picture = decode(io.BytesIO(data), source, modality, span)
    except _ModalityError:
        raise
    except InputError as error:
        return Broken(source, str(error))
    times = (about.time, timestamp(PurePosixPath(member.name).stem), exif_time(picture))
    time = next((time for time in times if time is not None), None)
    tags = tuple(dict.fromkeys((*settings.tags, *about.tags)))
    return Crop(source, np.asarray(picture), camera=camera, modality=modality, time=time, tags=tags)


def _headers(shard: Path) -> Iterator[tarfile.TarInfo]:
    """Read all headers; an error if one is damaged or the end-of-archive block is missing."""
    try:
        with tarfile.open(shard, "r:gz" if compressed(shard) else "r:") as tar:
            before = -1
            while (header := tar.next()) is not None:
                if header.offset <= before:
                    raise tarfile.ReadError("a header points backwards")
                before = header.offset
                yield header
            end = cast(BinaryIO, tar.fileobj)
            end.seek(tar.offset)  # where the next header would begin
            if end.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the end-of-archive block is missing")
    except (ValueError, IndexError, OverflowError) as error:  # of the header of a sparse member
        raise tarfile.ReadError(f"a header cannot be read: {error}") from error


def _without_tail(shard: Path, members: list[Member], last: str, cut: str) -> list[Member]:
    """The complete members of a damaged shard, then one faulty member for its lost end."""
    if members and members[-1].name == last and not _is_whole(shard, members[-1]):
        return [*members[:-1], Member(last, 0, 0, fault=cut)]
    return [*members, Member(f"(after {last})", 0, 0, fault=cut)]


def _is_whole(shard: Path, member: Member) -> bool:
    try:
        with _opened(shard) as file:
            _bytes(file, member.name, member.start, member.size)
    except InputError:
        return False
    return True


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _about_of(name: str, abouts: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
    """The JSON whose name is the longest part of an image's up to a dot; (0, 0) if none."""
    found = [abouts[key] for key in keys(name) if key in abouts]
    return found[-1] if found else (0, 0)


def _in_name(name: str) -> Modality | None:
    """The modality that a part of the file name says, as in `0001.infrared.png`."""
    _, *parts = PurePosixPath(name).stem.lower().split(".")
    return next((MODALITY_OF_FOLDER[part] for part in parts if part in MODALITY_OF_FOLDER), None)


def _without_masks(shard: Path, images: Sequence[Member]) -> list[Member]:
    found = masks(member.name for member in images)
    if found:
        named = ", ".join(sorted(found)[:_NAMED]) + (", ..." if len(found) > _NAMED else "")
        warnings.warn(
            f"{shard}: {len(found):,} masks of other images passed over ({named})",
            ShardWarning,
            stacklevel=3,
        )
    return [member for member in images if member.name not in found]


def _fault(header: tarfile.TarInfo) -> str:
    """Why a member cannot be read as an image; empty if it can."""
    path = PurePosixPath(header.name)
    if path.is_absolute() or ".." in path.parts:
        return "its name points outside the shard; rename it"
    if not header.isreg() or header.issparse():
        return "a link, a device or a sparse file, not an image; store the image itself"
    if header.size == 0:
        return "the member is empty (0 bytes); replace or remove it"
    return ""


@contextmanager
def _opened(shard: Path) -> Iterator[BinaryIO]:
    """Open the shard's uncompressed bytes."""
    try:
        file = gzip.open(shard) if compressed(shard) else shard.open("rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{shard}: cannot be opened ({error.strerror}); check the path") from error
    with file:
        yield cast(BinaryIO, file)


def _bytes(file: BinaryIO, source: str, start: int, size: int) -> bytes:
    if not 0 <= size <= _MAX_BYTES:
        raise InputError(
            f"{source}: the tar header says {size} bytes; images are limited to "
            f"{_MAX_BYTES // 2**20} MiB. Remove it"
        )
    try:
        file.seek(start)
        data = file.read(size)
    except _DAMAGED as error:
        raise InputError(f"{source}: the shard is damaged here ({error}); copy it again") from None
    if len(data) < size:
        raise InputError(f"{source}: the shard is cut short inside this member; copy it again")
    return data


def _about(data: bytes, source: str) -> _About:
    """Read a member's JSON; other keys are ignored."""
    try:
        content = parse_json(data)
        camera, modality, time, tags = (content.get(name) for name in _About._fields)
        if type(camera) not in (str, int, type(None)) or isinstance(time, bool):
            raise ValueError("camera is not text, or time is not a number")
        if isinstance(time, str):
            time = parse_time(time, "time")
        if not isinstance(tags, list | None) or not isfinite(time or 0):
            raise ValueError("tags is not a list, or time is not a number")
        return _About(
            None if camera is None else str(camera),
            None if modality is None else Modality(modality),
            None if time is None else float(time),
            tuple(map(str, tags or ())),
        )
    except _UNUSABLE as error:
        raise InputError(
            f"{source}: its JSON cannot be used ({error}); write camera as text, modality as "
            "visible or infrared, time as seconds since 1970 or ISO 8601, tags as a list of texts"
        ) from None
