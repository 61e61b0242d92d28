"""Kill trainings with SIGKILL, resume them, and compare with trainings that were left alone.

Every method, preset smoke, on ten synthetic people. Each run is killed several times before it may
end: at a random time, between writing a file and its taking its name, and between two batches. Half
of the runs also save inside their epochs. The final weights and the metrics (without times) must be
equal to those of the run that was left alone.

    python benchmarks/kills.py            # ten to twenty minutes on two cores
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.utils.tensorboard  # before the forks, which then start at once
from safetensors.torch import load_file

from visir.core.run import Run
from visir.methods import METHODS
from visir.synth.write import synthesise
from visir.training.loop import Loop
from visir.training.train import train

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "kills.md"
Kind = Literal["time", "rename", "batch"]
KINDS: tuple[Kind, ...] = ("time", "rename", "batch")
WORDS = {"time": "at a random time", "rename": "before a file takes its name",
         "batch": "between two batches"}  # fmt: skip
CLOCK = ("seconds", "views_per_second")


class Whole(NamedTuple):
    """A run that was left alone: its folder, its seconds, its renames and its batches."""

    run: Run
    seconds: float
    renames: int
    batches: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3, help="of each run; there are two a method")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rows, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        people = Path(place) / "people"
        synthesise(people, ids=10, train_ids=6, images=2, size="32x16", progress=False)
        for method in METHODS:
            whole = left_alone(method, people, Path(place) / method)
            for save_every in (0, 1):
                out = Path(place) / f"{method}-{save_every}"
                rows.append(campaign(whole, method, people, out, save_every, arguments.kills, rng))
                print(*rows[-1].values(), flush=True)
    text = table(rows, (time.perf_counter() - began) / 60)
    print(text)
    TABLE.write_text(text, encoding="utf-8")
    sys.exit(any(row["tensors"] or row["lines"] or row["errors"] for row in rows))


def left_alone(method: str, people: Path, out: Path) -> Whole:
    """Train once without a kill, and count what kills are placed by."""
    file = out.with_suffix(".npy")

    def work() -> None:
        np.save(file, trained(method, people, out, 0, False))

    began = time.perf_counter()
    if os.waitpid(forked(work), 0)[1]:
        raise SystemExit(f"{method} cannot be trained")
    renames, batches = np.load(file).tolist()
    return Whole(Run(out), time.perf_counter() - began, renames, batches)


def campaign(
    whole: Whole, method: str, people: Path, out: Path, save_every: int, kills: int,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """Kill a run, resume it, and so on; then let it end and compare."""
    done: Counter[str] = Counter()
    errors = 0
    for kind in itertools.islice(itertools.cycle(KINDS), kills):
        status = one_kill(whole, kind, method, people, out, save_every, rng)
        done[kind] += os.WIFSIGNALED(status)  # a run that had ended before was not killed
        errors += os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0
    child = forked(lambda: trained(method, people, out, save_every, True))
    errors += os.waitpid(child, 0)[1] != 0
    tensors, lines = differences(whole.run, Run(out))
    return {"method": method, "save_every": save_every, **{kind: done[kind] for kind in KINDS},
            "tensors": tensors, "lines": lines, "errors": errors}  # fmt: skip


def one_kill(
    whole: Whole, kind: Kind, method: str, people: Path, out: Path, save_every: int,
    rng: np.random.Generator,
) -> int:  # fmt: skip
    """Start or resume, and kill; the status of the process."""
    resume = Run(out).config.exists()
    share = rng.uniform(0.1, 0.5)  # of a whole run, so that several kills fit into one
    limits = {"rename": 0, "batch": 0}
    if kind == "rename":
        limits["rename"] = 1 + int(share * whole.renames)
    if kind == "batch":
        limits["batch"] = 1 + int(share * whole.batches)
    child = forked(lambda: trained(method, people, out, save_every, resume, **limits))
    if kind == "time":
        time.sleep(share * whole.seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def trained(
    method: str, people: Path, out: Path, save_every: int, resume: bool,
    rename: int = 0, batch: int = 0,
) -> list[int]:  # fmt: skip
    """Train in this process, which kills itself at the n-th rename or batch; count both."""
    counts = [0, 0]
    replace, step = Path.replace, Loop._step

    def counted_replace(path: Path, target: Path) -> Path:
        counts[0] += 1
        if counts[0] == rename:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    def counted_step(self: Loop, *arguments: Any) -> Any:
        counts[1] += 1
        if counts[1] == batch:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    Path.replace, Loop._step = counted_replace, counted_step  # type: ignore[method-assign]
    words = {"preset": "smoke", "progress": False, "resume": resume}
    train(method, people, out, save_every=save_every, **words)
    return counts


def forked(work: Callable[[], object]) -> int:
    """Do something in a copy of this process; its number."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def differences(one: Run, other: Run) -> tuple[int, int]:
    """Tensors of the final weights and lines of the metrics that are not equal."""
    ours, theirs = load_file(one.weights), load_file(other.weights)
    tensors = sum(not torch.equal(ours[name], theirs[name]) for name in ours)
    pairs = itertools.zip_longest(timeless(one), timeless(other))
    return tensors, sum(first != second for first, second in pairs)


def timeless(run: Run) -> list[dict[str, Any]]:
    lines = run.read_metrics()
    return [{name: v for name, v in line.items() if name not in CLOCK} for line in lines]


def table(rows: list[dict[str, Any]], minutes: float) -> str:
    heads = ["method", "saved within epochs", *(f"killed {WORDS[kind]}" for kind in KINDS),
             "tensors that differ", "metrics lines that differ", "errors"]  # fmt: skip
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cells = list(row.values())
        lines.append([cells[0], "every batch" if cells[1] else "no", *map(str, cells[2:])])
    sums = [str(sum(row[name] for row in rows)) for name in (*KINDS, "tensors", "lines", "errors")]
    lines.append(["all", "", *sums])
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return (
        f"{text}\nPreset smoke, {len(METHODS)} methods, two runs each, resumed after every kill "
        f"(SIGKILL) and compared with a run that was left alone; {minutes:.0f} minutes on "
        f"{os.cpu_count()} cores ({platform.machine()}), PyTorch {torch.__version__}.\n"
    )


if __name__ == "__main__":
    main()
