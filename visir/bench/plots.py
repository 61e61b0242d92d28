"""Plots of a grid's results: mAP with intervals, and right pairs against mAP."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from visir.bench.columns import COLUMNS
from visir.bench.grid import Grid
from visir.bench.statistics import mean_interval
from visir.bench.store import Results
from visir.bench.tables import Shown
from visir.core.run import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#2f6fb5", "#d98c2b", "#3a8f5c", "#c2528b", "#6c72e0", "#8a8f2a", "#b0614a", "#17a2a2")
_CONTROL = "#8a8a8a"
_MARKERS = "oD^s"  # the next one where the colours begin again


def draw(grid: Grid, results: Results, path: Path) -> None:
    """Write the plots of all data sets with results as one picture.

    Args:
        grid: what was run.
        results: its finished trainings, at least one.
        path: the picture (.png) to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = Shown.of(grid)
    data_sets = [data for data in grid.scored if any(of == data for of, _, _ in results)]
    height = max(2.6, 0.34 * len(shown.rows) + 1.2)
    matched = any("pairs_correct" in result["labels"] for result in results.values())
    width = 10 if matched else 6
    figure = Figure(figsize=(width, height * len(data_sets)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(data_sets), 2 if matched else 1, squeeze=False)
    for data, (left, *right) in zip(data_sets, axes, strict=True):
        _intervals(left, results, data, shown)
        left.set_title(grid.table.titles.get(data, data), fontsize=10, loc="left")
        if right:
            _pairs(right[0], results, data, shown)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    with atomic_write(path) as file:
        file.write(buffer.getbuffer())


def _points(
    results: Results, data: str, name: str, shown: Shown
) -> dict[int, tuple[float, float | None]]:
    """MAP and right pairs by seed, in percent."""
    score, pairs = COLUMNS["mAP"].picks["mAP"], COLUMNS["pairs_correct"].picks["pairs_correct"]
    return {
        seed: (float(score(result, shown.protocol) or 0.0), pairs(result, shown.protocol))
        for (of, arm, seed), result in results.items()
        if (of, arm) == (data, name)
    }


def _style(name: str, shown: Shown) -> tuple[str, str]:
    """Colour and marker of a row."""
    if name == shown.control:
        return _CONTROL, _MARKERS[0]
    turn, place = divmod(
        [of for of in shown.rows if of != shown.control].index(name), len(_COLOURS)
    )
    return _COLOURS[place], _MARKERS[turn % len(_MARKERS)]


def _intervals(axes: Axes, results: Results, data: str, shown: Shown) -> None:
    """The mean of each row with its 95 % t interval, and a small point for each seed.

    Where rows are compared seed by seed, the values are the differences to the control: what the
    rows share, people and cameras of a seed, is not in them.
    """
    scores = {
        name: {seed: score for seed, (score, _) in _points(results, data, name, shown).items()}
        for name in shown.rows
    }
    control = scores.get(shown.control or "", {}) if shown.paired else {}
    label = "mAP, %"
    if control:
        label = f"mAP points above\n“{shown.rows[shown.control or '']}”"
        axes.axvline(0, color=_CONTROL, linewidth=0.8)
    for row, name in enumerate(shown.rows):
        values = list(scores[name].values())
        if control:
            values = [of - control[seed] for seed, of in scores[name].items() if seed in control]
        if not values:
            continue
        of, (colour, marker) = mean_interval(values), _style(name, shown)
        axes.scatter(values, [row] * len(values), s=9, color=colour, alpha=0.4, linewidths=0)
        axes.plot(of.mean, row, marker, color=colour, markersize=6)
        if of.low is not None and of.high is not None:
            axes.plot([of.low, of.high], [row, row], color=colour, linewidth=1.8)
    axes.set_yticks(range(len(shown.rows)), list(shown.rows.values()), fontsize=8)
    axes.set_ylim(len(shown.rows) - 0.5, -0.5)
    axes.set_xlabel(f"{label}: mean, 95 % interval, and seeds", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)


def _pairs(axes: Axes, results: Results, data: str, shown: Shown) -> None:
    """A point for each training that matches clusters, drawn like its row on the left."""
    for name in shown.rows:
        found = _points(results, data, name, shown).values()
        points = [(x, y) for y, x in found if x is not None]
        if points:
            x, y = zip(*points, strict=True)
            colour, marker = _style(name, shown)
            axes.scatter(x, y, s=24, color=colour, marker=marker)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("right pairs of the last epoch, %", fontsize=9)
    axes.set_ylabel("mAP, %", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
