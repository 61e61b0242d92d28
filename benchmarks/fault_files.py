"""Bad files that hold images, weights, checkpoints and features, and who reads them."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import zipfile
import zlib
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch
from fault_mutations import (
    WRONG,
    Changed,
    another_format,
    changed_value,
    cut,
    nothing,
    payload,
    spoilt,
)
from fault_world import FORMATS, crops, drawn, encoded
from PIL import Image

from visir.core.run import Run
from visir.core.types import Benchmark
from visir.data import folder
from visir.data.images import read_image
from visir.evaluation.features import read_features
from visir.nets.pickles import read_checkpoint
from visir.nets.weights import load_weights
from visir.training import checkpoint


class Given(NamedTuple):
    """An input on disk; bad: it is certainly bad; how: what was changed."""

    path: Path
    bad: bool
    how: str


def put(path: Path, changed: Changed) -> Given:
    """Write a changed input."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(changed.data)
    return Given(path, changed.bad, changed.how)


# ---- images


@cache
def images() -> list[tuple[str, bytes]]:
    """Valid images: ending and bytes, of all formats that visir reads, in several kinds."""
    found = [(suffix, encoded(drawn(1), suffix)) for suffix in FORMATS]
    found.append((".jpg", encoded(drawn(2), ".jpg", progressive=True, quality=95)))
    found.append((".png", encoded(drawn(3).convert("P"), ".png")))
    found.append((".png", encoded(drawn(4).convert("RGBA"), ".png")))
    found.append((".tif", encoded(drawn(5), ".tif", compression="tiff_deflate")))
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (48, 24), np.uint16))
    return [*found, (".png", encoded(deep, ".png")), (".tif", encoded(deep, ".tif"))]


def make_image(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad image."""
    suffix, data = rng.choice(images())
    return put(here / f"a{suffix}", changed_image(rng, data, marker))


def changed_image(rng: random.Random, data: bytes, marker: Path) -> Changed:
    """An image that is cut, spoilt, of another format, or declares what it does not hold."""
    chance = rng.random()
    if chance < 0.15:
        return another_format(rng, marker)
    if chance > 0.97:
        return nothing(data)
    if chance < 0.35:
        return cut(rng, data)
    if chance < 0.6:
        declared = {b"\x89PNG": _png_declared, b"BM": _bmp_declared, b"P6": _ppm_declared}
        for magic, change in declared.items():
            if data.startswith(magic):
                return change(rng, data)
    return spoilt(rng, data)


def _png_declared(rng: random.Random, data: bytes) -> Changed:
    """More rows than there are, too many pixels, or a chunk that its checksum does not fit."""
    if rng.random() < 0.5:
        start = rng.randrange(16, len(data) - 12)
        kinds = (b"IHDR", b"IDAT", b"PLTE")
        place = max(data.rfind(kind, 0, start) for kind in kinds)
        length = int.from_bytes(data[place - 4 : place], "big")
        at = place + 4 + rng.randrange(length)
        flipped = bytes([data[at] ^ 1 << rng.randrange(8)])
        return Changed(data[:at] + flipped + data[at + 1 :], True, "a chunk against its checksum")
    sides = rng.choice([(24, 96), (2**31 - 1, 2**31 - 1), (100_000, 100_000), (24, 4800)])
    head = b"IHDR" + struct.pack(">II", *sides) + data[24:29]
    fitting = struct.pack(">I", zlib.crc32(head))
    return Changed(data[:12] + head + fitting + data[33:], True, f"declares {sides}")


def _bmp_declared(rng: random.Random, data: bytes) -> Changed:
    sides = rng.choice([(24, 4800), (100_000, 100_000), (2**31 - 1, 1)])
    return Changed(data[:18] + struct.pack("<ii", *sides) + data[26:], True, f"declares {sides}")


def _ppm_declared(rng: random.Random, data: bytes) -> Changed:
    sides = rng.choice([b"24 4800", b"100000 100000", b"24 -48", b"2 4 8", b"24 1e9", b"x y"])
    return Changed(data.replace(b"24 48", sides, 1), sides != b"2 4 8", f"declares {sides!r}")


# ---- weights


@cache
def weights() -> bytes:
    """The smallest weights file that comes with visir."""
    return (
        files("visir.nets") / "shipped_weights" / "person-resnet-micro.safetensors"
    ).read_bytes()


def make_weights(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad weights file."""
    path, data = here / "model.safetensors", weights()
    chance = rng.random()
    if chance < 0.1:
        return put(path, another_format(rng, marker))
    if chance < 0.2:
        return put(path, cut(rng, data, 0.99))
    if chance < 0.35:
        return put(path, nothing(data) if chance < 0.22 else spoilt(rng, data))
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    if chance < 0.65:
        return put(path, _with_header(*_described(rng, header), rest))
    if chance < 0.8:
        tensor = header[rng.choice(names)]
        key = rng.choice(("shape", "data_offsets", "dtype"))
        before = tensor[key]
        tensor[key] = rng.choice([[-1], [2**62, 2**62], [0, 1], [], None, "x", {}, 1, "F8_E4M3"])
        how = f"tensor's {key} {tensor[key]}"
        return put(path, _with_header(header, tensor[key] != before, how, rest))
    state = safetensors.torch.load(data)
    name = rng.choice([name for name in names if state[name].is_floating_point()])
    if chance < 0.9:
        state[name].view(-1)[rng.randrange(state[name].numel())] = rng.choice(
            (float("nan"), float("inf"), float("-inf"))
        )
    elif chance < 0.95:
        del state[name]
    else:
        state[rng.choice(("surplus", "../x", "x" * 9999, "\x1b[2J"))] = torch.zeros(3)
    saved = safetensors.torch.save(state, header["__metadata__"])
    return put(path, Changed(saved, True, f"tensor {name} not finite, missing or surplus"))


def _described(rng: random.Random, header: dict[str, Any]) -> tuple[dict[str, Any], bool, str]:
    """A header whose description was changed: it, whether it is certainly bad, and how."""
    about, bad = json.loads(header["__metadata__"]["visir"]), rng.random() < 0.5
    if bad:
        key = rng.choice(("size", "image_size", "power", "surplus"))
        fitting = [value for value in WRONG if value != 0.5 or key != "power"]
        about["net"][key] = rng.choice(fitting) if key != "power" else rng.choice(("x", [], -1, 0))
        how = f"net.{key}"
    else:
        about, how = changed_value(rng, about)
    return {**header, "__metadata__": {"visir": json.dumps(about)}}, bad, how


def _with_header(header: dict[str, Any], bad: bool, how: str, rest: bytes) -> Changed:
    text = json.dumps(header).encode()
    return Changed(len(text).to_bytes(8, "little") + text + rest, bad, how)


# ---- checkpoints of other programs, and of visir


def make_checkpoint(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad .pth file, which may hold a payload."""
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    state = {f"layer.{n}.weight": torch.randn(8, 9, generator=generator) for n in range(4)}
    content: Any = {"state_dict": state, "epoch": 3}
    path, new = here / "a.pth", rng.random() < 0.6
    chance, how = rng.random(), "whole"
    if chance < 0.15:
        return put(path, another_format(rng, marker))
    if chance < 0.4:
        content = rng.choice(
            [payload(rng, marker), {"state_dict": payload(rng, marker)}, [payload(rng, marker)]]
        )
        how = "nothing but a payload"
        if rng.random() < 0.3:
            return put(path, Changed(pickle.dumps(content, rng.randint(0, 5)), True, how))
    elif chance < 0.55:
        content = {**content, "args": payload(rng, marker)}
        return put(path, Changed(_saved(content, new), False, "a payload beside the weights"))
    data = _saved(content, new)
    if how != "whole":
        return put(path, Changed(data, True, how))
    if new and chance < 0.75:
        return put(path, _archive_changed(rng, data))
    if chance > 0.97:
        return put(path, nothing(data))
    return put(path, cut(rng, data) if chance < 0.85 else spoilt(rng, data))


def _saved(content: object, new: bool) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=new)
    return file.getvalue()


def _archive_changed(rng: random.Random, data: bytes) -> Changed:
    """An archive with a tensor against its checksum, a program's, or one that would grow."""
    what = rng.choice(("checksum", "program", "bomb"))
    if what == "checksum":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [one for one in archive.infolist() if "/data/" in one.filename]
        entry = rng.choice(entries)
        names = data[entry.header_offset + 26 : entry.header_offset + 30]
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", names))
        at = start + rng.randrange(entry.file_size)
        flipped = bytes([data[at] ^ 1 << rng.randrange(8)])
        return Changed(data[:at] + flipped + data[at + 1 :], True, "a tensor against its checksum")
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        name = "constants.pkl" if what == "program" else "data/99"
        archive.writestr(f"{root}/{name}", bytes(1 if what == "program" else 20_000_000))
    return Changed(file.getvalue(), True, what)


@cache
def training_state() -> bytes:
    """What a small training would save."""
    model = {"weight": torch.arange(600.0).view(20, 30)}
    state = {"epoch": 1, "epochs": 4, "origin": {"images": "a" * 64}, "model": model}
    return bytes(checkpoint.packed({**state, "optimizer": {}, "method": {}}))


def make_training_state(rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad last.ckpt: spoilt, or sound and of other content."""
    path, data, chance = here / "last.ckpt", training_state(), rng.random()
    if chance < 0.15:
        return put(path, another_format(rng, marker))
    if chance < 0.3:
        return put(path, cut(rng, data, 0.99))
    if chance > 0.97:
        return put(path, nothing(data))
    if chance < 0.6:
        changed = spoilt(rng, data)
        return put(path, changed._replace(bad=changed.data != data))  # its checksum says so
    state: Any = torch.load(io.BytesIO(data), weights_only=True)
    key = rng.choice(sorted(state))
    wrong: list[Any] = [payload(rng, marker), None, "x", [], 1.5, -1, 99]
    state[key] = rng.choice(wrong[:5] if key != "epoch" else wrong)
    if chance < 0.75:
        state = rng.choice([payload(rng, marker), [], None, {}, torch.zeros(3)])
    return put(path, Changed(bytes(checkpoint.packed(state)), True, f"sound, but {key} is wrong"))


# ---- features


@cache
def test_images(root: Path) -> Benchmark:
    """A labelled folder of sixteen images."""
    paths = crops(root, 16)
    rows = [f"{path.relative_to(root)},{row // 4}" for row, path in enumerate(paths)]
    (root / "labels.csv").write_text("\n".join(["path,pid", *rows]) + "\n")
    return folder.load(root)


def make_features(benchmark: Benchmark, rng: random.Random, here: Path, marker: Path) -> Given:
    """A bad .npy or .npz file of embeddings."""
    rows = np.random.default_rng(rng.randrange(2**31)).normal(size=(16, 8)).astype(np.float32)
    names = np.array([str(record.path) for record in benchmark.test])
    path, chance = here / rng.choice(("a.npy", "a.npz")), rng.random()
    if chance < 0.1:
        return put(path, another_format(rng, marker))
    if chance < 0.25:
        return put(path, cut(rng, _features(path, rows, names)))
    if chance < 0.45:
        return put(path, spoilt(rng, _features(path, rows, names)))
    if chance > 0.97:
        return put(path, nothing(_features(path, rows, names)))
    what = rng.choice(("payload", "not finite", "zero", "shape", "kind", "declared", "names"))
    array: Any = rows
    if what == "payload":
        array = np.array([[payload(rng, marker)]], object)
    elif what == "not finite":
        rows[rng.randrange(16), rng.randrange(8)] = rng.choice((np.nan, np.inf, -np.inf))
    elif what == "zero":
        rows[rng.randrange(16)] = 0
    elif what == "shape":
        array = rng.choice([rows[0], rows[None], rows[:5], rows[:, :0], np.float32(1)])
    elif what == "kind":
        array = rows.astype(rng.choice(["S5", "U5", "int64", "bool", "complex64", "M8[s]"]))
    elif what == "names":
        path, names = here / "a.npz", rng.choice([names[:3], np.repeat(names[:1], 16), names[None]])
    data = _features(path, array, names)
    if what == "declared":
        path = here / "a.npy"
        sides = rng.choice([b"(16, 10**6)", b"(99, 99999)", b"(-1, 8)   ", b"(16, 8, 9)", b"(1,)"])
        data = _features(path, rows, names).replace(b"(16, 8), }", sides.ljust(8) + b", }", 1)
    return put(path, Changed(data, True, what))


def _features(path: Path, rows: Any, names: Any) -> bytes:
    file = io.BytesIO()
    if path.suffix == ".npy":
        np.save(file, rows, allow_pickle=True)
    else:
        np.savez_compressed(file, features=rows, paths=names)
    return file.getvalue()


def kinds(place: Path) -> dict[str, tuple[Any, Any]]:
    """Name -> (make an input, read it)."""
    benchmark = test_images(place / "test")
    return {
        "images": (make_image, read_image),
        "weights (.safetensors)": (make_weights, load_weights),
        "checkpoints (.pth)": (make_checkpoint, read_checkpoint),
        "states of trainings (.ckpt)": (
            make_training_state,
            lambda path: checkpoint.complete(Run(path.parent)),
        ),
        "features (.npy, .npz)": (
            partial(make_features, benchmark),
            lambda path: read_features(path, benchmark),
        ),
    }
