"""Training images in memory: decoded once, sampled as mixed batches of augmented views."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from visir.core.run import quiet, sweep
from visir.core.types import Batch, BoolArray, ByteArray, InputError, IntArray, Modality, Record
from visir.data.images import read_resized
from visir.data.rng import key
from visir.data.transforms import Augmentation, augment


class Part(NamedTuple):
    """Rows of one modality in a batch, with one kind of view and the labels to learn."""

    rows: IntArray
    labels: IntArray
    how: Augmentation


class TrainingSet(NamedTuple):
    """The training images, as methods receive them.

    pixels: (N, H, W, 3) uint8, memory-mapped; infrared: (N,) bool; cams: (N,) int64;
    identities: (N,) int64 from 0, the same numbers in both modalities, for methods that learn from
    labels; None for all others, which therefore cannot use them.
    """

    pixels: ByteArray
    infrared: BoolArray
    cams: IntArray
    identities: IntArray | None = None

    def rows(self, modality: Modality) -> IntArray:
        """Row numbers of one modality's images."""
        return np.flatnonzero(self.infrared == (modality is Modality.INFRARED))

    def batch(self, parts: Sequence[Part], stream: int, pad: int, device: torch.device) -> Batch:
        """Augment and join the parts; `stream` names seed, epoch and step."""
        views = []
        for number, part in enumerate(parts):
            pixels = torch.from_numpy(np.asarray(self.pixels[part.rows])).to(device)
            # The position is part of the draw: a row drawn twice is augmented twice.
            draws = part.rows * 4096 + np.arange(len(part.rows))
            views.append(augment(pixels, draws, part.how, key(stream, number), pad))
        rows = np.concatenate([part.rows for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        return Batch(
            images=torch.cat(views),
            infrared=torch.from_numpy(self.infrared[rows]).to(device),
            labels=torch.from_numpy(labels).to(device),
            cams=torch.from_numpy(self.cams[rows]).to(device),
            rows=torch.from_numpy(rows).to(device),
        )


def open_training_set(
    records: Sequence[Record], size: tuple[int, int], cache: Path, progress: bool = False
) -> TrainingSet:
    """Decode all training images once, at the network's size, into a memory-mapped file.

    Args:
        records: the images, in the order their rows will have.
        size: (height, width) in pixels.
        cache: folder for the decoded pixels; reused while nothing has changed.
        progress: show a progress bar.

    Raises:
        InputError: an image cannot be read, or the disk is too small for the pixels.
    """
    stamp = hashlib.sha256(repr(size).encode())
    for record in records:
        facts = (record.path, record.path.stat().st_mtime_ns, *(record.span or ()))
        stamp.update(("|".join(map(str, facts)) + "\n").encode())
    path = cache / f"pixels-{stamp.hexdigest()[:16]}.npy"
    if not path.exists():
        _decode(records, size, path, progress)
    return TrainingSet(
        pixels=np.load(path, mmap_mode="r"),
        infrared=np.array([record.modality is Modality.INFRARED for record in records]),
        cams=np.array([record.cam for record in records], np.int64),
    )


def shared_identities(records: Sequence[Record], both: bool = True) -> IntArray:
    """(N,) labels from 0, in the order of the identity numbers.

    Args:
        records: the training images.
        both: whether every identity must have images of both modalities.

    Raises:
        InputError: an image without an identity, fewer than two identities, or an identity with
            images of one modality only.
    """
    for record in records:
        if record.pid is None:
            raise InputError(
                f"{record.path}: has no identity label, but this method needs labels; label the "
                "training images, or choose a method that needs none, such as cmag"
            )
    pids = np.array([record.pid for record in records], np.int64)
    infrared = np.array([record.modality is Modality.INFRARED for record in records], bool)
    alone = np.setxor1d(pids[infrared], pids[~infrared])
    if both and len(alone):
        kind = "infrared" if alone[0] in pids[infrared] else "visible"
        raise InputError(
            f"identity {alone[0]} has {kind} training images only ({len(alone)} identities have "
            "images of one modality); learning from labels needs both: add images of the other "
            "modality, or remove these identities from the training set"
        )
    names, labels = np.unique(pids, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"the training set has {len(names)} identities; learning from labels needs two or more"
        )
    return labels


def _decode(records: Sequence[Record], size: tuple[int, int], path: Path, progress: bool) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    sweep(path.parent)
    pixels = _room_for((len(records), *size, 3), partial)

    def fill(row: int) -> None:
        record = records[row]
        pixels[row] = read_resized(record.path, size, record.modality, record.span)

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            work = pool.map(fill, range(len(records)))
            for _ in tqdm(work, "decoding", len(records), unit="img", disable=quiet(progress)):
                pass
        pixels.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _room_for(shape: tuple[int, ...], path: Path) -> np.memmap[Any, np.dtype[np.uint8]]:
    """A new memory-mapped array with its disk space reserved.

    If a disk fills up while a sparse file is written through a map, the process is killed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        size = int(np.prod(shape)) / 1e9
        raise InputError(
            f"{path.parent}: not enough space for the decoded images, {size:.1f} GB "
            f"({error.strerror or error}); free space, or write the run to another disk"
        ) from error
    return pixels
