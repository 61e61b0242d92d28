"""`visir bench`: compare trainings in a declared grid, with tables, intervals and checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from visir.bench.compare import Comparison
    from visir.bench.render import Rendered
    from visir.bench.run import Listed, Ran
    from visir.bench.stored import Checked


def run(
    grid: str,
    /,
    *,
    out: Path | None = None,
    devices: str = "auto",
    minutes: float | None = None,
    dry_run: bool = False,
    allow_other_build: bool = False,
) -> Ran | Listed:
    """Train and score every arm of a grid with every seed.

    If it was stopped, the same command continues: finished trainings are kept, and one that was
    stopped continues after its last epoch. Results are in results.json.

    Args:
        grid: a grid's YAML file, or the name of one that comes with visir: adapt, backbones, cpu,
            gpu, growth, labels, nothing, parts, parts-person, people, ready, smoke, starts,
            unpaired.
        out: folder for the results; runs/bench-NAME if omitted.
        devices: where trainings run, separated by commas, one training at a time for each entry:
            cpu,cpu runs two; auto uses every visible GPU, or else the CPU.
        minutes: start no further training after so many minutes; those that run are finished.
        dry_run: list the jobs and which are done, and start nothing.
        allow_other_build: continue results that another build of visir began.

    Returns:
        What was done, or the list of jobs.

    Raises:
        InputError: the grid, the folder or a device cannot be used.
    """
    from visir.bench import run as bench

    out = out or Path("runs") / f"bench-{Path(grid).stem}"
    if dry_run:
        return bench.listed(grid, out, allow_other_build=allow_other_build)
    return bench.run(
        grid, out, devices=devices, minutes=minutes, allow_other_build=allow_other_build
    )


def render(
    results: Path,
    /,
    *,
    out: Path | None = None,
    grid: str | None = None,
) -> Rendered:
    """Write the tables and plots that a grid declares.

    Writes the tables as Markdown (.md) and as numbers (.json, for `visir bench check`), and the
    plots (.png).

    Args:
        results: the --out folder of `visir bench run`, or its results.json.
        out: path of the files without ending; table in the folder of the results if omitted.
        grid: file or profile with the labels, titles and columns to use; those of the last run if
            omitted, or of the profile for a results.json.

    Returns:
        The files.

    Raises:
        InputError: there are no results, the control has none, or no grid of the results' name
            comes with visir and none is given.
    """
    from visir.bench import render as bench

    return bench.render(results, out, grid)


def compare(
    first: Path,
    second: Path,
    /,
    *,
    protocol: str | None = None,
    measure: str = "mAP",
    effect: float | None = None,
    unpaired: bool = False,
) -> Comparison:
    """Compare two arms, runs or builds, with 95 % intervals and the seeds needed.

    Scores are averaged over the trials of a seed, then compared over seeds. With one seed the
    interval is over its trials and does not cover the randomness of training.

    Args:
        first: folder of an arm or of a whole grid, a results.json, or scored runs.
        second: the same; arms of the same data set and name are compared if there are several.
        protocol: key of the protocol; the first that both have if omitted.
        measure: rank1, rank5, rank10, rank20, mAP or mINP.
        effect: difference in percent points for which the needed seeds are given too.
        unpaired: the seeds of the two do not belong together.

    Returns:
        The differences, first less second.

    Raises:
        InputError: there is nothing to compare, or the results do not belong together.
    """
    from visir.bench import compare as bench

    return bench.compare(
        first, second, protocol=protocol, measure=measure, effect=effect, paired=not unpaired
    )


def check(
    table: Path,
    /,
    *,
    results: Path,
    tolerance: tuple[str, ...] = (),
) -> Checked:
    """Check that results give the numbers of a stored table.

    Exits with 1 and names each number that differs by more than its tolerance.

    Args:
        table: a .json file of `visir bench render`.
        results: the --out folder of `visir bench run`, or its results.json.
        tolerance: largest differences allowed, as COLUMN=NUMBER or ROW/COLUMN=NUMBER in the table's
            unit; those that the table states, or half of the last digit shown, if omitted.

    Returns:
        All numbers that were compared.

    Raises:
        InputError: a file is damaged, or the results are of another grid.
    """
    from visir.bench import stored as bench
    from visir.core.config import parse_pairs
    from visir.core.types import InputError

    limits = {}
    for name, text in parse_pairs(tolerance, "--tolerance").items():
        try:
            limits[name] = float(text)
        except ValueError:
            raise InputError(f"--tolerance: {name} must be a number, got {text!r}") from None
    return bench.check(table, results, limits)
