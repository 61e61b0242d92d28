"""The part of a report on the groups a method found by itself: plots and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from visir.cluster.metrics import without_numbers
from visir.report import figures
from visir.report.inputs import Line, Material, points, stages
from visir.report.markup import note, plot, plots, section

_UNSEEN = "The labels were read for this plot alone, never in training."


class _Plot(NamedTuple):
    """A plot: what stands around it, and its lines by name, colour and metric."""

    title: str
    axis: str
    percent: bool
    caption: str
    lines: tuple[tuple[str, str, str], ...]


def _of_both(metric: str) -> tuple[tuple[str, str, str], ...]:
    return (
        ("visible", figures.VISIBLE, f"{metric}_visible"),
        ("infrared", figures.INFRARED, f"{metric}_infrared"),
    )


_PLOTS = (
    _Plot(
        "Groups found",
        "groups",
        False,
        "Look-alikes put together, in each modality.",
        _of_both("clusters"),
    ),
    _Plot(
        "Left out",
        "images (%)",
        True,
        "Images in no group sit out the epoch.",
        _of_both("outliers"),
    ),
    _Plot(
        "True purity",
        "right images (%)",
        True,
        f"Share of a group's images that show its most frequent person. {_UNSEEN}",
        _of_both("purity"),
    ),
    _Plot(
        "Settled",
        "agreement (%)",
        True,
        "How far the groups are those of the epoch before, by the adjusted Rand index: 100 for the "
        "same, about 0 for chance.",
        _of_both("agreement"),
    ),
    _Plot(
        "Matched across modalities",
        "visible groups",
        False,
        "Visible groups that were given an infrared partner.",
        (("matched", figures.THIRD, "pairs_matched"),),
    ),
    _Plot(
        "Right across modalities",
        "right answers (%)",
        True,
        "Matched: pairs that are one person. None said: groups left without a partner that truly "
        "have none, as no infrared camera saw that person. None due: groups that have none and "
        f"were left without. {_UNSEEN}",
        (
            ("matched", figures.THIRD, "pairs_correct"),
            ("none said", figures.SERIES[3], "none_precision"),
            ("none due", figures.SERIES[5], "none_recall"),
        ),
    ),
    _Plot(
        "Neighbours",
        "images",
        False,
        "Images that enough class tokens call near, for an image on average: within the "
        "modalities, and from one to the other.",
        (
            ("visible", figures.VISIBLE, "neighbours_visible_visible"),
            ("infrared", figures.INFRARED, "neighbours_infrared_infrared"),
            ("to infrared", figures.SERIES[3], "neighbours_visible_infrared"),
            ("to visible", figures.SERIES[4], "neighbours_infrared_visible"),
        ),
    ),
    _Plot(
        "Cameras by themselves",
        "silhouette (%)",
        True,
        "How well separated the groups inside each camera are, one camera after the other.",
        (("silhouette", figures.THIRD, "camera_silhouette"),),
    ),
    _Plot(
        "Cycles (CATS)",
        "pairs (%)",
        True,
        "Kept: edges between near images that a cycle confirms. Across: pairs that join the "
        "modalities.",
        (
            ("kept", figures.THIRD, "cats_kept"),
            ("across", figures.SERIES[3], "cats_across"),
        ),
    ),
    _Plot(
        "Gate (DCAM)",
        "factor",
        False,
        "How much of what tokens hear from the other modality is added to them.",
        (("gate", figures.THIRD, "dcam_gate"),),
    ),
    _Plot(
        "Graph memory (GSMEM)",
        "share (%)",
        True,
        "Infrared share of the queue, where half is meant; nodes that get three neighbours, as in "
        "a crowd, and ten, as when alone.",
        (
            ("infrared", figures.INFRARED, "gsmem_infrared"),
            ("three", figures.SERIES[3], "gsmem_with_3"),
            ("ten", figures.SERIES[5], "gsmem_with_10"),
        ),
    ),
    _Plot(
        "Camera conflicts (CARC)",
        "neighbours (%)",
        True,
        "Neighbours that a common camera neither confirms nor has a better one for; chance drops "
        "fewer of them from epoch to epoch.",
        (
            *_of_both("carc_conflicts"),
            ("dropped, vis", figures.SERIES[3], "carc_dropped_visible"),
            ("dropped, ir", figures.SERIES[5], "carc_dropped_infrared"),
        ),
    ),
)


def clusters(material: Material) -> str:
    """How the groups developed, and what was warned of in which epochs."""
    lines = list(material.lines("plan"))
    if not any("clusters_visible" in line for line in lines):
        return section("clusters", "Clusters", note("This run logged no clusters."))
    drawn = [_drawn(wanted, lines) for wanted in _PLOTS]
    return section(
        "clusters", "Clusters", plots([part for part in drawn if part]), _warnings(lines)
    )


def _drawn(wanted: _Plot, lines: Sequence[Line]) -> str:
    """The plot, or nothing where the run logged none of its lines."""
    series = [(name, colour, points(lines, metric)) for name, colour, metric in wanted.lines]
    series = [line for line in series if line[2]]
    if not series:
        return ""
    told = [line for line in lines if any(metric in line for _, _, metric in wanted.lines)]
    svg = figures.lines(series, "epoch", wanted.axis, percent=wanted.percent, bounds=stages(told))
    return plot(wanted.title, svg, wanted.caption)


def _warnings(lines: Sequence[Line]) -> str:
    """Each kind of warning once, with its epochs and the numbers of the last of them."""
    if not any("warnings" in line for line in lines):
        return ""  # a run of a version that did not look
    epochs: dict[str, list[int]] = {}
    texts: dict[str, str] = {}
    for line in lines:
        for text in line.get("warnings", ()):
            kind = without_numbers(text)
            epochs.setdefault(kind, []).append(line["epoch"] + 1)
            texts[kind] = text
    rows = "".join(
        f"<dt>{_spans(when)}</dt><dd>{escape(texts[name][:1].upper() + texts[name][1:])}</dd>"
        for name, when in epochs.items()
    )
    several = any(len(when) > 1 for when in epochs.values())
    legend = note("Numbers are those of the last epoch named.") if several else ""
    listed = f"<dl>{rows}</dl>{legend}" if rows else note("There was none.")
    return f'<div class="warnings"><h3>Warnings</h3>{listed}</div>'


def _spans(epochs: Sequence[int]) -> str:
    """Rising numbers in words: "epochs 1–3, 7"."""
    spans: list[tuple[int, int]] = []
    for epoch in epochs:
        first = spans.pop()[0] if spans and epoch <= spans[-1][1] + 1 else epoch
        spans.append((first, epoch))
    said = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)
    return f"epoch{'s' * (epochs[-1] > epochs[0])} {said}"
