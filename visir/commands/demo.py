"""Everything at once, on people who do not exist: render, check, train, score, search, report."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from visir.core.run import Run
from visir.core.types import Benchmark, Modality

if TYPE_CHECKING:
    from visir.embedding.pytorch import Embedder
    from visir.evaluation.results import Evaluation, Measures
    from visir.training.train import OnEpoch

TRAIN_IDS, TEST_IDS, IMAGES = 60, 48, 8
SIZE = "128x64"  # rendered; the network sees half of it
PROTOCOL = "all-single-seeded"
EVERY = 5  # epochs between looks at people the training never sees


def demo(out: Path, seed: int = 0, say: Callable[[str], None] = lambda _: None) -> Path:
    """Train without labels on synthetic people and score on others; the report's path.

    The run lies in `out` itself, its people in `people`, the backbone it starts from in `backbone`.
    A demo that was stopped goes on where it was.

    Args:
        out: folder to write.
        seed: of the people, their cameras, and the training.
        say: called with each line to show.
    """
    from visir.data.check import check
    from visir.data.registry import open_benchmark
    from visir.evaluation.evaluate import evaluate_run
    from visir.report import write_report
    from visir.synth.write import synthesise

    began = time.perf_counter()
    people = out / "people"
    say(f"1/6  Rendering {TRAIN_IDS + TEST_IDS} people under 4 colour and 2 infrared cameras")
    synthesise(people, ids=TRAIN_IDS + TEST_IDS, train_ids=TRAIN_IDS, images=IMAGES, size=SIZE,
               seed=seed)  # fmt: skip
    say("2/6  Checking the images")
    say(_indented(check(people).text))
    benchmark = open_benchmark(people)
    say(f"3/6  Training without labels on {len(benchmark.train):,} images of {TRAIN_IDS} people")
    _train(out, people, seed, benchmark)
    say(f"4/6  Scoring on {TEST_IDS} people never seen in training")
    evaluation = evaluate_run(out)
    say(_indented(evaluation.table()))
    say("")
    say(_indented(_before_and_after(Run(out), evaluation)))
    say("5/6  Searching: who is on these infrared images?")
    say(_indented(_search(out, people, benchmark)))
    say("6/6  Writing the report")
    report = write_report(out)
    minutes = (time.perf_counter() - began) / 60
    say(f"\nDone in {minutes:.1f} minutes. Look at {report} and {out / 'search' / 'search.png'}.")
    say("Next, try:")
    for line in _next(out, people, seed):
        say(f"  {line}")
    return report


def _train(out: Path, people: Path, seed: int, benchmark: Benchmark) -> None:
    """A backbone from nothing, then CMAG from there."""
    from visir.training.pretrain import pretrain
    from visir.training.train import train

    run, backbone = Run(out), Run(out / "backbone")
    run.folder.mkdir(parents=True, exist_ok=True)
    start = pretrain(
        people, backbone.folder, "simclr", seed=seed, resume=backbone.config.exists(),
        on_epoch=_look(run, benchmark, first=-2, label="random start", every=0),
    )  # fmt: skip
    train(
        "cmag", people, out, seed=seed, start=start, resume=run.config.exists(),
        on_epoch=_look(run, benchmark, first=-1, label="backbone", every=EVERY),
    )  # fmt: skip


def _look(run: Run, benchmark: Benchmark, first: int, label: str, every: int) -> OnEpoch:
    """Log scores before the first epoch, as epoch `first`, and after every `every` epochs."""
    from visir.evaluation.evaluate import score_and_log
    from visir.methods.contract import Plan

    def on_epoch(epoch: int, plan: Plan | None, embedder: Embedder) -> None:
        if plan is None:
            score_and_log(run, embedder, benchmark, first, label, [PROTOCOL])
        elif every and (epoch + 1) % every == 0:
            score_and_log(run, embedder, benchmark, epoch, plan.stage, [PROTOCOL])

    return on_epoch


def _before_and_after(run: Run, evaluation: Evaluation) -> str:
    """The network at its random start, before and after training without labels."""
    result = evaluation.results[PROTOCOL]
    after: Measures = result.mean
    lines = [f"{result.protocol}, in percent", f"{'':<28}rank-1    mAP"]
    scores = [line for line in run.read_metrics() if line["kind"] == "scores"]
    looks = {line["label"]: line for line in scores if line["epoch"] < 0}  # a restart looks again
    for label, look in looks.items():
        name = "before (backbone)" if label == "backbone" else label
        lines.append(f"{name:<28}{look['rank1']:>6.1%}{look['mAP']:>7.1%}")
    lines.append(f"{'after training':<28}{after.rank1:>6.1%}{after.mAP:>7.1%}")
    lines.append(f"{'chance':<34}{after.chance_mAP:>7.1%}")
    return "\n".join(lines)


def _search(out: Path, people: Path, benchmark: Benchmark) -> str:
    from visir.gallery import search

    infrared = [r.path for r in benchmark.test if r.modality is Modality.INFRARED]
    queries = infrared[:: len(infrared) // 4][:4]
    return search(out, people, queries, k=8, out=out / "search").table()


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
