"""Kill trainings with SIGKILL, resume them, and compare with trainings that were left alone.

Every method, preset smoke, on ten synthetic people. Each run is killed several times before it may
end: at a random time, between writing a file and its taking its name, and between two batches. Half
of the runs also save inside their epochs. The final weights and the metrics (without times) must be
equal to those of the run that was left alone. With --processes 2 two processes train each run, and
one of them is killed; the other has to end by itself.

    python benchmarks/kills.py            # about five minutes on two cores
    python benchmarks/kills.py --processes 2
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
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.utils.tensorboard  # before the forks, which then start at once
from killing import forked, killing, statuses
from safetensors.torch import load_file
from torch.distributed import TCPStore

from visir.core.ranks import LostError
from visir.core.run import Run
from visir.methods import METHODS
from visir.synth.write import synthesise
from visir.training.loop import Loop
from visir.training.train import train

TABLES = Path(__file__).parent.parent / "docs" / "tables"
Kind = Literal["time", "rename", "batch"]
torch.set_num_threads(1)  # a process that is forked beside OpenMP's threads can wait for ever
KINDS: tuple[Kind, ...] = ("time", "rename", "batch")
WORDS = {"time": "at a random time", "rename": "before a file takes its name",
         "batch": "between two batches"}  # fmt: skip
CLOCK = ("seconds", "views_per_second")
LEFT = 3  # exit code of a process whose partner was killed
LEAVING = {LostError: LEFT, SystemExit: LEFT}
STORES: list[TCPStore] = []


class Whole(NamedTuple):
    """A run that was left alone: its folder, seconds, renames, batches, and its processes."""

    run: Run
    seconds: float
    renames: int
    batches: int
    processes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=3, help="of each run; there are two a method")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="that train one run")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    rows, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        people = Path(place) / "people"
        synthesise(people, ids=10, train_ids=6, images=2, size="32x16", progress=False)
        for method in arguments.methods:
            whole = left_alone(method, people, Path(place) / method, arguments.processes)
            for save_every in (0, 1):
                out = Path(place) / f"{method}-{save_every}"
                rows.append(campaign(whole, method, people, out, save_every, arguments.kills, rng))
                print(*rows[-1].values(), flush=True)
    text = table(rows, (time.perf_counter() - began) / 60, arguments.processes)
    print(text)
    if list(arguments.methods) == list(METHODS):
        suffix = "" if arguments.processes == 1 else f"-{arguments.processes}"
        (TABLES / f"kills{suffix}.md").write_text(text, encoding="utf-8")
    sys.exit(any(row["tensors"] or row["lines"] or row["errors"] for row in rows))


def left_alone(method: str, people: Path, out: Path, processes: int) -> Whole:
    """Train once without a kill, and count what kills are placed by."""
    file = out.with_suffix(".npy")

    def work(rank: int) -> None:
        counts = trained(method, people, out, 0, False)
        if rank == 0:
            np.save(file, counts)

    began = time.perf_counter()
    if any(statuses(started(work, processes))):
        raise SystemExit(f"{method} cannot be trained")
    renames, batches = np.load(file).tolist()
    return Whole(Run(out), time.perf_counter() - began, renames, batches, processes)


def campaign(
    whole: Whole, method: str, people: Path, out: Path, save_every: int, kills: int,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """Kill a run, resume it, and so on; then let it end and compare."""
    done: Counter[str] = Counter()
    errors = 0
    for kind in itertools.islice(itertools.cycle(KINDS), kills):
        ends = one_kill(whole, kind, method, people, out, save_every, rng)
        killed = any(os.WIFSIGNALED(status) for status in ends)
        done[kind] += killed  # a run that had ended before was not killed
        allowed = (0, LEFT) if killed else (0,)
        errors += sum(
            os.WIFEXITED(status) and os.WEXITSTATUS(status) not in allowed for status in ends
        )
    resume = Run(out).config.exists()  # not if each kill came before the run began
    ends = statuses(
        started(lambda _: trained(method, people, out, save_every, resume), whole.processes)
    )
    errors += sum(status != 0 for status in ends)
    tensors, lines = differences(whole.run, Run(out))
    return {"method": method, "save_every": save_every, **{kind: done[kind] for kind in KINDS},
            "tensors": tensors, "lines": lines, "errors": errors}  # fmt: skip


def one_kill(
    whole: Whole, kind: Kind, method: str, people: Path, out: Path, save_every: int,
    rng: np.random.Generator,
) -> list[int]:  # fmt: skip
    """Start or resume, and kill one process; the statuses of all."""
    resume = Run(out).config.exists()
    share = rng.uniform(0.1, 0.5)  # of a whole run, so that several kills fit into one
    limits = {"rename": 0, "batch": 0}
    if kind == "rename":
        limits["rename"] = 1 + int(share * whole.renames)
    if kind == "batch":
        limits["batch"] = 1 + int(share * whole.batches)
    # Only the first process renames files.
    victim = 0 if kind == "rename" else int(rng.integers(whole.processes))

    def work(rank: int) -> None:
        trained(method, people, out, save_every, resume, **(limits if rank == victim else {}))

    children = started(work, whole.processes)
    if kind == "time":
        time.sleep(share * whole.seconds)
        os.kill(children[victim], signal.SIGKILL)
    return statuses(children)


def trained(
    method: str, people: Path, out: Path, save_every: int, resume: bool,
    rename: int = 0, batch: int = 0,
) -> list[int]:  # fmt: skip
    """Train in this process, which kills itself at the n-th rename or batch; count both."""
    renames = killing([(Path, "replace")], rename)
    batches = killing([(Loop, "_step")], batch)
    words = {"preset": "smoke", "progress": False, "resume": resume}
    train(method, people, out, save_every=save_every, **words)
    return [*renames, *batches]


def started(work: Callable[[int], object], processes: int) -> list[int]:
    """Do something in copies of this process that train together; their numbers."""
    if processes == 1:
        return [forked(lambda: work(0), expected=LEAVING)]
    place = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    STORES.append(place)  # as long as the processes need it
    meet = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(place.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}  # fmt: skip
    return [
        forked(partial(work, rank), {**meet, "RANK": str(rank)}, LEAVING)
        for rank in range(processes)
    ]


def differences(one: Run, other: Run) -> tuple[int, int]:
    """Tensors of the final weights and lines of the metrics that are not equal."""
    ours, theirs = load_file(one.weights), load_file(other.weights)
    tensors = sum(not torch.equal(ours[name], theirs[name]) for name in ours)
    pairs = itertools.zip_longest(timeless(one), timeless(other))
    return tensors, sum(first != second for first, second in pairs)


def timeless(run: Run) -> list[dict[str, Any]]:
    lines = run.read_metrics()
    return [{name: v for name, v in line.items() if name not in CLOCK} for line in lines]


def table(rows: list[dict[str, Any]], minutes: float, processes: int) -> str:
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
        f"{text}\nPreset smoke, {len(METHODS)} methods, two runs each, each trained by {processes} "
        f"process{'es, of which one is killed' if processes > 1 else ''}, resumed after every kill "
        f"(SIGKILL) and compared with a run that was left alone; {minutes:.0f} minutes on "
        f"{os.cpu_count()} cores ({platform.machine()}), PyTorch {torch.__version__}.\n"
    )


if __name__ == "__main__":
    main()
