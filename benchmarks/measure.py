"""What several benchmarks measure by: turns of builds, memory of a process, a spread in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from builds import Worker


def in_turns(workers: Mapping[str, Worker], line: str, turns: int) -> dict[str, list[float]]:
    """What each worker answers to a line, turn by turn; the first turn is not counted.

    The workers change places from turn to turn.
    """
    found: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(turns + 1):
        for name in list(workers) if turn % 2 else list(reversed(workers)):
            answer = workers[name].ask(line)
            if turn:
                found[name].append(answer)
        if turn:
            print(line, {name: round(of[-1], 2) for name, of in found.items()}, flush=True)
    return found


def held(name: str, process: int | str = "self") -> float:
    """MiB of a process's memory, now (VmRSS) or at its peak (VmHWM)."""
    lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def forget_peak() -> None:
    """Let the peak of this process's memory begin anew."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def spread(values: np.ndarray, digits: int) -> str:
    """The median, and the lowest and highest value."""
    low, high = values.min(), values.max()
    return f"{np.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
