"""One job, in a process of its own: render a data set, or train and score.

    python -m visir.bench.work OUT KEY DEVICE

A job that was stopped anywhere continues: a data set with its missing images, a training after its
last epoch. The result is written last.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from visir.bench.build import processor, this_build
from visir.bench.store import OF_JOB, SCHEMA, Store, read_json
from visir.core.run import Run, write_json
from visir.core.types import InputError

_ABOUT_LINE = ("kind", "epoch", "stage", "warnings")


def work(out: Path, key: str, device: str) -> None:
    """Do a job and write its result.

    Args:
        out: the results folder.
        key: of the job, whose job.json is there.
        device: cpu, cuda or cuda:<n>.

    Raises:
        InputError: the job cannot be done.
    """
    store = Store(out)
    about = read_json(store.job(key), OF_JOB, "run the grid again")
    found = {"schema": SCHEMA, "job": about["job"], "spec": about["spec"]}
    found |= {"build": this_build().as_json(), "torch": torch.__version__, "device": device}
    found |= {"processor": processor(device)}
    began = time.perf_counter()
    if about["job"]["kind"] == "data":
        _render(store.folder(key), about["spec"])
        found["minutes"] = (time.perf_counter() - began) / 60
    else:
        found |= _train(store, key, about["spec"], device)
    write_json(store.result(key), found)


def _render(folder: Path, spec: Mapping[str, Any]) -> None:
    from visir.synth.write import synthesise

    synthesise(folder / "images", **spec["synth"], progress=False)


def _train(store: Store, key: str, spec: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Train, or continue; score the last epoch; remove the training's copy of the images."""
    run = Run(store.folder(key))
    data = store.folder(spec["data"]) / "images"
    start = _start(store, spec["start"])
    if spec["method"]:
        _trained(run, spec, data=data, start=start, device=device)
    scores = _scores(run, start, data, spec, device)
    lines = run.read_metrics()
    epochs = [line for line in lines if line["kind"] == "epoch"]
    labels = [
        {name: value for name, value in line.items() if name not in _ABOUT_LINE}
        for line in lines
        if line["kind"] == "plan"
    ]
    shutil.rmtree(run.folder / "cache", ignore_errors=True)
    return {
        "minutes": sum(line["seconds"] for line in epochs) / 60,
        "epochs": len(epochs),
        "views_per_second": epochs[-1]["views_per_second"] if epochs else None,
        "scores": scores,
        "first_labels": labels[0] if labels else {},
        "labels": labels[-1] if labels else {},
    }


def _scores(
    run: Run, start: Path | None, data: Path, spec: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """Scores by protocol: of the run, or of its start if nothing was trained; none of a pool."""
    from visir.data.registry import open_benchmark
    from visir.embedding.pytorch import load
    from visir.evaluation.evaluate import evaluate, evaluate_run
    from visir.nets.shipped import start_file

    if not spec["protocols"]:
        return {}
    if spec["method"] or start is None:
        found = evaluate_run(run.folder, data, protocols=spec["protocols"], device=device)
    else:
        embedder = load(start_file(str(start), "") or start, device)
        found = evaluate(embedder, open_benchmark(data), spec["protocols"])
    scores: dict[str, Any] = found.as_json()["protocols"]
    return scores


def _trained(
    run: Run, spec: Mapping[str, Any], data: Path, start: Path | None, device: str
) -> None:
    from visir.training.pretrain import pretrain
    from visir.training.train import train

    resume = run.config.exists()
    settings = None if resume else spec["settings"]
    options = {"preset": spec["preset"], "settings": settings, "seed": spec["seed"]}
    options |= {"device": device, "resume": resume, "progress": False}
    if spec["command"] == "pretrain":
        pretrain(data, run.folder, method=spec["method"], **options)
    else:
        train(spec["method"], data, run.folder, start=start, **options)


def _start(store: Store, start: Mapping[str, str] | None) -> Path | None:
    """The file or run folder that a training starts from."""
    if start is None:
        return None
    if "file" in start:
        return Path(start["file"])
    run = Run(store.folder(start["job"]))
    return run.pretrained if run.pretrained.exists() else run.folder


def _end_with_the_parent() -> None:
    """End this process and its own ones when the other end of standard input is closed."""

    def wait() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock Python needs when it ends
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def main() -> int:
    """Run the job that the words name; the parent holds standard input open."""
    _end_with_the_parent()
    out, key, device = sys.argv[1:]
    try:
        work(Path(out), key, device)
    except InputError as error:
        sys.stderr.write(f"visir: error: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
