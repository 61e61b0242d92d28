"""Write a grid's tables and plots for a document, and the table to check later results against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visir.bench.grid import Grid, profile_names, read_grid
from visir.bench.plots import draw
from visir.bench.store import Results, Store, read_results
from visir.bench.stored import as_json
from visir.bench.tables import markdown
from visir.core.run import write_json, write_text
from visir.core.types import InputError


@dataclass(frozen=True)
class Rendered:
    """The files that were written, and the tables' text."""

    markdown: Path
    picture: Path
    table: Path
    text: str

    def __str__(self) -> str:
        return f"{self.text}\n{self.markdown}, {self.picture}, {self.table}: written"


def render(results: Path, out: Path | None = None, grid: str | None = None) -> Rendered:
    """Write tables (.md, .json) and plots (.png).

    Args:
        results: the folder of `visir bench run`, or a results.json from one.
        out: the files' common path without ending; `table` beside the results if None.
        grid: the grid whose table, labels and titles are used; if None, the one that ran last, or
            for a results.json the packaged one.

    Returns:
        The files.

    Raises:
        InputError: there are no results, the control has none, or a result is damaged.
    """
    declared, found = _grid_and_results(results, grid)
    stem = out or (results.parent if results.is_file() else results) / "table"
    files = [stem.with_name(stem.name + ending) for ending in (".md", ".png", ".json")]
    text = markdown(declared, found)
    write_text(files[0], text)
    draw(declared, found, files[1])
    write_json(files[2], as_json(declared, found))
    return Rendered(files[0], files[1], files[2], text)


def _grid_and_results(results: Path, named: str | None) -> tuple[Grid, Results]:
    """The grid to render, and the results of its trainings."""
    if results.is_file():
        name, found = read_results(results)
        grid = read_grid(named) if named is not None else _packaged(name, results)
        found = {key: found[key] for key in grid.shown if key in found}
    else:
        store = Store(results)
        declared = store.read_grid()
        name, grid = declared.name, declared if named is None else read_grid(named)
        found = store.trained(grid)
    if grid.name != name:
        raise InputError(
            f"{grid.path}: is the grid {grid.name!r}, and {results} holds results of {name!r}; "
            "name that grid"
        )
    return grid, found


def _packaged(name: str, results: Path) -> Grid:
    if name not in profile_names():
        raise InputError(
            f"{results}: is of the grid {name!r}, which does not come with visir; name the grid's "
            "file with --grid"
        )
    return read_grid(name)
