"""Training a method on a data set: opens the data, builds the method, and starts the loop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from visir.core import ranks
from visir.core.config import dump_yaml, to_mapping
from visir.core.device import resolve_device
from visir.core.lock import LOCK, locked
from visir.core.progress import say
from visir.core.run import Run, sweep, write_text
from visir.core.types import Benchmark, ByteArray, InputError, IntArray, Modality
from visir.core.version import __version__
from visir.data.check import missing_in_training
from visir.data.contents import contents
from visir.data.dataset import (
    LatePixels,
    TrainingSet,
    announced,
    decoded,
    shared_identities,
    tracklets,
)
from visir.data.ranges import as_json, from_json
from visir.data.registry import open_benchmark
from visir.data.rng import key
from visir.data.tree import excluded, is_excluded
from visir.methods import METHODS
from visir.methods.contract import Method, require_step_state
from visir.nets.compiled import compile_network
from visir.nets.imagenet import imagenet_file
from visir.nets.shipped import card_of, start_file
from visir.nets.weights import read_about, start_from
from visir.training.checkpoint import Saved, newest
from visir.training.loop import BEFORE_TRAINING as BEFORE_TRAINING
from visir.training.loop import NEEDS_SCORES, Loop
from visir.training.loop import OnEpoch as OnEpoch
from visir.training.origin import listed, origin, require_same_images, require_same_settings
from visir.training.outlook import Outlook, outlook, rehearsed
from visir.training.processes import joined, require_alike, told_pixels
from visir.training.settings import (
    Asked,
    BatchNorm,
    DataPlace,
    Division,
    RunSettings,
    division_of,
    new_settings,
    require_new,
    sized,
    stored_settings,
)
from visir.training.settings import find_preset as find_preset

TINY = (
    "preset: tiny, for a first try on a CPU; --preset own fits the settings to your images and "
    "device, sysu or regdb has the published ones"
)


class _Built(NamedTuple):
    """What is known before an image is decoded."""

    division: Division
    setting: RunSettings
    benchmark: Benchmark
    method: Method
    data: TrainingSet
    pixels: LatePixels
    device: torch.device


def train(
    method: str,
    data: Path,
    out: Path,
    *,
    preset: str = "tiny",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    split: int = 1,
    layout: str | None = None,
    start: Path | None = None,
    exclude: Path | None = None,
    device: str = "cpu",
    resume: bool = False,
    save_every: int = 0,
    accumulate: int | None = None,
    batch_norm: BatchNorm | None = None,
    profile: bool = False,
    compile: bool = False,
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> Run:
    """Train a method on a data set, or on a folder of unlabelled crops.

    Arguments are those of `visir.commands.train.train`, with `settings` to replace as a mapping
    (`{"eps": "0.5"}`). `on_epoch` is called before the first epoch (with `BEFORE_TRAINING` as its
    number and no plan) and after each one, and may return the network's score. `progress` shows a
    bar and one line an epoch on standard error. Called in each of several processes that torchrun
    started, all train one run; `on_epoch` is called in the first one.

    Returns:
        The finished run.

    Raises:
        InputError: unusable settings or data, a run folder in the way or in use, a run to
            resume whose settings, images or checkpoints changed, or processes that differ.
    """
    run, place = Run(out), DataPlace(data, layout, split, exclude)
    asked = Asked(method, preset, settings or {}, seed, place, start, accumulate, batch_norm)
    with joined(device) as own, ExitStack() as stack:
        _require_alike(run, asked, resume, save_every)
        if not resume:
            require_new(run)
        if save_every:
            require_step_state(METHODS.find(method), method)
        progress = progress and ranks.rank() == 0
        built = _built(run, asked, resume, own, progress)
        if built.method.stage_start == "test-best" and on_epoch is None:
            raise InputError(NEEDS_SCORES)
        if progress:
            say(f"training: {_outlook(built, run)}")
        if ranks.rank() == 0:
            _hold(run, resume, stack)
        loop, saved = _prepared(
            run, built, resume, save_every=save_every, on_epoch=on_epoch, timed=profile,
            compiled=compile, progress=progress,
        )  # fmt: skip
        loop.go(saved)
    return run


def _require_alike(run: Run, asked: Asked, resume: bool, save_every: int) -> None:
    """Refuse processes that were started otherwise, or with other versions."""
    versions = {"visir": __version__, "PyTorch": torch.__version__, "NumPy": np.__version__}
    said = {"--out": run.folder, "--resume": resume, "--save-every": save_every}
    require_alike(
        {**asked.named(), **said, **versions},
        "start all processes with the same command and the same versions",
    )


def _hold(run: Run, resume: bool, stack: ExitStack) -> None:
    """Hold the run's folder until `stack` closes; leave nothing in it if a new run is refused."""
    new = _missing(run)
    stack.enter_context(held(run))
    stack.enter_context(_leaving_nothing(run, new))
    if not resume:
        require_new(run)  # again: another process may have trained there meanwhile


def dry_run(
    method: str,
    data: Path,
    out: Path,
    *,
    preset: str = "tiny",
    settings: Mapping[str, str] | None = None,
    seed: int = 0,
    split: int = 1,
    layout: str | None = None,
    start: Path | None = None,
    exclude: Path | None = None,
    device: str = "cpu",
    accumulate: int | None = None,
) -> Outlook:
    """What `train` with these arguments would do, use and take; writes nothing.

    Returns:
        Counts, and the time estimated from a few batches of some of the images.

    Raises:
        InputError: as `train`.
    """
    run, place = Run(out), DataPlace(data, layout, split, exclude)
    require_new(run)
    asked = Asked(method, preset, settings or {}, seed, place, start, accumulate)
    built = _built(run, asked, False, resolve_device(device), progress=False)
    steps = [built.method.steps(epoch) for epoch in range(built.method.epochs)]
    measured = rehearsed(built.setting, built.benchmark, built.device, built.division, steps)
    return _outlook(built, run)._replace(measured=measured)


def held(run: Run) -> AbstractContextManager[object]:
    """Hold a run's folder while it is written; see `visir.core.lock.locked`."""
    return locked(run.folder, "trains", "wait for it, or name another folder with --out")


def _missing(run: Run) -> list[Path]:
    """What `held` will make: the lock, and folders that do not exist, the innermost first."""
    folder = run.folder
    return [path for path in (folder / LOCK, folder, *folder.parents) if not path.exists()]


@contextmanager
def _leaving_nothing(run: Run, new: Sequence[Path]) -> Iterator[None]:
    """Remove what a training wrote that was refused before its first checkpoint.

    The batch whose loss was not a number stays, as the message names its file.

    Args:
        run: held, so that nobody else writes there.
        new: what was made to hold it, from `_missing`.
    """
    kept = {*run.folder.iterdir(), run.bad_batch} - {*new}
    try:
        yield
    except InputError:
        if not run.begun:
            _clear(run.folder, kept, new)
        raise


def _clear(folder: Path, kept: Set[Path], new: Sequence[Path]) -> None:
    for path in {*folder.iterdir()} - kept:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for made in new:
        if made.is_dir() and not any(made.iterdir()):
            made.rmdir()


def _built(run: Run, asked: Asked, resume: bool, device: torch.device, progress: bool) -> _Built:
    """Open the data set and build the method, so that settings are refused before images are read.

    The weights that a new training starts from are loaded too. The first of several processes
    opens the data set and decides the settings.
    """
    chosen = _chosen(run, asked, resume, device) if ranks.rank() == 0 else None
    chosen = ranks.told(chosen)
    assert chosen is not None
    setting, benchmark = chosen
    division = division_of(run, setting, asked)
    data, pixels = announced(benchmark.train, setting.settings.size)
    data = data._replace(identities=_identities(setting, benchmark))
    torch.manual_seed(key(setting.seed))
    method = METHODS.find(setting.method)(setting.settings, data, device, setting.seed)
    if setting.start and not resume:
        _start(method, Path(setting.start), progress)
    return _Built(division, setting, benchmark, method, data, pixels, device)


def _chosen(
    run: Run, asked: Asked, resume: bool, device: torch.device
) -> tuple[RunSettings, Benchmark]:
    """The settings and the data set."""
    setting = stored_settings(run, asked) if resume else new_settings(asked)
    benchmark = _open(setting)
    if not resume:
        setting = sized(setting, asked, benchmark, device)
    return replace(setting, ranges=as_json(benchmark.ranges) or None), benchmark


def _outlook(built: _Built, run: Run) -> Outlook:
    return outlook(built.benchmark, built.method, built.device, run.folder)


class _Read(NamedTuple):
    """What the first process has read: the list of images, their pixels, the saved state."""

    images: str
    pixels: ByteArray
    saved: Saved


def _read(run: Run, built: _Built, resume: bool, progress: bool) -> _Read:
    """Compare with what was saved, and decode the images."""
    benchmark, size = built.benchmark, built.setting.settings.size
    sweep(run.folder, below=False)  # folders inside may hold files of others
    saved = newest(run) if resume else Saved(None, None)
    known = saved.origin
    if known is not None:
        require_same_settings(run, known, built.setting)
    found = contents(benchmark.train, progress)
    images = listed(benchmark, found, built.data.identities)
    if known is not None:
        require_same_images(run, known, images, benchmark.root)
    cache = run.folder / "cache"
    return _Read(images, decoded(benchmark.train, size, cache, progress, known=found), saved)


def _prepared(
    run: Run,
    built: _Built,
    resume: bool,
    save_every: int,
    on_epoch: OnEpoch | None,
    timed: bool,
    compiled: bool,
    progress: bool,
) -> tuple[Loop, Saved]:
    """Load what was saved and the images; the first process reads, compares and writes them."""
    setting, benchmark, method = built.setting, built.benchmark, built.method
    read = _read(run, built, resume, progress) if ranks.rank() == 0 else None
    built.pixels.fill(told_pixels(None if read is None else read.pixels))
    images = ranks.told("" if read is None else read.images)
    if read is not None:
        saved = read.saved
        write_text(run.images, images)
        _keep(run, setting, benchmark, progress and not resume)
    else:
        saved = newest(run) if resume else Saved(None, None)
    if setting.start and resume and saved.last is None:
        _start(method, Path(setting.start), progress)
    if compiled:
        compile_network(method.model, built.device)
    loop = Loop(
        run,
        setting,
        benchmark=benchmark,
        data=built.data,
        method=method,
        device=built.device,
        division=built.division,
        origin=origin(setting, images),
        save_every=save_every,
        on_epoch=on_epoch,
        timed=timed,
        progress=progress,
    )
    return loop, saved


def _keep(run: Run, setting: RunSettings, benchmark: Benchmark, show: bool) -> None:
    """Write what determines the run; say so if real people are trained on with a small preset."""
    write_text(run.config, dump_yaml(to_mapping(setting)))
    if show and setting.preset == "tiny" and not benchmark.name.startswith("synthetic"):
        say(TINY)


def _identities(setting: RunSettings, benchmark: Benchmark) -> IntArray | None:
    """Labels only for methods that learn from labels; tracks if they will do."""
    method = METHODS.find(setting.method)
    if not method.learns_from_labels:
        return None
    if method.learns_from_tracks(setting.settings):
        return tracklets(benchmark.train)
    return shared_identities(benchmark.train, both=method.needs_both_modalities)


def _start(method: Method, named: Path, progress: bool) -> None:
    """Load the weights that a training starts from; say what shipped ones have not seen."""
    shipped = start_file(str(named), str(method.model.described["size"]))
    path = shipped or named
    if named == Path("imagenet") and not named.exists():
        path = imagenet_file(method.model)
    loaded = start_from(method.model, Run(path).weights if path.is_dir() else path)
    if progress:
        say(f"start: {named if shipped else path}: {loaded}")
        card = card_of(read_about(shipped)) if shipped else None
        if card is not None:
            say(f"start: {card.warning(method.config.size)}")


def _open(setting: RunSettings) -> Benchmark:
    """The data set, if it can be trained on; prints a warning if images are missing."""
    data, layout = Path(setting.data), setting.layout
    both = METHODS.find(setting.method).needs_both_modalities
    known = from_json(setting.ranges or {}, "config.yaml: ranges")
    benchmark = open_benchmark(data, layout, setting.split, known)
    if setting.exclude is not None:
        names = excluded(Path(setting.exclude))
        kept = (one for one in benchmark.train if not is_excluded(one.path, benchmark.root, names))
        benchmark = replace(benchmark, train=tuple(kept))
    for modality in Modality:
        count = sum(record.modality is modality for record in benchmark.train)
        if count < 2 and both:
            raise InputError(
                f"{benchmark.root}: training needs at least two {modality.value} images, found "
                f"{count}; add images of that modality"
            )
    _warn_of_missing(benchmark, layout)
    return benchmark


def _warn_of_missing(benchmark: Benchmark, layout: str | None) -> None:
    """Warn of an incomplete copy of a public data set."""
    for line in missing_in_training(benchmark, layout):
        say(f"warning: {benchmark.root}: {line} (see `visir check`)")
