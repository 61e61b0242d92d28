"""Plots of a report as inline SVG in the colours of the page, in light and in dark mode."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Matplotlib needs fixed colours; these two are replaced by the page's colours afterwards.
INK, LINE = "#010203", "#010204"
VISIBLE, INFRARED, THIRD = "#d9822b", "#6c72e0", "#2a9d8f"
SERIES = (VISIBLE, INFRARED, THIRD, "#c2528b", "#8a8f2a", "#4a90c2", "#b0614a", "#7f868f")
# Twelve tones that can be distinguished on white and on near-black.
TONES = (
    *("#e45756", "#3b8fd4", "#3fa35a", "#e58a2f", "#9b6bd1", "#17a2a2"),
    *("#d65fa5", "#9a7d3a", "#7fae2e", "#5f6fd8", "#c94f7c", "#4d8b8b"),
)

Points = Sequence[tuple[float, float]]


def lines(
    series: Sequence[tuple[str, str, Points]],
    x_label: str,
    y_label: str,
    *,
    percent: bool = False,
    level: tuple[str, float] | None = None,
    bounds: Sequence[tuple[str, float]] = (),
) -> str:
    """A line plot with a point per epoch.

    Args:
        series: (name, colour, points) of each line.
        x_label: quantity on the x axis, with its unit.
        y_label: quantity on the y axis, with its unit.
        percent: values are fractions, drawn as percent from zero.
        level: a named horizontal reference line.
        bounds: name and begin of each training stage.

    Returns:
        An SVG element for a page that defines --line.
    """
    factor = 100.0 if percent else 1.0
    with _drawing(4.3, 2.9, repr((y_label, *series, *bounds))) as (axes, done):
        for name, colour, points in series:
            x, y = zip(*points, strict=True) if points else ((), ())
            values = [factor * value for value in y]
            axes.plot(x, values, color=colour, label=name, marker="o", markersize=3, linewidth=1.8)
        if level is not None:
            name, value = level
            axes.axhline(factor * value, color=INK, linewidth=1, linestyle=(0, (4, 3)), label=name)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if _below_zero(series) else 0.0)
        _whole_epochs(axes)
        highest = axes.get_ylim()[1]
        top = highest * (1.12 if bounds else 1.0)
        axes.set_yticks([tick for tick in axes.get_yticks() if tick <= highest])  # not across names
        axes.set_ylim(top=top)
        for name, x_bound in bounds:
            axes.axvline(x_bound, color=LINE, linewidth=1)
            axes.text(x_bound, top, f" {name}", fontsize=8, color=INK, va="top", alpha=0.7)
        if len(series) + (level is not None) > 1:
            columns = min(3, len(series) + (level is not None))
            axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, **_LEGEND)
        return done()


def _below_zero(series: Sequence[tuple[str, str, Points]]) -> bool:
    return any(value < 0 for _, _, points in series for _, value in points)


_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 9,
    "labelcolor": INK,
    "handlelength": 1.4,
    "columnspacing": 1.2,
    "borderaxespad": 0.2,
}


@contextmanager
def _drawing(width: float, height: float, salt: str) -> Iterator[tuple[Axes, Callable[[], str]]]:
    """Axes to draw on, and a function that returns the SVG; sizes in inches.

    `salt` makes the names inside the SVG differ from those of other figures on the page.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 10}):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(LINE)
        axes.tick_params(colors=INK, length=0, labelsize=9)
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        axes.grid(axis="y", color=LINE, linewidth=0.8)
        axes.set_axisbelow(True)

        def done() -> str:
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
            return _inline(buffer.getvalue())

        yield axes, done


def _inline(svg: str) -> str:
    """Reduce a stand-alone SVG file to an inline element in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", svg, count=5)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)  # names of groups, the same in every figure
    svg = svg.replace("xlink:href", "href").replace("<svg", '<svg aria-hidden="true"', 1)
    return svg.replace(INK, "currentColor").replace(LINE, "var(--line)")


def _whole_epochs(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
