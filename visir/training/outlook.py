"""What a training will do, use and take, said before it begins."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from visir.core.device import memory_of, wait_for
from visir.core.progress import in_words
from visir.core.types import Benchmark, InputError, IntArray, Modality, Record
from visir.data.dataset import TrainingSet
from visir.data.images import read_resized
from visir.data.rng import key
from visir.methods import METHODS
from visir.methods.contract import Method
from visir.training.passes import Passes
from visir.training.settings import Division, RunSettings
from visir.training.step import train_step

_ROWS = 256  # of each modality in a rehearsal
_COPIES = 8  # of each image in it: a cluster, whatever the network
_BATCHES = 3
_STATE = 28  # bytes a weight on disk: two checkpoints with Adam's means, and the weights


class Measured(NamedTuple):
    """What a rehearsal took.

    seconds: estimate for the whole training; views: in a batch; memory: the highest use, in bytes;
    images: that were embedded and clustered; batches: that were trained.
    """

    seconds: float
    views: int
    memory: int
    images: int
    batches: int


class Outlook(NamedTuple):
    """A training to come.

    images: number of training images of each modality; batches: in all epochs, None if only the
    plans of the epochs know; memory: of the device, in bytes; writes, free: bytes on the disk of
    `folder`; measured: None where nothing was rehearsed.
    """

    images: Mapping[Modality, int]
    cameras: int
    epochs: int
    batches: int | None
    device: str
    memory: int
    folder: Path
    writes: int
    free: int
    measured: Measured | None = None

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {m.value}" for m, count in self.images.items() if count)
        steps = "" if self.batches is None else f", {self.batches:,} batches"
        views = "" if self.measured is None else f" of {self.measured.views} views"
        parts = [
            f"{sum(self.images.values()):,} images ({counts}) of {self.cameras} cameras",
            f"{self.epochs} epochs{steps}{views}",
            f"{self.device}, {_size(self.memory)} of memory",
            f"about {_size(self.writes)} to write into {self.folder}, {_size(self.free)} free",
        ]
        if self.measured is None:
            return "; ".join(parts)
        parts[2] += f", about {_size(self.measured.memory)} needed"
        return "\n".join(
            [
                *parts,
                f"about {in_words(self.measured.seconds)}: an estimate from "
                f"{self.measured.batches} batches and {self.measured.images} embedded images; "
                "nothing was written",
            ]
        )


def outlook(benchmark: Benchmark, method: Method, device: torch.device, folder: Path) -> Outlook:
    """What is known of a training without running any of it.

    Args:
        benchmark: what it is trained on.
        method: built, with its settings.
        device: of the network.
        folder: of the run; it need not exist.
    """
    rows = len(benchmark.train)
    weights = sum(weight.numel() for weight in method.model.parameters())
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    name = f"cpu ({torch.get_num_threads()} threads)"
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)})"
    steps = [method.steps(epoch) for epoch in range(method.epochs)]
    known = [of for of in steps if of is not None]
    return Outlook(
        images={m: sum(r.modality is m for r in benchmark.train) for m in Modality},
        cameras=len({record.cam for record in benchmark.train}),
        epochs=method.epochs,
        batches=sum(known) if len(known) == len(steps) else None,
        device=name,
        memory=memory_of(device),
        folder=folder,
        writes=rows * (int(np.prod(method.config.size)) * 3 + 4) + _STATE * weights,
        free=shutil.disk_usage(place).free,
    )


def rehearsed(
    setting: RunSettings,
    benchmark: Benchmark,
    device: torch.device,
    division: Division,
    steps: Sequence[int | None],
) -> Measured:
    """Train a few batches of each stage on copies of some images, without writing anything.

    Copies of an image are a cluster whatever the network is, and a person for methods that learn
    from labels. Embedding and decoding are scaled to all images; what grows faster, such as the
    search for neighbours among many thousands, is not in the estimate.

    Args:
        setting: of the training.
        benchmark: the data set.
        device: of the network.
        division: how batches are divided.
        steps: batches of each epoch with all images; None for what only its plan knows.

    Raises:
        InputError: an image cannot be read, or the images are too few.
    """
    began = time.perf_counter()
    data, read = _copies(setting, benchmark)
    decoding = (time.perf_counter() - began) / read * len(benchmark.train)
    torch.manual_seed(key(setting.seed))
    method = METHODS.find(setting.method)(setting.settings, data, device, setting.seed)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    stages = sorted({0, *(epoch for epoch in method.stage_starts if epoch < method.epochs)})
    found: dict[int, _Stage] = {}
    for epoch in stages:
        try:
            found[epoch] = _stage(method, epoch, data, device, setting, division)
        except InputError:
            if not found:
                raise
            found[epoch] = found[0]  # a later stage may need what the earlier ones learned
    scale = len(benchmark.train) / len(data.infrared)
    seconds = decoding
    for epoch in range(method.epochs):
        stage = found[max(first for first in stages if first <= epoch)]
        count = steps[epoch]
        seconds += stage.plan * scale + stage.batch * (stage.steps if count is None else count)
    return Measured(
        seconds, found[0].views, _memory_used(device), len(data.infrared), _BATCHES * len(found)
    )


class _Stage(NamedTuple):
    """Seconds of planning an epoch and of a batch; views in a batch; batches in an epoch."""

    plan: float
    batch: float
    views: int
    steps: int


def _stage(
    method: Method,
    epoch: int,
    data: TrainingSet,
    device: torch.device,
    setting: RunSettings,
    division: Division,
) -> _Stage:
    """Plan an epoch and train its first batches; the first one warms up and does not count."""
    began = time.perf_counter()
    plan = method.plan(epoch)
    planned = time.perf_counter()
    optimizer, passes = method.optimizer(), Passes(method, data, device, division)
    method.model.train()
    views, first = 0, planned
    for step, parts in enumerate(islice(plan.batches, _BATCHES)):
        loaded = passes.load(parts, key(setting.seed, epoch, step))
        train_step(passes, optimizer, loaded)
        views = len(loaded.batch.rows)
        if step == 0:
            wait_for(device)
            first = time.perf_counter()
    wait_for(device)
    each = (time.perf_counter() - first) / (_BATCHES - 1)
    return _Stage(planned - began, each, views, plan.steps)


def _copies(setting: RunSettings, benchmark: Benchmark) -> tuple[TrainingSet, int]:
    """Copies of some images of every camera, and how many images were read."""
    sides = [[r for r in benchmark.train if r.modality is m] for m in Modality]
    sides = [_mixed(side) for side in sides if side]
    most = min(_ROWS, *(len(side) for side in sides))
    kinds = max(2, most // _COPIES, *(len({r.cam for r in side}) for side in sides))
    chosen = [side[:kinds] for side in sides]
    records = [record for side in chosen for record in side]
    number = np.concatenate([np.arange(len(side)) for side in chosen]).repeat(_COPIES)
    size = setting.settings.size
    pixels = np.stack([read_resized(r.path, size, r.modality, r.span) for r in records])
    rows: IntArray = np.arange(len(records)).repeat(_COPIES)
    learns = METHODS.find(setting.method).learns_from_labels
    return TrainingSet(
        pixels=pixels[rows],
        infrared=np.array([r.modality is Modality.INFRARED for r in records])[rows],
        cams=np.array([r.cam for r in records], np.int64)[rows],
        identities=number if learns else None,
    ), len(records)


def _mixed(side: Sequence[Record]) -> list[Record]:
    """Records in turns of the cameras."""
    seen: dict[int, int] = {}
    ranked: list[tuple[int, int, int, Record]] = []
    for record in side:
        seen[record.cam] = seen.get(record.cam, 0) + 1
        ranked.append((seen[record.cam], record.cam, len(ranked), record))
    return [record for *_, record in sorted(ranked, key=lambda of: of[:3])]


def _memory_used(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest * (1 if os.uname().sysname == "Darwin" else 1024)


def _size(count: float) -> str:
    """Bytes to read: "82 MB", "1.4 GB"."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{max(1, round(count / 1e6))} MB"
