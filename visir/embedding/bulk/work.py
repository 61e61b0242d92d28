"""The workers that embed units of work, and the start of several of them."""

from __future__ import annotations

import io
import multiprocessing
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from visir.core.names import is_utf8
from visir.core.progress import bar
from visir.core.run import sweep
from visir.core.types import ByteArray, FloatArray, InputError, Modality
from visir.data.ranges import RangeBook
from visir.embedding.base import ImageEmbedder
from visir.embedding.bulk.claims import claim
from visir.embedding.bulk.output import (
    Manifest,
    Summary,
    agreed,
    claim_path,
    shard_path,
    summary,
    write_shard,
)
from visir.sources.crop import DEFAULT_OPTIONS, Broken, Crop, Entry, ReadOptions, opened
from visir.sources.marks import Marks
from visir.sources.plan import crops, detectors, work_units

THUMBNAIL = 128  # pixels of the longer side
_UNIT_SIZE = 512  # crops embedded at a time
_CHUNK = 64  # crops in memory at full size
_MAX_PAUSE = 5.0  # seconds


class _Ready(NamedTuple):
    """The pixels of a crop, and what is stored of it."""

    pixels: ByteArray
    entry: Entry


def embed_many(
    embedder: ImageEmbedder,
    inputs: Sequence[Path],
    out: Path,
    settings: ReadOptions = DEFAULT_OPTIONS,
    *,
    shard_size: int = 512,
    skip_broken: bool = False,
    device: str = "cpu",
    patience: float = 600.0,
    begin: float = 0.0,
    progress: bool = False,
) -> Summary:
    """Embed all crops of the inputs, alone or together with other processes.

    Existing shards are kept, so the same call continues a stopped one. It returns when all shards
    exist, including those of other processes.

    Args:
        embedder: the model, the same in every process.
        inputs: folders, tar shards and videos, with the same names in every process.
        out: folder to write.
        settings: how inputs are read.
        shard_size: maximum number of images per shard.
        skip_broken: skip and count what cannot be read.
        device: where the detector of a video runs.
        patience: seconds without a refresh before another process's claim is taken over.
        begin: position in the work to start from, 0 to 1; differs between workers.
        progress: show a progress bar.

    Raises:
        InputError: `out` was started with another model, other inputs or settings; something cannot
            be read and `skip_broken` is off; or as `visir.sources.plan.work_units`.
    """
    if shard_size < 1:
        raise InputError(f"shard size: must be 1 or more images, got {shard_size}")
    if not embedder.fingerprint:
        raise InputError("model: it has no fingerprint; load it from its weights file")
    out, inputs = Path(out), sorted(map(Path, inputs))
    book = RangeBook(known=embedder.ranges)
    divide = partial(work_units, inputs, settings, shard_size, skip_broken, book)
    asked = Manifest(embedder.fingerprint, [*map(str, inputs)], settings.as_json(), shard_size)
    manifest = agreed(out, asked, divide, patience)
    detector = detectors(settings, device)
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def make(number: int) -> None:
            stream = crops(manifest.parts[number], settings, detector)
            found = embed_crops(stream, embedder, pool, skip_broken)
            write_shard(shard_path(out, number), manifest.model, *found)

        count = len(manifest.parts)
        first = int(begin * count)
        _make_all(out, [*range(first, count), *range(first)], make, patience, progress)
    sweep(out / "shards")
    return summary(out)


def embedded(
    embedder: ImageEmbedder,
    inputs: Sequence[Path],
    settings: ReadOptions = DEFAULT_OPTIONS,
    *,
    book: RangeBook,
    known: Callable[[Sequence[str]], Container[str]],
    skip_broken: bool = False,
    device: str = "cpu",
) -> Iterator[tuple[list[Entry], FloatArray, list[Broken]]]:
    """Embed all crops of the inputs in this process, at most 512 at a time.

    Args:
        embedder: the model.
        inputs: as for `embed_many`.
        settings: as for `embed_many`.
        book: takes the ranges of cameras with more than 8 bits a pixel.
        known: returns those of some sources that are skipped.
        skip_broken: as for `embed_many`.
        device: as for `embed_many`.

    Yields:
        Entries of crops, their (N, D) embeddings, and the crops that could not be read.

    Raises:
        InputError: as for `embed_many`.
    """
    detector = detectors(settings, device)
    units = work_units(sorted(map(Path, inputs)), settings, _UNIT_SIZE, skip_broken, book)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for unit in units:
            stream = crops(unit, settings, detector)
            while found := list(islice(stream, _UNIT_SIZE)):
                skipped = known([each.source for each in found if is_utf8(each.source)])
                new = (each for each in found if each.source not in skipped)
                yield embed_crops(new, embedder, pool, skip_broken)


def embed_run(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    settings: ReadOptions = DEFAULT_OPTIONS,
    *,
    workers: int = 1,
    device: str = "cpu",
    shard_size: int = 512,
    skip_broken: bool = False,
    progress: bool = False,
) -> Summary:
    """`embed_many` with a trained network, in several processes of this machine.

    Arguments are those of `visir.commands.embed.embed`, with `settings` for how inputs are read.
    PyTorch's threads are shared out among the processes; with the device "auto" and several GPUs
    each process takes one, in turn. `progress` shows a progress bar.

    Raises:
        InputError: `workers` is below 1, or as `visir.embedding.pytorch.load` and `embed_many`.
    """
    if workers < 1:
        raise InputError(f"workers: must be 1 or more processes, got {workers}")
    options = {"shard_size": shard_size, "skip_broken": skip_broken}
    work = partial(_work, run, inputs, out, settings, device, workers, options)
    spawn = multiprocessing.get_context("spawn")
    helpers = [spawn.Process(target=_help, args=(work, n), daemon=True) for n in range(1, workers)]
    for helper in helpers:
        helper.start()
    try:
        return work(0, progress)
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()


def _work(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    settings: ReadOptions,
    device: str,
    workers: int,
    options: dict[str, Any],
    worker: int,
    progress: bool,
) -> Summary:
    """Do the work of one process; under `torchrun` its rank sets the starting position."""
    import torch

    from visir.embedding.pytorch import load

    rank, world, local = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    torch.set_num_threads(max(1, torch.get_num_threads() // workers))
    if device == "auto" and torch.cuda.device_count() > 1:
        device = f"cuda:{(local * workers + worker) % torch.cuda.device_count()}"
    begin = (rank * workers + worker) / (world * workers)
    embedder = load(run, device=device)
    return embed_many(
        embedder, inputs, out, settings, device=device, begin=begin, progress=progress, **options
    )


def _help(work: Callable[[int, bool], Summary], worker: int) -> None:
    # An error that stops a helper also stops the main process, which reports it.
    with suppress(InputError, KeyboardInterrupt):
        work(worker, False)


def _make_all(
    out: Path, left: list[int], make: Callable[[int], None], patience: float, progress: bool
) -> None:
    """Make every shard that no other process makes, and wait until all exist."""
    pause = 0.05
    with bar(None, "embedding", len(left), unit="shards", show=progress) as shown:
        while left:
            waiting = []
            for number in left:
                if _is_made(out, number, make, patience):
                    shown.update()
                else:
                    waiting.append(number)
            if len(waiting) == len(left):
                time.sleep(pause)
                pause = min(2 * pause, _MAX_PAUSE)
            left = waiting


def _is_made(out: Path, number: int, make: Callable[[int], None], patience: float) -> bool:
    """Make a shard if it is missing; False if another process is making it."""
    path = shard_path(out, number)
    if path.exists():
        return True
    with claim(claim_path(out, path.stem), patience) as mine:
        if mine and not path.exists():  # the former owner may have finished it
            make(number)
        return mine


def embed_crops(
    stream: Iterator[Crop | Broken], embedder: ImageEmbedder, pool: Executor, skip_broken: bool
) -> tuple[list[Entry], FloatArray, list[Broken]]:
    """Entries of crops, their (N, D) embeddings, and the crops that could not be read."""
    entries: list[Entry] = []
    vectors: list[FloatArray] = []
    skipped: list[Broken] = []
    ready_of = partial(_ready, Marks())
    while chunk := list(islice(stream, _CHUNK)):
        found = list(pool.map(ready_of, chunk))
        broken = [each for each in found if isinstance(each, Broken)]
        if broken and not skip_broken:
            raise broken[0].error()
        skipped += broken
        ready = [each for each in found if isinstance(each, _Ready)]
        entries += [entry for _, entry in ready]
        vectors += [_vectors(ready, embedder)] if ready else []
    return entries, np.concatenate(vectors or [np.empty((0, 0), np.float32)]), skipped


def _vectors(ready: Sequence[_Ready], embedder: ImageEmbedder) -> FloatArray:
    rows = {m: [i for i, (_, entry) in enumerate(ready) if entry.modality is m] for m in Modality}
    by_modality = [
        embedder.embed([ready[i].pixels for i in rows[m]], m) for m in Modality if rows[m]
    ]
    found = np.concatenate(by_modality).astype(np.float32, copy=False)
    order = np.concatenate([rows[m] for m in Modality]).astype(np.int64)
    vectors_ND = np.empty_like(found)
    vectors_ND[order] = found
    return vectors_ND


def _ready(marks: Marks, found: Crop | Broken) -> _Ready | Broken:
    mark = marks.of(found.source)  # before the file is read: a later change is noticed
    read = found if isinstance(found, Broken) else opened(found)
    if isinstance(read, Broken):
        return read
    assert not isinstance(read.image, Path)
    picture = Image.fromarray(read.image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    picture.save(jpeg, format="JPEG")
    entry = Entry(
        read.source,
        read.camera,
        modality=read.modality,
        time=read.time,
        tags=read.tags,
        thumbnail=jpeg.getvalue(),
        mark=mark,
    )
    return _Ready(read.image, entry)
