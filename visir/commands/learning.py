"""Verbs around a training run: start, score, look at it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.commands.terminal import on_terminal

if TYPE_CHECKING:
    from visir.embedding.pytorch import Embedder
    from visir.methods.contract import Plan
    from visir.training.train import OnEpoch


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
    resume: bool = False,
    device: str = "auto",
    eval_every: int = 0,
) -> None:
    """Train a method on a data set, or on a folder of crops, labelled or not.

    Args:
        method: adca, sdcl, tokenmatcher or cmag; agw, caj, hct or mra with labels; simclr for a
            start without clusters.
        data: the data set's folder.
        out: run folder to write; runs/METHOD-DATA-SEED where not given.
        preset: settings to begin with: tiny, sysu, regdb and, of caj and mra, some more;
            `visir config METHOD` prints them.
        set: settings to replace, as key=value.
        seed: of every random draw.
        split: which of the data set's fixed splits; RegDB has 1 to 10.
        layout: sysu, regdb, llcm or folder; found out where not given.
        start: run folder or weights file whose network training starts from; imagenet takes
            torchvision's file from its cache.
        resume: go on with the run in --out, with the settings stored there.
        device: where the network trains: cpu, cuda, cuda:1; auto takes a GPU where there is one.
        eval_every: score the test images every so many epochs; 0 never does.
    """
    from visir.core.config import parse_pairs
    from visir.training.train import train as run_training

    out = out or Path("runs") / f"{method}-{data.resolve().name}-{seed}"
    run = run_training(
        method,
        data,
        out,
        preset=preset,
        settings=parse_pairs(set),
        seed=seed,
        split=split,
        layout=layout,
        start=start,
        device=device,
        resume=resume,
        on_epoch=_score_every(eval_every, out, data, layout, split) if eval_every > 0 else None,
    )
    print(f"{run.folder}: trained; look at it with\n")
    print(f"  visir eval {shlex.quote(str(run.folder))}")
    print(f"  visir report {shlex.quote(str(run.folder))}")


def pretrain(
    data: Path,
    /,
    *,
    out: Path | None = None,
    method: Literal["dino", "simclr"] = "dino",
    preset: str = "tiny",
    set: tuple[str, ...] = (),
    seed: int = 0,
    layout: str | None = None,
    resume: bool = False,
    device: str = "auto",
) -> None:
    """Make a backbone from unlabelled crops alone, to start methods from.

    Writes pretrained.pth, in the form of TransReID-SSL's files, into the run folder.

    Args:
        data: folder of crops in any arrangement, or of a data set.
        out: run folder to write; runs/pretrain-DATA-SEED where not given.
        method: dino, as TransReID-SSL; or simclr, which learns more in a few minutes.
        preset: settings to begin with: tiny, sysu or regdb; `visir config METHOD` prints them.
        set: settings to replace, as key=value.
        seed: of every random draw.
        layout: sysu, regdb, llcm, folder or crops; found out where not given.
        resume: go on with the run in --out, with the settings stored there.
        device: where the network trains: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.core.config import parse_pairs
    from visir.training.pretrain import pretrain as make_backbone

    out = out or Path("runs") / f"pretrain-{data.resolve().name}-{seed}"
    made = make_backbone(
        data,
        out,
        method=method,
        preset=preset,
        settings=parse_pairs(set),
        seed=seed,
        layout=layout,
        device=device,
        resume=resume,
    )
    print(f"{made}: written; begin a training with --start {shlex.quote(str(made))}")


def convert(file: Path, out: Path, /, *, gem_p: float | None = None) -> None:
    """Turn a trained network of other people's code into a weights file of visir.

    Nothing in the file is run. Says which of its tensors were taken and which are of no use.

    Args:
        file: checkpoint of AGW, CAJ, HCT, SG-MRA, MG-MRA, ADCA, TokenMatcher or CMAG.
        out: .safetensors file to write.
        gem_p: power of the pooling, which files of HCT and MRA do not hold.
    """
    from visir.nets.weights import convert as convert_weights

    net, about, loaded = convert_weights(file, out, gem_p)
    size = "x".join(map(str, about["net"]["image_size"]))
    print(f"{out}: written, a network of {about['method']} for {size}")
    print(f"{type(net).__name__}: {', '.join(f'{k}={v}' for k, v in net.described.items())}")
    print(loaded)
    if loaded.unused:
        print("unused:", ", ".join(loaded.unused))


def evaluate(
    runs: tuple[Path, ...],
    /,
    *,
    data: Path | None = None,
    layout: str | None = None,
    split: tuple[int, ...] = (),
    protocols: tuple[str, ...] = (),
    rerank: Literal["none", "k-reciprocal", "random-walk"] = "none",
    no_flip: bool = False,
    device: str = "auto",
) -> None:
    """Score runs on test images, write scores.json beside each and print a table.

    Several runs (one for each RegDB split, or for each seed) are averaged as well.

    Args:
        runs: run folders, weights files in them, or checkpoints as `visir convert` takes them.
        data: the data set's folder; the one the run was trained on where not given.
        layout: sysu, regdb, llcm or folder; found out where not given.
        split: of the data set, one for all runs or one for each; the run's own where not given.
        protocols: keys of protocols, as all-single-seeded; all of the data set's where not given.
        rerank: let ranked lists heed neighbours, k-reciprocal or random-walk; the table says so.
        no_flip: leave mirror images out, as AGW, HCT and MRA were tested.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.core.types import InputError
    from visir.evaluation.evaluate import evaluate_run, merge

    if not runs:
        raise InputError("eval: no run was given; name at least one run folder")
    splits = split * len(runs) if len(split) == 1 else split or (None,) * len(runs)
    if len(splits) != len(runs):
        raise InputError(f"eval: {len(split)} splits for {len(runs)} runs; give one, or one each")
    evaluations = []
    for run, own in zip(runs, splits, strict=True):
        found = evaluate_run(
            run, data, protocols or None, device, on_terminal(), layout, own, rerank, not no_flip
        )
        evaluations.append(found)
        print(f"{run}\n\n{found.table()}\n")
    if len(runs) > 1:
        print(f"all {len(runs)} runs\n\n{merge(evaluations).table()}")


def report(run: Path, /, *, device: str = "auto") -> None:
    """Write one self-contained HTML page about a run.

    Args:
        run: run folder.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.report import write_report

    print(write_report(run, device))


def config(method: str, /, *, preset: str = "tiny") -> None:
    """Print a method's settings as YAML, each with its unit or source.

    Args:
        method: as of `visir train`.
        preset: tiny, sysu or regdb.
    """
    from visir.core.config import dump_commented
    from visir.training.train import find_preset

    text = dump_commented(find_preset(method, preset))
    print(f"# A source in brackets is that of the default value.\n{text}", end="")


def _score_every(every: int, out: Path, data: Path, layout: str | None, split: int) -> OnEpoch:
    """A callback of training that logs the scores of the data set's first protocol."""
    from visir.core.run import Run
    from visir.data.registry import open_benchmark
    from visir.evaluation.evaluate import score_and_log

    benchmark = open_benchmark(data, layout, split)
    first = list(benchmark.protocols)[:1]

    def on_epoch(epoch: int, plan: Plan | None, embedder: Embedder) -> float | None:
        if (epoch + 1) % every:
            return None
        label = "start" if plan is None else plan.stage
        found = score_and_log(Run(out), embedder, benchmark, epoch, label, first)
        return found.results[first[0]].mean.mAP

    return on_epoch
