"""`visir train`: train a method on a data set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visir.core.config import parse_pairs

if TYPE_CHECKING:
    from visir.core.run import Run
    from visir.embedding.pytorch import Embedder
    from visir.methods.contract import Plan
    from visir.training.outlook import Outlook
    from visir.training.train import OnEpoch


@dataclass(frozen=True)
class Trained:
    """The finished run, and the commands that fit next."""

    run: Run
    next_steps: tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n  {step}" for step in self.next_steps)
        return f"{self.run.folder}: trained; next:\n{steps}"


def train(
    method: str,
    /,
    *,
    data: Path,
    out: Path | None = None,
    preset: str = "tiny",
    set: tuple[str, ...] = (),
    seed: int = 0,
    split: int = 1,
    layout: str | None = None,
    start: Path | None = None,
    exclude_list: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    eval_every: int = 0,
    save_every: int = 0,
    devices: int = 1,
    accumulate: int | None = None,
    batch_norm: Literal["shared", "own"] | None = None,
    profile: bool = False,
    compile: bool = False,
    dry_run: bool = False,
) -> Trained | Outlook:
    """Train a method on a data set, or on a folder of crops.

    Args:
        method: training method, or package.module:Class of your own.
        data: folder of the data set.
        out: run folder to write; runs/METHOD-DATA-SEED if omitted.
        preset: named settings, shown by `visir config METHOD`: tiny, sysu, regdb, or own, sized
            by your images and device, for methods without labels.
        set: settings to replace, as key=value.
        seed: seed of all random draws.
        split: which of the data set's fixed splits; RegDB has 1 to 10.
        layout: folder structure; detected if omitted.
        start: run folder or weights file to start from; builtin and person are visir's, of which
            the preset own takes the one that fits the network; imagenet is torchvision's or
            visir[imagenet]'s; none for random.
        exclude_list: names of training images to leave out, a file of `visir check --list`.
        resume: continue the run in --out; --data may name the place its data set has moved to.
        device: where the network trains: cpu, cuda, cuda:1; auto uses a GPU if there is one.
        eval_every: score the test images after every so many epochs; 0 for never.
        save_every: save the state inside an epoch after every so many batches; 0 for never.
        devices: GPUs of this machine, or processes on a CPU, that train one run together.
        accumulate: slices in which a batch is computed, to need less memory; 1 if omitted.
        batch_norm: over the images of all devices (shared, as on one), or of each its own.
        profile: also say and log which share of an epoch's time loading, forward, loss, backward,
            optimiser, memories, embedding and clustering take.
        compile: compile the network by torch.compile, which takes minutes and can make the steps of
            a GPU faster; a CPU also needs a C++ compiler.
        dry_run: only say images, epochs, batches, memory, disk and time, as estimated from a few
            batches on one device; nothing is written.

    Raises:
        InputError: unusable settings or data, or `out` holds a run already.
    """
    out = out or _usual_folder(method, data, seed)
    words = {**locals(), "devices": 1}
    return _by_one(words) if devices == 1 or dry_run else _by_several(words, devices)


def _by_one(words: dict[str, Any]) -> Trained | Outlook:
    """Train in this process, or say what that takes; `words` are the command's arguments."""
    import visir.training.train

    same = ("preset", "seed", "split", "layout", "start", "device", "accumulate")
    how = {name: words[name] for name in same}
    how |= {"settings": parse_pairs(words["set"]), "exclude": words["exclude_list"]}
    method, data, out = words["method"], words["data"], words["out"]
    if words["dry_run"]:
        return visir.training.train.dry_run(method, data, out, **how)
    how |= {
        name: words[name] for name in ("resume", "save_every", "batch_norm", "profile", "compile")
    }
    scored = _score_every(words["eval_every"], out, data, words["layout"], words["split"])
    return _trained(visir.training.train.train(method, data, out, **how, on_epoch=scored))


def _by_several(words: dict[str, Any], devices: int) -> Trained:
    from visir.core.run import Run
    from visir.training.launch import launch

    launch(devices, words["device"], partial(train, words.pop("method"), **words))
    return _trained(Run(words["out"]))


def _trained(run: Run) -> Trained:
    from visir.commands.next_step import after_training

    return Trained(run, after_training(run))


def _usual_folder(method: str, data: Path, seed: int) -> Path:
    name = method.rpartition(":")[2].lower()
    return Path("runs") / f"{name}-{data.resolve().name}-{seed}"


def _score_every(
    every: int, out: Path, data: Path, layout: str | None, split: int
) -> OnEpoch | None:
    """A callback of training that logs the scores of the data set's first protocol; 0: none."""
    if every <= 0:
        return None
    from visir.core.run import Run
    from visir.core.types import InputError
    from visir.data.registry import open_benchmark
    from visir.evaluation.evaluate import score_and_log

    benchmark = open_benchmark(data, layout, split)
    first = list(benchmark.protocols)[:1]
    if not first:
        raise InputError(
            f"{benchmark.root}: has no labelled test images, so --eval-every cannot score; leave "
            "it out"
        )

    def on_epoch(epoch: int, plan: Plan | None, embedder: Embedder) -> float | None:
        if (epoch + 1) % every:
            return None
        label = "start" if plan is None else plan.stage
        found = score_and_log(
            Run(out), embedder, benchmark=benchmark, epoch=epoch, label=label, protocols=first
        )
        return found.results[first[0]].mean.mAP

    return on_epoch
