"""`visir demo`: everything at once on synthetic people."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from visir.core.run import Run
from visir.core.types import Benchmark, Modality

if TYPE_CHECKING:
    from visir.embedding.pytorch import Embedder
    from visir.evaluation.results import Evaluation, Measures
    from visir.training.train import OnEpoch

TRAIN_IDS, TEST_IDS, IMAGES = 60, 48, 8
SIZE = "128x64"  # rendered; the network uses half of it
PROTOCOL = "all-single-seeded"
EVERY = 5  # epochs between scores on people who are not in the training


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

    Trains without labels and scores on other people, printing each step. The run is in the output
    folder, its people in `people`, the backbone it starts from in `backbone`. If it was stopped,
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
    """A backbone from nothing, then CMAG from there."""
    from visir.training.pretrain import pretrain
    from visir.training.train import BEFORE_TRAINING, train

    run, backbone = Run(out), Run(out / "backbone")
    before_all = BEFORE_TRAINING - 1  # before the backbone too
    run.folder.mkdir(parents=True, exist_ok=True)
    start = pretrain(
        people,
        backbone.folder,
        method="simclr",
        seed=seed,
        resume=backbone.config.exists(),
        on_epoch=_log_scores(run, benchmark, first=before_all, label="random start", every=0),
    )
    train(
        "cmag",
        people,
        out,
        seed=seed,
        start=start,
        resume=run.config.exists(),
        on_epoch=_log_scores(run, benchmark, first=BEFORE_TRAINING, label="backbone", every=EVERY),
    )


def _log_scores(run: Run, benchmark: Benchmark, first: int, label: str, every: int) -> OnEpoch:
    """Log scores before the first epoch, as epoch `first`, and after every `every` epochs."""
    from visir.evaluation.evaluate import score_and_log
    from visir.methods.contract import Plan

    def on_epoch(epoch: int, plan: Plan | None, embedder: Embedder) -> None:
        if plan is not None and (not every or (epoch + 1) % every):
            return
        score_and_log(
            run,
            embedder,
            benchmark=benchmark,
            epoch=first if plan is None else epoch,
            label=label if plan is None else plan.stage,
            protocols=[PROTOCOL],
        )

    return on_epoch


def _before_and_after(run: Run, evaluation: Evaluation) -> str:
    """The network at its random start, before and after training without labels."""
    result = evaluation.results[PROTOCOL]
    after: Measures = result.mean
    lines = [f"{result.protocol}, in percent", f"{'':<28}rank-1    mAP"]
    scores = [line for line in run.read_metrics() if line["kind"] == "scores"]
    earlier = {line["label"]: line for line in scores if line["epoch"] < 0}  # a restart logs again
    for label, line in earlier.items():
        name = "before (backbone)" if label == "backbone" else label
        lines.append(f"{name:<28}{line['rank1']:>6.1%}{line['mAP']:>7.1%}")
    lines.append(f"{'after training':<28}{after.rank1:>6.1%}{after.mAP:>7.1%}")
    lines.append(f"{'chance':<34}{after.chance_mAP:>7.1%}")
    return "\n".join(lines)


def _search(out: Path, people: Path, benchmark: Benchmark) -> str:
    from visir.commands.search import search

    infrared = [r.path for r in benchmark.test if r.modality is Modality.INFRARED]
    queries = infrared[:: len(infrared) // 4][:4]
    found = search(out, tuple(queries), gallery=str(people), k=8, out=out / "search", device="cpu")
    return found.table()


def _next(out: Path, people: Path, seed: int) -> tuple[str, str, str]:
    run, gallery, mine, start, other = (
        shlex.quote(str(path))
        for path in (
            out,
            people,
            out / "mine",
            out / "backbone" / "pretrained.pth",
            f"{out}-{seed + 1}",
        )
    )
    return (
        f"visir search {run} --gallery {gallery} YOUR_IMAGE.jpg --out {mine}",
        f"visir train cmag --data YOUR_CROPS --start {start} --seed {seed}",
        f"visir demo --out {other} --seed {seed + 1}",
    )


def _indented(text: str) -> str:
    return "\n".join(f"     {line}" for line in text.splitlines())
