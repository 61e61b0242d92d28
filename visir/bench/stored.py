"""Stored tables: what `visir bench render` writes as JSON, and the check of results with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from visir.bench.grid import Grid
from visir.bench.store import SCHEMA, Results, read_json, read_results
from visir.bench.tables import Row, Shown, known_column, rows_of
from visir.core.config import did_you_mean
from visir.core.types import InputError

_KEYS = ("schema", "grid", "shown", "tolerance", "tables")
_FIX = "write it anew with visir bench render"
_HALF_A_DIGIT = 0.5  # of the last one shown: the tolerance of a column that states none
_UNSTEADY = ("minutes",)  # differ from run to run: checked only with a stated tolerance


def as_json(grid: Grid, results: Results) -> dict[str, Any]:
    """A grid's tables as plain values."""
    shown = Shown.of(grid)
    tables = {}
    for data in grid.scored:
        if any(of == data for of, _, _ in results):
            rows = rows_of(results, data, shown)
            tables[data] = {name: _plain(row) for name, row in rows.items()}
    return {
        "schema": SCHEMA,
        "grid": grid.name,
        "shown": {
            "control": shown.control,
            "protocol": shown.protocol,
            "columns": list(shown.columns),
            "paired": shown.paired,
            "rows": dict(shown.rows),
        },
        "tolerance": dict(grid.table.tolerance),
        "tables": tables,
    }


def _plain(row: Row) -> dict[str, Any]:
    return {name: asdict(of) for name, of in row.items()}


@dataclass(frozen=True)
class Cell:
    """One number of a stored table and the one that the results give; None if they give none.

    where: data set, arm and number; tolerance: largest difference allowed, in the unit shown.
    """

    where: str
    stored: float
    found: float | None
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the two agree."""
        return self.found is not None and abs(self.found - self.stored) <= self.tolerance

    def __str__(self) -> str:
        found = "nothing" if self.found is None else f"{self.found:.4f}"
        return (
            f"{self.where}: stored {self.stored:.4f}, found {found}, tolerance {self.tolerance:g}"
        )


@dataclass(frozen=True)
class Checked:
    """All numbers of a stored table; its text names those that differ."""

    table: Path
    cells: tuple[Cell, ...]

    @property
    def wrong(self) -> tuple[Cell, ...]:
        """The cells that differ."""
        return tuple(cell for cell in self.cells if not cell.holds)

    @property
    def exit_code(self) -> int:
        """1 if a cell differs."""
        return 1 if self.wrong else 0

    def __str__(self) -> str:
        count = f"{len(self.wrong)} of {len(self.cells)} numbers differ"
        return "\n".join([*map(str, self.wrong), f"{self.table}: {count}"])


def check(table: Path, results: Path, tolerance: Mapping[str, float] | None = None) -> Checked:
    """Compare a stored table with the numbers that results give.

    Args:
        table: a JSON file that `visir bench render` wrote.
        results: the folder of `visir bench run`, or a results.json from one.
        tolerance: by column or ROW/COLUMN, in the unit shown; replaces what the table states.

    Returns:
        All numbers that were compared.

    Raises:
        InputError: a file is damaged, the results are of another grid, or a column is unknown.
    """
    stored = read_json(table, _KEYS, _FIX)
    name, found = read_results(results)
    if name != stored["grid"]:
        raise InputError(
            f"{results}: holds results of the grid {name!r}, and {table} is of "
            f"{stored['grid']!r}; name the results of that grid"
        )
    try:
        shown = Shown(**{**stored["shown"], "columns": tuple(stored["shown"]["columns"])})
        limits = {**stored["tolerance"], **(tolerance or {})}
        _require_columns(limits, shown)
        cells = tuple(_cells(stored["tables"], found, shown, limits))
    except (TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{table}: is damaged ({error!r}); {_FIX}") from None
    if not cells:
        raise InputError(f"{table}: holds no number to compare; {_FIX}")
    return Checked(table, cells)


def _require_columns(limits: Mapping[str, float], shown: Shown) -> None:
    for name, limit in limits.items():
        row, _, title = name.rpartition("/")
        if title not in shown.columns:
            near = did_you_mean(title, shown.columns)
            raise InputError(f"tolerance: the table has no column {title!r}; {near}")
        if row and row not in shown.rows:
            near = did_you_mean(row, shown.rows)
            raise InputError(f"tolerance: the table has no row {row!r}; {near}")
        if not limit >= 0:
            raise InputError(f"tolerance: {name} must be 0 or more, got {limit:g}")


def _cells(
    tables: Mapping[str, Any], found: Results, shown: Shown, limits: Mapping[str, float]
) -> Iterator[Cell]:
    for data, stored in tables.items():
        rows = rows_of(found, data, shown)
        for name, numbers in stored.items():
            row = rows.get(name, {})
            yield _count(f"{data}: {name}", numbers, row)
            own = {title: limits[f"{name}/{title}"] for title in shown.columns
                   if f"{name}/{title}" in limits}  # fmt: skip
            yield from _row(f"{data}: {name}", numbers, row, shown, {**limits, **own})


def _count(where: str, numbers: Mapping[str, Any], row: Row) -> Cell:
    """How many seeds the row is of."""
    stored = max(of["count"] for of in numbers.values())
    found = max((of.count for of in row.values()), default=None)
    return Cell(f"{where}: seeds", stored, found, 0.0)


def _row(
    where: str,
    numbers: Mapping[str, Any],
    row: Row,
    shown: Shown,
    limits: Mapping[str, float],
) -> Iterator[Cell]:
    for key in shown.columns:
        column = known_column(key)
        if key in _UNSTEADY and key not in limits:
            continue
        limit = limits.get(key, _HALF_A_DIGIT * 10**-column.digits)
        for number in column.picks:
            if number in numbers:
                mean = row[number].mean if number in row else None
                yield Cell(f"{where}: {number}", numbers[number]["mean"], mean, limit)
