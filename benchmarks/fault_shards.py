"""Bad tar shards of images."""

from __future__ import annotations

import gzip
import json
import random
import tarfile
from pathlib import Path
from typing import Any

from fault_files import Given, put
from fault_mutations import NOTHING, Changed, another_format, cut, places, replaced, spoilt
from fault_world import drawn, encoded

from visir.core.types import InputError
from visir.sources import tars
from visir.sources.crop import Broken, ReadOptions


def make_shard(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad tar file of images."""
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    for number in range(6):
        name, suffix = f"visible/gate/{number}", rng.choice((".png", ".jpg"))
        about = {"camera": "gate", "modality": "visible", "time": 1e9, "tags": ["a"]}
        members.append(_member(name + suffix, encoded(drawn(number), suffix)))
        members.append(_member(name + ".json", json.dumps(about).encode()))
    chance, suffix = rng.random(), rng.choice((".tar", ".tar", ".tar.gz"))
    path = here / f"a{suffix}"
    if chance < 0.1:
        return put(path, another_format(rng, marker))
    bad, how = 0.35 <= chance < 0.97, NOTHING
    if bad:
        how = _bad_member(rng, members)
    data = _packed(members)
    if 0.1 <= chance < 0.2:
        data, bad, how = cut(rng, data, 0.4)
    elif 0.2 <= chance < 0.35:
        data, bad, how = spoilt(rng, data)
    if suffix == ".tar.gz":
        data = gzip.compress(data, 6, mtime=0)
        if 0.1 <= chance < 0.2:
            data, bad, how = spoilt(rng, data)
    return put(path, Changed(data, bad, how))


def _member(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return header, data


def _bad_member(rng: random.Random, members: list[tuple[tarfile.TarInfo, bytes]]) -> str:
    """Make one member bad; how."""
    row = 2 * rng.randrange(len(members) // 2)
    header, data = members[row]
    how = rng.choice(("name", "link", "empty", "image", "json", "json", "twice", "size"))
    if how == "name":
        header.name = rng.choice(("../", "/etc/", "a/../../")) + header.name
    elif how == "link":
        header.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, b"6"))
        header.linkname, header.size, data = "/etc/passwd", 0, b""
    elif how == "empty":
        header.size, data = 0, b""
    elif how == "image":
        data = cut(rng, data).data
        header.size = len(data)
    elif how == "json":
        about = json.loads(members[row + 1][1])
        path = rng.choice([path for path in places(about) if len(path) == 1])
        about = replaced(about, path, rng.choice(_WRONG_ABOUT[path[0]]))
        members[row + 1] = _member(members[row + 1][0].name, json.dumps(about).encode())
        how = f"json {path[0]}"
    elif how == "twice":
        members.append(members[row])
    else:
        header.size = rng.choice((2**33 - 1, 2**40, 10**9))
    members[row] = header, data
    return how


_WRONG_ABOUT: dict[str, list[Any]] = {
    "camera": [["x"], {"x": 1}, True],
    "modality": ["x", 1, [], {}, True],
    "time": ["x", float("nan"), 1e400, [], {}, "2026-13-01", 10**400],
    "tags": ["x", 1, {"x": 1}, True],
}


def _packed(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """The archive, written block by block: `tarfile` would refuse a size that is not true."""
    blocks = b""
    for header, data in members:
        blocks += header.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)
    return blocks + bytes(1024)


def use_shard(path: Path) -> None:
    """Read all images of a shard."""
    for crop in tars.crops(path, tars.listed(path), ReadOptions()):
        if isinstance(crop, Broken):
            raise InputError(crop.reason)
