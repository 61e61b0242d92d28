"""Write a grid's tables and plots for a document, and the table to check later results against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from visir.bench.grid import read_grid
from visir.bench.plots import draw
from visir.bench.store import Store
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
        results: the folder of `visir bench run`.
        out: the files' common path without ending; `table` in the results folder if None.
        grid: the grid whose table, labels and titles are used; the one that ran last if None.

    Returns:
        The files.

    Raises:
        InputError: there are no results, the control has none, or a result is damaged.
    """
    store = Store(results)
    declared = store.read_grid()
    if grid is not None:
        other = read_grid(grid)
        if other.name != declared.name:
            raise InputError(
                f"{other.path}: is the grid {other.name!r}, and {results} holds results of "
                f"{declared.name!r}; name that grid"
            )
        declared = other
    found = store.trained(declared)
    stem = out or results / "table"
    files = [stem.with_name(stem.name + ending) for ending in (".md", ".png", ".json")]
    text = markdown(declared, found)
    write_text(files[0], text)
    draw(declared, found, files[1])
    write_json(files[2], as_json(declared, found))
    return Rendered(files[0], files[1], files[2], text)
