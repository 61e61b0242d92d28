"""A campaign of faults: kills of indexing, removing, searching and serving, and bad inputs.

Processes are killed with SIGKILL at random times, and before or after a call that writes: a
statement of the database, a file that takes its name, a line of the log. Then the gallery, the
cases and the log must hold what was acknowledged, and nothing of what was removed; the same command
again must end well. Bad inputs are seeded changes of valid files, given to the function that reads
them or sent to a real server. Each fault has a number, and the same seed makes it again, up to the
times and temporary names in it.

    python benchmarks/faults.py                    # about 20 minutes on two cores
    python benchmarks/faults.py --kinds images     # one kind; --kinds help lists them
    python benchmarks/faults.py --out runs/faults  # goes on where it was stopped

What was found is in OUT/found, one folder a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import os
import platform
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fault_desk
import fault_files
import fault_kills
import fault_own
import fault_requests
import fault_shards
import fault_texts
import torch
from fault_kills import Result
from fault_mutations import NOTHING
from fault_world import of
from killing import forked

from visir.core.progress import bar, in_words
from visir.core.types import InputError

TABLE = Path(__file__).parent.parent / "docs" / "tables" / "faults.md"
SERVE = "serve"
INPUTS, KILLS = 1000, 200  # of each kind
LIMIT = 30.0  # seconds for one fault
MEMORY = 3 << 30  # bytes that a process may take beside what it has
CHUNK = {True: 25, False: 100}  # faults of a process; True: kills
COLUMNS = {
    "refused": "refused", "accepted": "accepted rightly", "whole": "whole", "lost": "lost",
    "believed": "believed", "wrongly refused": "refused wrongly", "traceback": "tracebacks",
    "code": "code run", "hang": "too slow or large",
}  # fmt: skip
BAD = ("lost", "believed", "wrongly refused", "traceback", "code", "hang")
One = Callable[[int], Result | None]


class Places(NamedTuple):
    """What the faults work on, made before any process of the campaign."""

    root: Path
    galleries: fault_kills.Galleries
    desk: fault_desk.Desk
    asked: fault_requests.Desk
    readers: dict[str, tuple[Any, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=INPUTS, help="of each kind")
    parser.add_argument("--kills", type=int, default=KILLS, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", help="some of the kinds; help lists them")
    parser.add_argument("--out", type=Path, default=Path("runs/faults"), help="what was done")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # forked processes have none of its threads
    with tempfile.TemporaryDirectory() as place:
        places = made(Path(place).resolve())
        wanted = counts(places, arguments.inputs, arguments.kills)
        if arguments.kinds == ["help"]:
            print("\n".join(wanted))
            return
        wanted = {k: n for k, n in wanted.items() if k in (arguments.kinds or wanted)}
        out = arguments.out / f"seed-{arguments.seed}"
        out.mkdir(parents=True, exist_ok=True)
        done = campaign(places, wanted, out, arguments.seed)
    text = table(done, arguments.seed)
    print(text)
    if (arguments.inputs, arguments.kills, arguments.kinds) == (INPUTS, KILLS, None):
        TABLE.write_text(text, encoding="utf-8")
    sys.exit(any(record["outcome"] in BAD for records in done.values() for record in records))


def made(root: Path) -> Places:
    """Draw images and fill galleries."""
    for name in ("kills", "desk", "asked", "files"):
        (root / name).mkdir()
    readers = (
        fault_files.kinds(root / "files")
        | fault_texts.kinds(root / "files")
        | {
            "tar shards": (fault_shards.make_shard, fault_shards.use_shard),
            "files of visir (JSON)": (fault_own.make_own, fault_own.use_own),
        }
    )
    return Places(
        root,
        fault_kills.Galleries(root / "kills"),
        fault_desk.Desk(root / "desk"),
        fault_requests.Desk(root / "asked"),
        readers,
    )


def counts(places: Places, inputs: int, kills: int) -> dict[str, int]:
    """How many faults of each kind."""
    killed = dict.fromkeys([*fault_kills.KINDS, SERVE], kills)
    return killed | dict.fromkeys([*places.readers, *fault_requests.MAKE], inputs)


def is_kill(kind: str) -> bool:
    return kind in fault_kills.KINDS or kind == SERVE


# ---- the campaign


def campaign(
    places: Places, wanted: dict[str, int], out: Path, seed: int
) -> dict[str, list[dict[str, Any]]]:
    """Make all faults that were not made before: their records by kind."""
    done: dict[str, list[dict[str, Any]]] = {kind: [] for kind in wanted}
    file = out / "results.jsonl"
    for line in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):  # the last one, of a campaign that was killed
            record = json.loads(line)
            done.get(record["kind"], []).append(record)
    before = sum(map(counted, done.values()))
    with bar(
        None, "faults", sum(wanted.values()), unit="faults", show=True, initial=before
    ) as shown:
        for kind, records in done.items():
            while counted(records) < wanted[kind]:
                first, had = len(records), counted(records)
                most = min(CHUNK[is_kill(kind)], wanted[kind] - had)
                with file.open("a") as results:
                    for record in chunk(places, kind, first, most, out, seed):
                        records.append(record)
                        results.write(json.dumps(record) + "\n")
                shown.update(counted(records) - had)
                left = in_words(remaining(done, wanted))
                shown.set_postfix_str(f"{kind}, about {left} left", refresh=False)
    return done


def remaining(done: dict[str, list[dict[str, Any]]], wanted: dict[str, int]) -> float:
    """Seconds that the rest will take: of each kind as it took so far, or as its like did."""
    known: dict[bool, list[float]] = {True: [0.5], False: [0.03]}
    for kind, records in done.items():
        known[is_kill(kind)] += [record["seconds"] for record in records]
    left = 0.0
    for kind, records in done.items():
        seconds = [record["seconds"] for record in records] or known[is_kill(kind)]
        left += (wanted[kind] - counted(records)) * sum(seconds) / len(seconds)
    return left


def counted(records: list[dict[str, Any]]) -> int:
    """Faults that took place: an operation may have ended before its kill."""
    return sum(record["outcome"] != "ended" for record in records)


def chunk(
    places: Places, kind: str, first: int, count: int, out: Path, seed: int
) -> Iterator[dict[str, Any]]:
    """Make some faults in a process of its own, which is ended if one takes too long."""
    reading, channel = os.pipe()
    log = out / "stderr.log"

    def work() -> None:
        os.setpgid(0, 0)  # its own processes end with it
        os.close(reading)
        errors = log.open("wb")
        os.dup2(errors.fileno(), 2)
        faulthandler.register(signal.SIGUSR1, errors)  # says where it is if it takes too long
        with os.fdopen(channel, "w") as told, one_by_one(places, kind, seed) as one:
            for number in range(first, first + count):
                record = outcome(one, number, places, log)
                keep(places, out, kind, record)
                print(json.dumps({"kind": kind, **record}), file=told, flush=True)

    child = forked(work)
    os.close(channel)
    number = first
    with os.fdopen(reading) as told:
        while select.select([told], [], [], LIMIT)[0] and (line := told.readline()):
            yield json.loads(line)
            number += 1
        if number < first + count:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGUSR1)
            time.sleep(0.5)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if number < first + count:
        why = log.read_bytes()[-2000:].decode("utf-8", "replace")
        record = {"number": number, "outcome": "hang", "why": why, "seconds": LIMIT}
        keep(places, out, kind, record)
        yield {"kind": kind, **record}


def outcome(one: One, number: int, places: Places, log: Path) -> dict[str, Any]:
    """Make one fault: its record."""
    size, began = log.stat().st_size, time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = one(number) or Result("ended")
    seconds = time.perf_counter() - began
    with log.open("rb") as file:
        file.seek(size)
        said = file.read()
    if b"Traceback" in said:
        found = Result("traceback", said[-400:].decode("utf-8", "replace"))
    marker = places.root / "marker"
    if marker.exists():
        marker.unlink()
        found = Result("code", found.why)
    why = found.why if found.outcome in BAD else ""
    return {"number": number, "outcome": found.outcome, "why": why, "seconds": round(seconds, 4)}


def keep(places: Places, out: Path, kind: str, record: dict[str, Any]) -> None:
    """Copy what a fault that must not be was made of."""
    here = places.root / "here"
    if record["outcome"] in BAD:
        folder = out / "found" / f"{kind.replace('/', ' ')} {record['number']}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "why.txt").write_text(record["why"])
        if here.exists():
            shutil.copytree(here, folder / "input")
    shutil.rmtree(here, ignore_errors=True)


@contextlib.contextmanager
def one_by_one(places: Places, kind: str, seed: int) -> Iterator[One]:
    """What makes a fault of a kind, by its number."""
    if kind in fault_kills.KINDS:
        yield lambda number: places.galleries.one(kind, of(seed, kind, number))
    elif kind == SERVE:
        yield lambda number: places.desk.one(kind, of(seed, kind, number))
    elif kind in fault_requests.MAKE:
        marker, here = places.root / "marker", places.root / "here"
        with places.asked.serving() as server:

            def asked(number: int) -> Result:
                sent = fault_requests.MAKE[kind](of(seed, kind, number), marker)
                here.mkdir()
                (here / "request").write_bytes(sent.data)
                return fault_requests.judged(server.port, sent)

            yield asked
    else:
        # A declared size that is believed must not take the memory of the machine.
        limit = MEMORY + _pages() * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        make, use = places.readers[kind]
        yield lambda number: read(make, use, of(seed, kind, number), places)


def _pages() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0])


def read(make: Any, use: Any, rng: Any, places: Places) -> Result:
    """Give a bad input to its reader."""
    here = places.root / "here"
    here.mkdir()
    given = make(rng, here, places.root / "marker")
    try:
        use(given.path)
    except InputError as error:
        wrongly = given.how == NOTHING
        return Result("wrongly refused" if wrongly else "refused", str(error))
    except Exception as error:
        return Result("traceback", f"{given.how}: {error!r:.300}")
    return Result("believed" if given.bad else "accepted", given.how)


# ---- the table


def table(done: dict[str, list[dict[str, Any]]], seed: int) -> str:
    heads = ["kind", "kills or inputs", *COLUMNS.values(), "slowest (s)"]
    lines, seconds = [heads, ["---"] * len(heads)], 0.0
    sums: Counter[str] = Counter()
    total: dict[bool, int] = defaultdict(int)
    for kind, records in done.items():
        found = Counter(record["outcome"] for record in records)
        number, killing = counted(records), is_kill(kind)
        total[killing] += number
        sums += found
        seconds += sum(record["seconds"] for record in records)
        unused = ("refused", "accepted") if killing else ("whole", "lost")
        cells = ["" if name in unused else str(found[name]) for name in COLUMNS]
        slowest = max((record["seconds"] for record in records), default=0.0)
        name = f"kill: {kind}" if killing else kind
        lines.append([name, str(number), *cells, f"{slowest:.2f}"])
    lines.append(["all", str(sum(total.values())), *(str(sums[name]) for name in COLUMNS), ""])
    text = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    return (
        f"{text}\n{total[True]:,} kills and {total[False]:,} inputs of seed {seed}, "
        f"{seconds / 60:.0f} minutes on {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, PyTorch {torch.__version__}.\n"
    )


if __name__ == "__main__":
    main()
