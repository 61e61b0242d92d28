"""Crops in tar shards, as WebDataset arranges them; nothing is ever unpacked to disk.

Folders in a member's name mean what they mean on disk, and `key.json` beside `key.jpg` may hold
camera, modality, time and tags. The headers are read once, for the list of members; after that a
member is a place in the file, so that names and links in a shard lead nowhere.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from visir.core.types import InputError, Modality
from visir.data.images import IMAGE_SUFFIXES, decode
from visir.data.locate import placed
from visir.sources.crop import Broken, Crop, Settings, exif_time, timestamp

SUFFIXES = (".tar", ".tar.gz", ".tgz")
_MAX_BYTES = 2**28  # more than the largest picture that is read takes without compression
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, OSError)


class Member(NamedTuple):
    """An image in a shard: where its bytes stand, and those of the JSON beside it (0: none).

    fault: why it is not to be read, empty where it is.
    """

    name: str
    start: int
    size: int
    about_start: int = 0
    about_size: int = 0
    fault: str = ""


class _About(NamedTuple):
    """What a `key.json` says."""

    camera: str | None = None
    modality: Modality | None = None
    time: float | None = None
    tags: tuple[str, ...] = ()


def compressed(shard: Path) -> bool:
    """Whether the shard can only be read from its beginning."""
    return not shard.name.lower().endswith(".tar")


def listed(shard: Path, skip_broken: bool = False) -> list[Member]:
    """The images of a shard in their order, those that cannot be read with their faults.

    Raises:
        InputError: not a tar file, no image in it, or a fault that is not to be passed over.
    """
    images: list[Member] = []
    abouts: dict[str, tuple[int, int]] = {}
    seen: set[str] = set()
    last, cut = "", ""
    try:
        for header in _headers(shard):
            last = str(PurePosixPath(header.name))
            if header.isreg() and last.endswith(".json"):
                abouts[_key(last)] = (header.offset_data, header.size)
            elif _is_image(last) and not header.isdir():
                fault = "is there twice; rename one" if last in seen else _fault(header)
                images.append(Member(last, header.offset_data, header.size, fault=fault))
                seen.add(last)
    except _DAMAGED as error:
        if not last:
            raise InputError(
                f"{shard}: not a tar file that can be read ({error}); copy it again or leave it out"
            ) from None
        cut = f"the shard is cut short or damaged in or after this member ({error}); copy it again"
    members = [Member(*m[:3], *abouts.get(_key(m.name), (0, 0)), m.fault) for m in images]
    members = _without_tail(shard, members, last, cut) if cut else members
    if not members:
        raise InputError(f"{shard}: holds no image; give a shard with images in it")
    for member in members:
        if member.fault and not skip_broken:
            raise _refused(shard, member).error()
    return members


def crops(shard: Path, members: Iterable[Member], settings: Settings) -> Iterator[Crop | Broken]:
    """These members as crops, read.

    Raises:
        InputError: the shard cannot be opened, or nothing says the modality of a member.
    """
    with _opened(shard) as file:
        for member in members:
            if member.fault:
                yield _refused(shard, member)
            else:
                yield _crop(file, f"{shard}::{member.name}", member, settings)


def _refused(shard: Path, member: Member) -> Broken:
    source = f"{shard}::{member.name}"
    return Broken(source, f"{source}: {member.fault}")


def _crop(file: BinaryIO, source: str, member: Member, settings: Settings) -> Crop | Broken:
    places = [(member.start, member.size), (member.about_start, member.about_size)]
    try:
        # In the order of the shard: a compressed one starts anew to go back.
        data = {start: _bytes(file, source, start, size) for start, size in sorted(places) if size}
        picture = decode(io.BytesIO(data[member.start]), source)
        about = _about(data[member.about_start], source) if member.about_size else _About()
    except InputError as error:
        return Broken(source, str(error))
    name = PurePosixPath(member.name)
    said, folder = placed(name.parent.parts)
    modality = about.modality or said or settings.modality
    if modality is None:
        raise InputError(
            f"{source}: neither a folder in its name nor its JSON says its modality; give it with "
            "--modality"
        )
    camera = about.camera or folder or settings.camera or modality.value
    times = (about.time, timestamp(name.stem), exif_time(picture))
    time = next((time for time in times if time is not None), None)
    tags = tuple(dict.fromkeys((*settings.tags, *about.tags)))
    return Crop(source, np.asarray(picture), camera, modality, time, tags)


def _headers(shard: Path) -> Iterator[tarfile.TarInfo]:
    """All headers; an error where one is damaged or the mark at the end is missing."""
    with tarfile.open(shard, "r:gz" if compressed(shard) else "r:") as tar:
        before = -1
        while (header := tar.next()) is not None:
            if header.offset <= before:
                raise tarfile.ReadError("headers lead backwards")
            before = header.offset
            yield header
        end = cast(BinaryIO, tar.fileobj)
        end.seek(tar.offset)  # where a next header was looked for
        if end.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("the mark at its end is missing")


def _without_tail(shard: Path, members: list[Member], last: str, cut: str) -> list[Member]:
    """The whole members of a damaged shard, and one with its fault."""
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


def _key(name: str) -> str:
    """What a sample's files share: the name up to the first dot of its last part."""
    path = PurePosixPath(name)
    return str(path.parent / path.name.partition(".")[0])


def _fault(header: tarfile.TarInfo) -> str:
    """Why a member is no image to read, empty where it may be one."""
    path = PurePosixPath(header.name)
    if path.is_absolute() or ".." in path.parts:
        return "its name leads out of the shard; rename it"
    if not header.isreg() or header.issparse():
        return "a link, a device or a file with holes, not an image; store the image itself"
    if header.size == 0:
        return "the member is empty (0 bytes); replace or remove it"
    return ""


@contextmanager
def _opened(shard: Path) -> Iterator[BinaryIO]:
    """The shard's bytes as tar wrote them."""
    try:
        file = gzip.open(shard) if compressed(shard) else shard.open("rb")  # noqa: SIM115
    except OSError as error:
        raise InputError(f"{shard}: cannot be opened ({error.strerror}); check the path") from error
    with file:
        yield cast(BinaryIO, file)


def _bytes(file: BinaryIO, source: str, start: int, size: int) -> bytes:
    if not 0 <= size <= _MAX_BYTES:
        raise InputError(
            f"{source}: said to be of {size} bytes, which is none of one person's; remove it"
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
    """Read a member's JSON; what else stands in it is somebody else's."""
    try:
        said = json.loads(data)
        camera, modality, time, tags = (said.get(name) for name in _About._fields)
        if isinstance(time, str):
            moment = datetime.fromisoformat(time)
            time = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(tags, str) or not isfinite(time or 0):
            raise ValueError("tags is no list, or time no number")
        return _About(
            None if camera is None else str(camera),
            None if modality is None else Modality(modality),
            None if time is None else float(time),
            tuple(map(str, tags or ())),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(
            f"{source}: its JSON cannot be used ({error}); write camera as text, modality as "
            "visible or infrared, time as seconds since 1970 or ISO 8601, tags as a list of texts"
        ) from None
