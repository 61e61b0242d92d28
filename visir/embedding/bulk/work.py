"""The workers: what each does, and how several are started."""

from __future__ import annotations

import io
import multiprocessing
import os
import time
from collections.abc import Callable, Container, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from visir.core.run import quiet, sweep
from visir.core.types import ByteArray, FloatArray, InputError, Modality
from visir.embedding.base import Embeds
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
from visir.sources.crop import PLAIN, Broken, Crop, Entry, Settings, opened
from visir.sources.plan import crops, parts

if TYPE_CHECKING:
    from visir.sources.detector import Detector

THUMBNAIL = 128  # pixels of its longest side
_PART = 512  # crops dealt with at a time
_CHUNK = 64  # crops held at once in full size
_LONGEST_PAUSE = 5.0  # seconds


class _Ready(NamedTuple):
    """A crop about to be embedded, and what is kept of it."""

    pixels: ByteArray
    entry: Entry


def embed_many(
    embedder: Embeds,
    inputs: Sequence[Path],
    out: Path,
    settings: Settings = PLAIN,
    *,
    shard_size: int = 512,
    skip_broken: bool = False,
    device: str = "cpu",
    patience: float = 600.0,
    begin: float = 0.0,
    progress: bool = False,
) -> Summary:
    """Embed all crops of the inputs; other processes may be doing the same.

    What is there already is kept, so the same call goes on where a former one was stopped. It
    returns when everything is there, whoever made it.

    Args:
        embedder: the model, the same in every process.
        inputs: folders, tar shards and videos, named alike in every process.
        out: folder to write.
        settings: how inputs are read.
        shard_size: images in a shard at most.
        skip_broken: pass over what cannot be read, and count it.
        device: where the detector of a video runs.
        patience: seconds without a sign of life before another's claim is taken over.
        begin: where in the work to begin, 0 to 1, so that workers spread out.
        progress: show a progress bar.

    Raises:
        InputError: `out` was begun with another model, other inputs or settings; something cannot
            be read and is not to be passed over; or anything `visir.sources.plan.parts` refuses.
    """
    if shard_size < 1:
        raise InputError(f"shard size: {shard_size} images; give 1 or more")
    if not embedder.fingerprint:
        raise InputError("model: it has no fingerprint; load it from its weights file")
    out, inputs = Path(out), sorted(map(Path, inputs))
    divide = partial(parts, inputs, settings, shard_size, skip_broken)
    asked = Manifest(embedder.fingerprint, [*map(str, inputs)], settings.as_json(), shard_size)
    manifest = agreed(out, asked, divide, patience)
    detector = cache(partial(_detector, settings, device))
    with ThreadPoolExecutor(os.cpu_count()) as pool:

        def make(number: int) -> None:
            stream = crops(manifest.parts[number], settings, detector)
            found = _embedded(stream, embedder, pool, skip_broken)
            write_shard(shard_path(out, number), manifest.model, *found)

        count = len(manifest.parts)
        first = int(begin * count)
        _make_all(out, [*range(first, count), *range(first)], make, patience, progress)
    sweep(out / "shards")
    return summary(out)


def embedded(
    embedder: Embeds,
    inputs: Sequence[Path],
    settings: Settings = PLAIN,
    *,
    known: Callable[[Sequence[str]], Container[str]],
    skip_broken: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Iterator[tuple[list[Entry], FloatArray, list[Broken]]]:
    """Embed all crops of the inputs here and now, some hundreds at a time.

    Args:
        embedder: the model.
        inputs: as for `embed_many`.
        settings: as for `embed_many`.
        known: which of some sources are passed over.
        skip_broken: as for `embed_many`.
        device: as for `embed_many`.
        progress: show a progress bar.

    Yields:
        What is kept of crops, their (N, D) vectors, and those that could not be read.

    Raises:
        InputError: as for `embed_many`.
    """
    detector = cache(partial(_detector, settings, device))
    divided = parts(sorted(map(Path, inputs)), settings, _PART, skip_broken)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part in tqdm(divided, desc="embedding", unit="part", disable=quiet(progress)):
            stream = crops(part, settings, detector)
            while found := list(islice(stream, _PART)):
                there = known([each.source for each in found])
                new = (each for each in found if each.source not in there)
                yield _embedded(new, embedder, pool, skip_broken)


def embed_run(
    run: Path,
    inputs: Sequence[Path],
    out: Path,
    settings: Settings = PLAIN,
    *,
    workers: int = 1,
    device: str = "cpu",
    shard_size: int = 512,
    skip_broken: bool = False,
    progress: bool = False,
) -> Summary:
    """`embed_many` with a trained network, in several processes of this machine.

    Args:
        run: a run folder or a weights file.
        inputs: as for `embed_many`.
        out: as for `embed_many`.
        settings: as for `embed_many`.
        workers: processes, this one among them; PyTorch's threads are shared out among them.
        device: where the network and the detector run; with "auto" and several GPUs each process
            takes one, in turn.
        shard_size: as for `embed_many`.
        skip_broken: as for `embed_many`.
        progress: show a progress bar.

    Raises:
        InputError: no worker, or as `visir.embedding.pytorch.load` and `embed_many`.
    """
    if workers < 1:
        raise InputError(f"workers: {workers} processes do nothing; give 1 or more")
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
    settings: Settings,
    device: str,
    workers: int,
    options: dict[str, Any],
    worker: int,
    progress: bool,
) -> Summary:
    """One process's share; `torchrun` says where among its processes this one stands."""
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
    # What stops a helper stops the process that started it too, which says so.
    with suppress(InputError, KeyboardInterrupt):
        work(worker, False)


def _make_all(
    out: Path, left: list[int], make: Callable[[int], None], patience: float, progress: bool
) -> None:
    """Make every shard that nobody else makes, until all are there."""
    pause = 0.05
    with tqdm(total=len(left), desc="embedding", unit="shard", disable=quiet(progress)) as bar:
        while left:
            waiting = []
            for number in left:
                if _is_made(out, number, make, patience):
                    bar.update()
                else:
                    waiting.append(number)
            if len(waiting) == len(left):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            left = waiting


def _is_made(out: Path, number: int, make: Callable[[int], None], patience: float) -> bool:
    """Whether a shard is there, made now if need be; False where another is at work on it."""
    path = shard_path(out, number)
    if path.exists():
        return True
    with claim(claim_path(out, path.stem), patience) as mine:
        if mine and not path.exists():  # who held the claim before may have finished
            make(number)
        return mine


def _embedded(
    stream: Iterator[Crop | Broken], embedder: Embeds, pool: Executor, skip_broken: bool
) -> tuple[list[Entry], FloatArray, list[Broken]]:
    """What is kept of crops, their (N, D) vectors, and those that could not be read."""
    entries: list[Entry] = []
    vectors: list[FloatArray] = []
    skipped: list[Broken] = []
    while chunk := list(islice(stream, _CHUNK)):
        found = list(pool.map(_ready, chunk))
        broken = [each for each in found if isinstance(each, Broken)]
        if broken and not skip_broken:
            raise broken[0].error()
        skipped += broken
        ready = [each for each in found if isinstance(each, _Ready)]
        entries += [entry for _, entry in ready]
        vectors += [_vectors(ready, embedder)] if ready else []
    return entries, np.concatenate(vectors or [np.empty((0, 0), np.float32)]), skipped


def _vectors(ready: Sequence[_Ready], embedder: Embeds) -> FloatArray:
    rows = {m: [i for i, (_, entry) in enumerate(ready) if entry.modality is m] for m in Modality}
    parts = [embedder.embed([ready[i].pixels for i in rows[m]], m) for m in Modality if rows[m]]
    found = np.concatenate(parts).astype(np.float32, copy=False)
    order = np.concatenate([rows[m] for m in Modality]).astype(np.int64)
    vectors_ND = np.empty_like(found)
    vectors_ND[order] = found
    return vectors_ND


def _ready(found: Crop | Broken) -> _Ready | Broken:
    read = found if isinstance(found, Broken) else opened(found)
    if isinstance(read, Broken):
        return read
    assert not isinstance(read.image, Path)
    picture = Image.fromarray(read.image)
    picture.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    picture.save(jpeg, format="JPEG")
    source, _, camera, modality, time, tags = read
    return _Ready(read.image, Entry(source, camera, modality, time, tags, jpeg.getvalue()))


def _detector(settings: Settings, device: str) -> Detector:
    from visir.sources.detector import load_detector

    assert settings.detector is not None  # plan.parts refuses videos without
    return load_detector(settings.detector, device)
