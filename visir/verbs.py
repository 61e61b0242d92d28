"""What the command line can do: one verb for each use, each a thin call of one Python function.

Nothing heavy is imported until a verb runs, so that help answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from visir.embed import Embedder
    from visir.methods.contract import Plan
    from visir.train import OnEpoch


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> None:
    """Show everything on synthetic people: data, training, scores, a search, a report.

    Args:
        out: folder to write; the report is report.html in it.
        seed: of the people and of the training.
    """
    from visir.demo import demo as run_demo

    run_demo(out, seed, say=print)


def synth(
    out: Path,
    /,
    *,
    layout: Literal["sysu", "regdb", "llcm"] = "sysu",
    twin: Literal["sysu", "regdb"] | None = None,
    ids: int = 24,
    images: int = 4,
    train_ids: int | None = None,
    size: str | None = None,
    unpaired: float = 0.0,
    seed: int = 0,
    workers: int = 0,
    device: str = "cpu",
) -> None:
    """Make a data set of synthetic people, in the folder layout of a public data set.

    Args:
        out: folder to write; a run that was stopped goes on with what is missing.
        layout: the public data set whose folders and sensors are taken over.
        twin: make that data set's exact identities and image counts; overrules --ids, --images.
        ids: number of identities, training and test together.
        images: number of images of each identity in each camera that sees it.
        train_ids: number of identities for training; half of them where not given.
        size: height x width of the images, in pixels; 288x144 where not given, regdb 128x64.
        unpaired: share (0 to 1) of training identities seen in one modality only.
        seed: of everything that is drawn; the same seed gives the same images.
        workers: number of processes; 0 takes one for each core.
        device: where images are rendered: cpu, cuda.
    """
    from visir.synth.write import synthesise

    synthesise(
        out,
        layout=layout,
        twin=twin,
        ids=ids,
        images=images,
        train_ids=train_ids,
        size=size,
        unpaired=unpaired,
        seed=seed,
        workers=workers,
        device=device,
        progress=_on_terminal(),
    )


def check(data: Path, /, *, layout: str | None = None) -> int:
    """Say what a data set's folder holds, what is missing and what is broken.

    Exits with 1 where there is something to mend.

    Args:
        data: the data set's folder.
        layout: sysu, regdb, llcm or folder; found out where not given.
    """
    from visir.data.check import check as inspect_data

    report = inspect_data(data, layout, progress=_on_terminal())
    print(report.text)
    return 1 if report.problems else 0


def prepare(layout: Literal["sysu", "regdb"], raw: Path, out: Path, /) -> None:
    """Copy a raw data set into a Market-1501 style tree, for other people's code.

    visir itself reads the raw folders. A copy that was stopped goes on where it was.

    Args:
        layout: which data set it is.
        raw: the raw data set's folder.
        out: folder to write.
    """
    from visir.data.prepare import prepare as copy

    copy(layout, raw, out, progress=_on_terminal())
    print(f"{out}: written")


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
    from visir.config import parse_pairs
    from visir.train import train as run_training

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
    from visir.config import parse_pairs
    from visir.pretrain import pretrain as make_backbone

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
    from visir.evaluate import evaluate_run, merge
    from visir.types import InputError

    if not runs:
        raise InputError("eval: no run was given; name at least one run folder")
    splits = split * len(runs) if len(split) == 1 else split or (None,) * len(runs)
    if len(splits) != len(runs):
        raise InputError(f"eval: {len(split)} splits for {len(runs)} runs; give one, or one each")
    evaluations = []
    for run, own in zip(runs, splits, strict=True):
        found = evaluate_run(
            run, data, protocols or None, device, _on_terminal(), layout, own, rerank, not no_flip
        )
        evaluations.append(found)
        print(f"{run}\n\n{found.table()}\n")
    if len(runs) > 1:
        print(f"all {len(runs)} runs\n\n{merge(evaluations).table()}")


def search(
    run: Path,
    images: tuple[Path, ...],
    /,
    *,
    gallery: Path,
    k: int = 10,
    modality: Literal["visible", "infrared"] | None = None,
    same_modality: bool = False,
    gallery_modality: Literal["visible", "infrared"] | None = None,
    out: Path | None = None,
    json: bool = False,
    device: str = "auto",
) -> None:
    """Rank a gallery's images by likeness to the people on query images.

    Args:
        run: run folder or weights file.
        images: the query images.
        gallery: folder of a data set, or of crops.
        k: hits to list for each query (also -k).
        modality: of the query images; found out for each where not given.
        same_modality: rank images of the query's own modality too.
        gallery_modality: of those gallery images no folder name says it of.
        out: folder to write search.json and the contact sheet search.png to.
        json: print JSON instead of a table.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.gallery import search as search_gallery

    result = search_gallery(
        run,
        gallery,
        images,
        modality,
        k,
        out,
        device,
        same_modality=same_modality,
        gallery_modality=gallery_modality,
        progress=_on_terminal(),
    )
    if json:
        from json import dumps

        print(dumps(result.as_json(), indent=1))
    else:
        print(result.table())


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
    from visir.config import dump_commented
    from visir.train import find_preset

    text = dump_commented(find_preset(method, preset))
    print(f"# A source in brackets is that of the default value.\n{text}", end="")


VERBS: dict[str, Callable[..., int | None]] = {
    "demo": demo,
    "synth": synth,
    "check": check,
    "prepare": prepare,
    "train": train,
    "pretrain": pretrain,
    "convert": convert,
    "eval": evaluate,
    "search": search,
    "report": report,
    "config": config,
}


def _on_terminal() -> bool:
    """Whether to draw progress bars."""
    return sys.stderr.isatty()


def _score_every(every: int, out: Path, data: Path, layout: str | None, split: int) -> OnEpoch:
    """A callback of training that logs the scores of the data set's first protocol."""
    from visir.data.manifest import open_benchmark
    from visir.evaluate import score_and_log
    from visir.run import Run

    benchmark = open_benchmark(data, layout, split)
    first = list(benchmark.protocols)[:1]

    def on_epoch(epoch: int, plan: Plan | None, embedder: Embedder) -> float | None:
        if (epoch + 1) % every:
            return None
        label = "start" if plan is None else plan.stage
        found = score_and_log(Run(out), embedder, benchmark, epoch, label, first)
        return found.results[first[0]].mean.mAP

    return on_epoch
