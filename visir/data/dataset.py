"""Training images in memory: decoded once, sampled as mixed batches of augmented views."""

from __future__ import annotations

import hashlib
import os
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from visir.core.device import to_device
from visir.core.progress import bar
from visir.core.run import DamageWarning, sweep
from visir.core.types import (
    Batch,
    BoolArray,
    ByteArray,
    Facts,
    InputError,
    IntArray,
    Modality,
    Record,
)
from visir.data.contents import contents
from visir.data.images import read_resized
from visir.data.rng import key
from visir.data.transforms import Augmentation, augment, room

Shape: TypeAlias = tuple[int, int, int, int]
_ROWS = 256  # checked at once


class Part(NamedTuple):
    """Rows of one modality in a batch, with one kind of view and the labels to learn."""

    rows: IntArray
    labels: IntArray
    how: Augmentation


class TrainingSet(NamedTuple):
    """The training images, as methods receive them.

    pixels: (N, H, W, 3) uint8, memory-mapped; infrared: (N,) bool; cams: (N,) int64;
    identities: (N,) int64 from 0, the same numbers in both modalities, for methods that learn from
    labels; those of `tracklets`, which differ from camera to camera, for methods that learn from
    tracks; None for all others, which therefore cannot use them.
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
        return joined(self.images(parts, stream, pad, device), self.facts(parts))

    def images(
        self,
        parts: Sequence[Part],
        stream: int,
        pad: int,
        device: torch.device,
        places: IntArray | None = None,
    ) -> Tensor:
        """The augmented images of a batch, or those at some places of it; see `batch`.

        Args:
            parts: of the whole batch.
            stream: names seed, epoch and step.
            pad: border before the random crop, in pixels.
            device: of the images.
            places: positions in the whole batch, in ascending order; None for all.
        """
        ends = np.cumsum([len(part.rows) for part in parts])
        if places is None:
            places = np.arange(ends[-1])
        shares = np.split(places, np.searchsorted(places, ends[:-1]))
        whole = room(len(places), self.pixels.shape[1:3], device)
        views, done = [], 0
        for number, (part, end, share) in enumerate(zip(parts, ends, shares, strict=True)):
            if not len(share):
                continue
            chosen = share - (end - len(part.rows))
            rows = part.rows[chosen]
            pixels = to_device(torch.from_numpy(np.asarray(self.pixels[rows])), device)
            out = None if whole is None else whole[done : done + len(rows)]
            done += len(rows)
            # The position is part of the draw: a row drawn twice is augmented twice.
            draws = rows * 4096 + chosen
            views.append(augment(pixels, draws, part.how, key(stream, number), pad, out))
        return torch.cat(views) if whole is None else whole

    def facts(self, parts: Sequence[Part]) -> Facts:
        """What is known of a batch before its images are read, in the memory of the CPU."""
        rows = np.concatenate([part.rows for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        found = self.infrared[rows], labels, self.cams[rows], rows
        return Facts(*map(torch.from_numpy, found))


def joined(images: Tensor, host: Facts) -> Batch:
    """A batch on the device of its images; none of them, (0, 3, H, W), if they are not needed."""
    here = Facts(*(to_device(of, images.device) for of in host))
    places = {modality: to_device(host.of(modality), images.device) for modality in Modality}
    return Batch(images, *here, places, host)


class LatePixels:
    """An array of decoded images that is there only after `fill`, (N, H, W, 3) uint8.

    So a method can be built, and its settings refused, before the first image is decoded.
    """

    def __init__(self, count: int, size: tuple[int, int]) -> None:
        self.shape: Shape = (count, *size, 3)
        self.dtype = np.dtype(np.uint8)
        self._array: ByteArray | None = None

    def fill(self, array: ByteArray) -> None:
        """Set the pixels; `array` has the shape that was announced."""
        assert array.shape == self.shape, (array.shape, self.shape)
        self._array = array

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> Any:  # noqa: ANN401 - whatever indexes an array
        return self.__array__()[rows]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ByteArray:  # noqa: ANN401
        assert self._array is not None, "the images are not decoded yet"
        return np.asarray(self._array, dtype)


def announced(records: Sequence[Record], size: tuple[int, int]) -> tuple[TrainingSet, LatePixels]:
    """A training set whose images are not decoded yet, and the pixels to fill."""
    pixels = LatePixels(len(records), size)
    return _training_set(records, cast(ByteArray, pixels)), pixels


def open_training_set(
    records: Sequence[Record],
    size: tuple[int, int],
    cache: Path,
    progress: bool = False,
    known: Sequence[str] | None = None,
) -> TrainingSet:
    """A training set with its images decoded; arguments and errors are those of `decoded`."""
    return _training_set(records, decoded(records, size, cache, progress, known))


def _training_set(records: Sequence[Record], pixels: ByteArray) -> TrainingSet:
    return TrainingSet(
        pixels=pixels,
        infrared=np.array([record.modality is Modality.INFRARED for record in records]),
        cams=np.array([record.cam for record in records], np.int64),
    )


def decoded(
    records: Sequence[Record],
    size: tuple[int, int],
    cache: Path,
    progress: bool = False,
    known: Sequence[str] | None = None,
) -> ByteArray:
    """Decode all training images once, at the network's size, into a memory-mapped file.

    Args:
        records: the images, in the order their rows will have.
        size: (height, width) in pixels.
        cache: folder for the decoded pixels; reused while no image has changed. A damaged file is
            made anew, with a warning.
        progress: show a progress bar.
        known: the images' `visir.data.contents.contents`, if they have been read.

    Raises:
        InputError: an image cannot be read, or the disk is too small for the pixels.
    """
    stamp = hashlib.sha256(repr(size).encode())
    read = contents(records, progress) if known is None else known
    for record, content in zip(records, read, strict=True):
        facts = (content, record.modality.value, *(record.span or ()))
        stamp.update(("|".join(map(str, facts)) + "\n").encode())
    path = cache / f"pixels-{stamp.hexdigest()[:16]}.raw"
    shape = (len(records), *size, 3)
    if not _sound(path, shape):
        _decode(records, shape, path, progress)
    return np.memmap(path, np.uint8, "r", shape=shape)


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
                "training images, or choose a method that needs none, such as pairs"
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


def tracklets(records: Sequence[Record]) -> IntArray:
    """(N,) labels from 0 of images that show one person in one camera.

    By the track; of an image without one by identity and camera; one without either is alone.

    Args:
        records: the training images.

    Raises:
        InputError: no image has a track or an identity.
    """
    if all(record.track is None and record.pid is None for record in records):
        raise InputError(
            "setting labels=tracklet: no training image has a track or an identity; name them in "
            "the column track of labels.csv, as visir crop does, or set labels=image"
        )
    numbers: dict[tuple[object, ...], int] = {}
    return np.array(
        [numbers.setdefault(_tracklet(row, of), len(numbers)) for row, of in enumerate(records)],
        np.int64,
    )


def _tracklet(row: int, record: Record) -> tuple[object, ...]:
    place = record.cam, record.modality
    if record.track is not None:
        return ("track", *place, record.track)
    if record.pid is not None:
        return ("identity", *place, record.pid)
    return ("image", row)


def _sound(path: Path, shape: Shape) -> bool:
    """Whether the file exists and every image in it has its checksum; a damaged one is removed.

    The checksums (CRC-32, one an image, little-endian) follow the pixels.
    """
    if not path.exists():
        return False
    count = shape[0]
    if path.stat().st_size == int(np.prod(shape)) + 4 * count:
        pixels = np.memmap(path, np.uint8, "r", shape=shape)
        sums = np.fromfile(path, "<u4", offset=pixels.size)

        def right(start: int) -> bool:
            rows = range(start, min(start + _ROWS, count))
            return all(zlib.crc32(pixels[row]) == sums[row] for row in rows)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            if all(pool.map(right, range(0, count, _ROWS))):
                return True
    warnings.warn(f"{path}: is damaged; the images are decoded again", DamageWarning, stacklevel=3)
    path.unlink()
    return False


def _decode(records: Sequence[Record], shape: Shape, path: Path, progress: bool) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    sweep(path.parent)
    pixels = _room_for(shape, partial)
    sums = np.empty(len(records), "<u4")

    def fill(row: int) -> None:
        record = records[row]
        pixels[row] = read_resized(record.path, shape[1:3], record.modality, record.span)
        sums[row] = zlib.crc32(pixels[row])

    try:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            work = pool.map(fill, range(len(records)))
            for _ in bar(work, "decoding", len(records), unit="images", show=progress):
                pass
        pixels.flush()
        with partial.open("r+b") as file:
            file.seek(pixels.size)
            file.write(sums.tobytes())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _room_for(shape: Shape, path: Path) -> np.memmap[Any, np.dtype[np.uint8]]:
    """New memory-mapped pixels, with disk space reserved for them and their checksums.

    If a disk fills up while a sparse file is written through a map, the process is killed.
    """
    size = int(np.prod(shape)) + 4 * shape[0]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise InputError(
            f"{path.parent}: not enough space for the decoded images, {size / 1e9:.1f} GB "
            f"({error.strerror or error}); free space, or write the run to another disk"
        ) from error
    return np.memmap(path, np.uint8, "r+", shape=shape)
