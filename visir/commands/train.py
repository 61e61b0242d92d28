"""`visir train`: train a method on a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    dry_run: bool = False,
) -> Trained | Outlook:
    """Train a method on a data set, or on a folder of crops.

    Args:
        method: training method, or package.module:Class of your own.
        data: folder of the data set.
        out: run folder to write; runs/METHOD-DATA-SEED if omitted.
        preset: named settings: own, sized by your images and device, for methods without labels;
            tiny, sysu, regdb; some methods have more. `visir config METHOD` shows them.
        set: settings to replace, as key=value.
        seed: seed of all random draws.
        split: which of the data set's fixed splits; RegDB has 1 to 10.
        layout: folder structure; detected if omitted.
        start: run folder or weights file to start from; person (taken by the preset own) and
            builtin are visir's; imagenet is torchvision's or visir[imagenet]'s; none for random.
        exclude_list: names of training images to leave out, a file of `visir check --list`.
        resume: continue the run in --out; --data may name the place its data set has moved to.
        device: where the network trains: cpu, cuda, cuda:1; auto uses a GPU if there is one.
        eval_every: score the test images after every so many epochs; 0 for never.
        save_every: save the state inside an epoch after every so many batches; 0 for never.
        dry_run: only say the images, epochs and batches, and the memory, disk and time they take,
            estimated from a few batches; nothing is written.

    Raises:
        InputError: unusable settings or data, or `out` holds a run already.
    """
    import visir.training.train
    from visir.commands.next_step import after_training
    from visir.core.config import parse_pairs

    out = out or _usual_folder(method, data, seed)
    how: dict[str, Any] = {
        "preset": preset, "settings": parse_pairs(set), "seed": seed, "split": split,
        "layout": layout, "start": start, "exclude": exclude_list, "device": device,
    }  # fmt: skip
    if dry_run:
        return visir.training.train.dry_run(method, data, out, **how)
    scored = _score_every(eval_every, out, data, layout, split) if eval_every > 0 else None
    run = visir.training.train.train(
        method, data, out, **how, resume=resume, save_every=save_every, on_epoch=scored
    )
    return Trained(run, after_training(run))


def _usual_folder(method: str, data: Path, seed: int) -> Path:
    name = method.rpartition(":")[2].lower()
    return Path("runs") / f"{name}-{data.resolve().name}-{seed}"


def _score_every(every: int, out: Path, data: Path, layout: str | None, split: int) -> OnEpoch:
    """A callback of training that logs the scores of the data set's first protocol."""
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
