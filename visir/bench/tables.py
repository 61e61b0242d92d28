"""Tables of a grid's results: as numbers, as Markdown, and as JSON to check results against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visir.bench.columns import Column, Pick, column, scores_of
from visir.bench.grid import Grid
from visir.bench.statistics import Interval, paired_difference, unpaired_difference
from visir.bench.store import Results
from visir.core.types import InputError


@dataclass(frozen=True)
class Shown:
    """What a table shows, from the grid or from a stored table.

    control: key of the arm that differences are taken from; protocol: key of the scores, of data
    sets that have them; columns: their names; paired: whether differences are taken seed by seed;
    rows: the keys of starts and arms, with their labels.
    """

    control: str | None
    protocol: str
    columns: tuple[str, ...]
    paired: bool
    rows: Mapping[str, str]

    @classmethod
    def of(cls, grid: Grid) -> Shown:
        """What a grid declares: starts with a label, and all arms."""
        table = grid.table
        rows = {key: of.label for key, of in grid.starts.items() if of.label}
        rows |= {key: of.label or key for key, of in grid.arms.items()}
        protocol = table.protocol or grid.protocols[0]
        return cls(table.control, protocol, table.columns, grid.paired, rows)


Row = dict[str, Interval]
"""Name of a number (of a column, or of its modality) -> the number over seeds."""


def rows_of(results: Results, data: str, shown: Shown) -> dict[str, Row]:
    """The numbers of a data set's table.

    Args:
        results: finished trainings; some may be missing.
        data: key of the data set.
        shown: what the table shows.

    Returns:
        For each start or arm with a result its numbers, in the unit shown; a number that no job has
        is left out.

    Raises:
        InputError: the control has no result.
    """
    by_arm = {
        name: {seed: result for (of, arm, seed), result in results.items()
               if (of, arm) == (data, name)}
        for name in shown.rows
    }  # fmt: skip
    if shown.control is not None and not by_arm.get(shown.control):
        raise InputError(
            f"table: control: arm {shown.control!r} has no result on data set {data!r}; run the "
            "grid until it has one, or name another control in the grid"
        )
    return {name: dict(_numbers(name, by_arm, shown)) for name, found in by_arm.items() if found}


def _numbers(
    name: str, by_arm: Mapping[str, Mapping[int, Mapping[str, Any]]], shown: Shown
) -> Iterator[tuple[str, Interval]]:
    """The numbers of a row."""
    for key in shown.columns:
        made = known_column(key)
        for number, pick in made.picks.items():
            own = _values(by_arm[name], pick, shown.protocol)
            if key != "difference":
                found = made.over_seeds(list(own.values())) if own else None
            elif name == shown.control:
                found = None
            else:
                control = by_arm[str(shown.control)]
                found = difference(own, _values(control, pick, shown.protocol), shown.paired)
            if found is not None:
                yield number, found


def difference(
    own: Mapping[int, float], other: Mapping[int, float], paired: bool
) -> Interval | None:
    """The difference of two arms' values by seed, over the seeds that both have if paired.

    None if there are none.
    """
    if not paired:
        return unpaired_difference(list(own.values()), list(other.values()))
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return None
    return paired_difference([own[seed] for seed in seeds], [other[seed] for seed in seeds])


def _values(of: Mapping[int, Mapping[str, Any]], pick: Pick, protocol: str) -> dict[int, float]:
    found = {seed: pick(result, protocol) for seed, result in of.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def known_column(name: str) -> Column:
    """The column of that name.

    Raises:
        InputError: there is none.
    """
    found = column(name)
    if found is None:
        raise InputError(f"table: column {name!r} is unknown; correct its name")
    return found


def markdown(grid: Grid, results: Results) -> str:
    """All tables of a grid, one for each data set, and what they show.

    Raises:
        InputError: there is no result at all, or the control has none.
    """
    shown = Shown.of(grid)
    blocks = []
    for data in grid.scored:
        if any(of == data for of, _, _ in results):
            head = grid.table.titles.get(data, data)
            blocks.append("\n".join(_lines(rows_of(results, data, shown), shown, head)))
    if not blocks:
        raise InputError(f"{grid.path}: no training is finished; run the grid first")
    return "\n\n".join([*blocks, _legend(grid, shown, results)]) + "\n"


def _lines(rows: Mapping[str, Row], shown: Shown, head: str) -> Iterator[str]:
    columns = [known_column(name) for name in shown.columns]
    yield f"| {' | '.join([head, *(of.title for of in columns)])} |"
    yield "|" + "---|" * (len(columns) + 1)
    for name, row in rows.items():
        cells = [_cell(key, of, row) for key, of in zip(shown.columns, columns, strict=True)]
        yield f"| {' | '.join([shown.rows[name], *cells])} |"


def _cell(key: str, of: Column, row: Row) -> str:
    found = [row[number] for number in of.picks if number in row]
    if not found:
        return "-"
    if key == "difference":
        return signed(found[0], of.digits)
    if of.spread and found[0].sd is not None:
        return f"{found[0].mean:z.{of.digits}f} ± {found[0].sd:.{of.digits}f}"
    return " + ".join(f"{one.mean:z.{of.digits}f}" for one in found)


def signed(of: Interval, digits: int = 1) -> str:
    """A difference with its interval: +6.4 [-3.0, 15.8]."""
    if of.low is None or of.high is None:
        return f"{of.mean:+.{digits}f} (one seed)"
    return f"{of.mean:+.{digits}f} [{of.low:z.{digits}f}, {of.high:z.{digits}f}]"


def _legend(grid: Grid, shown: Shown, results: Results) -> str:
    """What the numbers are, and who made them."""
    seeds = sorted({seed for _, _, seed in results})
    said = [f"Mean ± sample standard deviation over {len(seeds)} seeds ({_listed(seeds)})."
            if len(seeds) > 1 else f"One seed ({seeds[0]})."]  # fmt: skip
    if "difference" in shown.columns:
        how = "paired over seeds" if shown.paired else "of independent samples (Welch)"
        label = shown.rows[str(shown.control)]
        taken = f"; differences are {how}, with a 95 % t interval" if len(seeds) > 1 else ""
        said.append(f'The control is "{label}"{taken}.')
    names = [scores_of(result, shown.protocol)["protocol"] for result in results.values()]
    said.append(f"Scores: {'; '.join(dict.fromkeys(names))}; last epoch.")
    missing = len(grid.scored) * len(shown.rows) * len(grid.seeds) - len(
        [1 for _, name, _ in results if name in shown.rows]
    )
    said += [f"{missing} trainings are not finished."] if missing else []
    said += [grid.table.caption] if grid.table.caption else []
    return " ".join([*said, _made_by(results)])


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _made_by(results: Results) -> str:
    """Builds and processors."""
    builds, places = set(), set()
    for result in results.values():
        build, place = result["build"], result["processor"]
        commit = f" at {build['commit'][:9]}" if build["commit"] else ""
        builds.add(f"visir {build['version']}{commit}")
        places.add(place.get("gpu") or f"{place['cores']} cores ({place['machine']})")
    return f"{', '.join(sorted(builds))}; {', '.join(sorted(places))}."
