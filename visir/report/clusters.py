"""The section of a report on clusters during training: plots and warnings."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from visir.cluster.metrics import without_numbers
from visir.report import figures
from visir.report.inputs import Line, ReportInputs, points, stages
from visir.report.markup import Section, note, plot, plots, section

_UNSEEN = "The identity labels are used for this plot only, never in training."


class _Plot(NamedTuple):
    """A plot: its title, axis and caption, and its lines by name, colour and metric."""

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
        "Clusters",
        "clusters",
        False,
        "Number of clusters of similar images in each modality.",
        _of_both("clusters"),
    ),
    _Plot(
        "Outliers",
        "images (%)",
        True,
        "Images in no cluster are not used in the epoch.",
        _of_both("outliers"),
    ),
    _Plot(
        "True purity",
        "right images (%)",
        True,
        f"Share of a cluster's images that show its most frequent person. {_UNSEEN}",
        _of_both("purity"),
    ),
    _Plot(
        "Stability",
        "agreement (%)",
        True,
        "Agreement with the clusters of the previous epoch, by the adjusted Rand index: 100 if "
        "equal, about 0 for chance.",
        _of_both("agreement"),
    ),
    _Plot(
        "Matched across modalities",
        "visible clusters",
        False,
        "Visible clusters that have a matched infrared cluster.",
        (("matched", figures.THIRD, "pairs_matched"),),
    ),
    _Plot(
        "Correct matches",
        "share (%)",
        True,
        "Matched: matched pairs that show one person. No match, precision: share of the clusters "
        "without a match whose person no infrared camera saw. No match, recall: share of the "
        f"clusters of such people that have no match. {_UNSEEN}",
        (
            ("matched", figures.THIRD, "pairs_correct"),
            ("no match, precision", figures.SERIES[3], "none_precision"),
            ("no match, recall", figures.SERIES[5], "none_recall"),
        ),
    ),
    _Plot(
        "Image pairs across modalities",
        "share (%)",
        True,
        "Pairs of a visible and an infrared image that have one label, matched clusters being one. "
        "Precision: the share of them that show one person. Recall: the share of all pairs of one "
        f"person that are found; images in no cluster are in none. {_UNSEEN}",
        (
            ("precision", figures.THIRD, "image_pairs_precision"),
            ("recall", figures.SERIES[3], "image_pairs_recall"),
        ),
    ),
    _Plot(
        "Labels against people",
        "agreement (%)",
        True,
        "Adjusted Rand index of the labels of both modalities, matched clusters being one, and "
        "people: 100 if equal, about 0 for chance. With all images, each one in no cluster is a "
        f"cluster of its own. {_UNSEEN}",
        (
            ("all images", figures.THIRD, "ari"),
            ("without outliers", figures.SERIES[3], "ari_clustered"),
        ),
    ),
    _Plot(
        "Neighbours",
        "images",
        False,
        "Average number of images that are near an image by enough class tokens: within each "
        "modality, and from one to the other.",
        (
            ("visible", figures.VISIBLE, "neighbours_visible_visible"),
            ("infrared", figures.INFRARED, "neighbours_infrared_infrared"),
            ("to infrared", figures.SERIES[3], "neighbours_visible_infrared"),
            ("to visible", figures.SERIES[4], "neighbours_infrared_visible"),
        ),
    ),
    _Plot(
        "Clusters within cameras",
        "silhouette (%)",
        True,
        "How well the clusters within each camera are separated, one camera after the other.",
        (("silhouette", figures.THIRD, "camera_silhouette"),),
    ),
    _Plot(
        "Cycles (CATS)",
        "pairs (%)",
        True,
        "Kept: edges between near images that a cycle confirms. Across: pairs of images of "
        "different modalities.",
        (
            ("kept", figures.THIRD, "cats_kept"),
            ("across", figures.SERIES[3], "cats_across"),
        ),
    ),
    _Plot(
        "Gate (DCAM)",
        "factor",
        False,
        "The factor with which features of the other modality are added to the tokens.",
        (("gate", figures.THIRD, "dcam_gate"),),
    ),
    _Plot(
        "Graph memory (GSMEM)",
        "share (%)",
        True,
        "Infrared share of the queue (it should be half); nodes with three neighbours (dense "
        "regions) and with ten (sparse regions).",
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
        "Conflicts: neighbours that no common camera confirms and for which it has no better one. "
        "Dropped: the share of them removed at random, which falls over the epochs.",
        (
            *_of_both("carc_conflicts"),
            ("dropped, vis", figures.SERIES[3], "carc_dropped_visible"),
            ("dropped, ir", figures.SERIES[5], "carc_dropped_infrared"),
        ),
    ),
)


def clusters(inputs: ReportInputs) -> Section | None:
    """The clusters over the epochs, and the warnings with their epochs."""
    lines = list(inputs.lines("plan"))
    if not any("clusters_visible" in line for line in lines):
        return None
    drawn = [_draw(definition, lines) for definition in _PLOTS]
    drawn = [svg for svg in drawn if svg]
    return section("clusters", "Clusters during training", plots(drawn), _warnings(lines))


def _draw(definition: _Plot, lines: Sequence[Line]) -> str:
    """The plot; empty if the run logged none of its lines."""
    series = [(name, colour, points(lines, metric)) for name, colour, metric in definition.lines]
    series = [line for line in series if line[2]]
    if not series:
        return ""
    logged = [line for line in lines if any(metric in line for _, _, metric in definition.lines)]
    svg = figures.lines(
        series, "epoch", definition.axis, percent=definition.percent, bounds=stages(logged)
    )
    return plot(definition.title, svg, definition.caption)


def _warnings(lines: Sequence[Line]) -> str:
    """Each type of warning once, with its epochs and the numbers of the last of them."""
    if not any("warnings" in line for line in lines):
        return ""  # a run of a version without these checks
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
    legend = note("The numbers are those of the last epoch in the list.") if several else ""
    listed = f"<dl>{rows}</dl>{legend}" if rows else note("No warnings.")
    return f'<div class="warnings"><h3>Warnings</h3>{listed}</div>'


def _spans(epochs: Sequence[int]) -> str:
    """Rising numbers in words: "epochs 1–3, 7"."""
    spans: list[tuple[int, int]] = []
    for epoch in epochs:
        first = spans.pop()[0] if spans and epoch <= spans[-1][1] + 1 else epoch
        spans.append((first, epoch))
    numbers = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in spans)
    return f"epoch {numbers}" if epochs[0] == epochs[-1] else f"epochs {numbers}"
