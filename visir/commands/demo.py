"""`visir demo`: everything at once on synthetic people."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from visir.core.run import Run
from visir.core.types import Benchmark, Modality

if TYPE_CHECKING:
    from visir.embedding.pytorch import Embedder
    from visir.evaluation.results import Evaluation, Measures
    from visir.training.train import OnEpoch

TRAIN_IDS, TEST_IDS, IMAGES = 60, 48, 8
SIZE = "128x64"  # rendered; the network uses less
METHOD = "pairs"
PROTOCOL = "all-single-seeded"
RANDOM, BACKBONE, READY = "random start", "backbone", "ready model"
BEFORE = {
    RANDOM: "random start",
    BACKBONE: "backbone, knows visible images only",
    READY: "before training: the ready model",
}


@dataclass(frozen=True)
class Demo:
    """What the demo wrote, how long it took, and commands to try next."""

    report: Path
    contact_sheet: Path
    minutes: float
    next_steps: tuple[str, ...]

    def __str__(self) -> str:
        steps = "".join(f"\n  {step}" for step in self.next_steps)
        return (
            f"\nDone in {self.minutes:.1f} minutes. Open {self.report} and {self.contact_sheet}."
            f"\nNext, try:{steps}"
        )


def demo(*, out: Path = Path("runs/demo"), seed: int = 0) -> Demo:
    """Show everything on synthetic people: data, training, scores, a search, a report.

    Goes on without labels from the ready model that comes with visir, and scores on other people,
    printing each step. The run is in the output folder, its people in `people`. If it was stopped,
    the same command continues.

    Args:
        out: folder to write; the report is report.html in it.
        seed: seed of the people, of their cameras and of the training.

    Returns:
        What was written.
    """
    from visir.data.check import check
    from visir.data.registry import open_benchmark
    from visir.evaluation.evaluate import evaluate_run
    from visir.report import write_report
    from visir.synth.write import synthesise

    began = time.perf_counter()
    people = out / "people"
    print(f"1/6  Rendering {TRAIN_IDS + TEST_IDS} people under 4 colour and 2 infrared cameras")
    synthesise(
        people,
        ids=TRAIN_IDS + TEST_IDS,
        train_ids=TRAIN_IDS,
        images=IMAGES,
        size=SIZE,
        seed=seed,
    )
    print("2/6  Checking the images")
    print(_indented(check(people).text))
    benchmark = open_benchmark(people)
    print(f"3/6  Training without labels on {len(benchmark.train):,} images of {TRAIN_IDS} people")
    _train(out, people, seed, benchmark)
    print(f"4/6  Scoring on {TEST_IDS} people who are not in the training")
    evaluation = evaluate_run(out)
    print(_indented(evaluation.table()))
    print()
    print(_indented(_before_and_after(Run(out), evaluation)))
    print("5/6  Searching: which visible images show the people on these infrared images?")
    print(_indented(_search(out, people, benchmark)))
    print("6/6  Writing the report", flush=True)
    report = write_report(out)
    minutes = (time.perf_counter() - began) / 60
    return Demo(report, out / "search" / "search.png", minutes, _next(out, people, seed))


def _train(out: Path, people: Path, seed: int, benchmark: Benchmark) -> None:
    """Pairs from the ready model; other starts are only scored, once."""
    from visir.nets.shipped import BUILTIN
    from visir.training.train import held, train

    run = Run(out)
    with held(run):
        known = {line["label"] for line in run.read_metrics() if line["kind"] == "scores"}
        others: dict[str, Callable[[], Embedder]] = {
            RANDOM: partial(_random, seed),
            BACKBONE: partial(_shipped, "person-resnet-micro"),
        }
        for epoch, (label, make) in enumerate(others.items(), start=-1 - len(others)):
            if label not in known:
                _log_scores(run, make(), benchmark, epoch, label)
    train(
        METHOD,
        people,
        out,
        seed=seed,
        start=Path(BUILTIN),
        resume=run.config.exists(),
        on_epoch=_log_every_epoch(run, benchmark),
    )


def _random(seed: int) -> Embedder:
    """The trained network before it has learned anything."""
    import torch

    from visir.embedding.pytorch import Embedder
    from visir.methods import METHODS
    from visir.nets.build import build

    config = METHODS[METHOD].presets["tiny"]
    torch.manual_seed(seed)
    net = build(config.network, config.size)
    about = {"net": {"image_size": config.size}, "method": METHOD}
    return Embedder(net, about)


def _shipped(name: str) -> Embedder:
    import warnings

    from visir.embedding.pytorch import load
    from visir.nets.shipped import FOLDER, ShippedWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShippedWarning)  # these people are synthetic too
        return load(FOLDER / f"{name}.safetensors")


def _log_scores(run: Run, embedder: Embedder, benchmark: Benchmark, epoch: int, label: str) -> None:
    from visir.evaluation.evaluate import score_and_log

    score_and_log(run, embedder, benchmark, epoch, label, [PROTOCOL])


def _log_every_epoch(run: Run, benchmark: Benchmark) -> OnEpoch:
    """Log scores before the first epoch and after every one."""
    from visir.methods.contract import Plan

    def on_epoch(epoch: int, plan: Plan | None, embedder: Embedder) -> None:
        _log_scores(run, embedder, benchmark, epoch, plan.stage if plan else READY)

    return on_epoch


def _before_and_after(run: Run, evaluation: Evaluation) -> str:
    """The trained network, and the networks that were not trained on these people."""
    result = evaluation.results[PROTOCOL]
    after: Measures = result.mean
    lines = [f"{result.protocol}, in percent", f"{'':<38}rank-1    mAP"]
    scores = [line for line in run.read_metrics() if line["kind"] == "scores"]
    earlier = {line["label"]: line for line in scores if line["epoch"] < 0}  # a restart logs again
    rows = {name: (earlier[label]["rank1"], earlier[label]["mAP"])
            for label, name in BEFORE.items()}  # fmt: skip
    rows = {**rows, "after training without labels": (after.rank1, after.mAP)}
    lines += [f"{name:<38}{rank1:>6.1%}{mean:>7.1%}" for name, (rank1, mean) in rows.items()]
    lines.append(f"{'chance':<44}{after.chance_mAP:>7.1%}")
    return "\n".join(lines)


def _search(out: Path, people: Path, benchmark: Benchmark) -> str:
    from visir.commands.search import search

    infrared = [r.path for r in benchmark.test if r.modality is Modality.INFRARED]
    queries = infrared[:: len(infrared) // 4][:4]
    found = search(out, tuple(queries), gallery=str(people), k=8, out=out / "search", device="cpu")
    return found.table()


def _next(out: Path, people: Path, seed: int) -> tuple[str, str, str]:
    run, gallery, mine, other = (
        shlex.quote(str(path)) for path in (out, people, out / "mine", f"{out}-{seed + 1}")
    )
    return (
        f"visir search {run} --gallery {gallery} YOUR_IMAGE.jpg --out {mine}",
        f"visir train {METHOD} --preset own --data YOUR_CROPS --seed {seed}",
        f"visir demo --out {other} --seed {seed + 1}",
    )


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())
