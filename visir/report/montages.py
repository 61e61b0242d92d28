"""The sections of a report that show clusters as pictures, and pairs of clusters."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import numpy as np

from visir.core.types import IntArray, Modality
from visir.evaluation.grouping import Grouping, to_centres
from visir.report.images import Pictures
from visir.report.inputs import ReportInputs, evenly
from visir.report.markup import Section, count, note, percent, section

LARGEST, LOOSEST, MEMBERS, OUTLIERS = 4, 4, 6, 12  # clusters, images of each; in each modality
PAIRS, SIDE = 5, 4  # most confident and most doubtful pairs; images of each side


class _Clusters:
    """The clusters of one modality. near_N: cosine of each image with its cluster's centre."""

    def __init__(self, inputs: ReportInputs, grouping: Grouping, modality: Modality) -> None:
        self.inputs, self.modality = inputs, modality
        self.rows, self.labels = inputs.health.rows[modality], grouping.labels[modality]
        self.near_N = to_centres(grouping.units[modality], self.labels)
        kept = self.labels >= 0
        self.sizes: IntArray = np.bincount(self.labels[kept]).astype(np.int64)
        self.tightness = np.bincount(self.labels[kept], self.near_N[kept]) / self.sizes

    def members(self, cluster: int, number: int) -> IntArray:
        """Rows of some images of a cluster, from the most to the least typical."""
        own = np.flatnonzero(self.labels == cluster)
        own = own[np.argsort(-self.near_N[own], kind="stable")]
        return self.rows[own[evenly(len(own), number)]]

    def all(self, cluster: int) -> IntArray:
        """Rows of all images of a cluster."""
        rows: IntArray = self.rows[self.labels == cluster]
        return rows


def clusters(inputs: ReportInputs, pictures: Pictures) -> Section | None:
    """The largest and the loosest clusters of each modality, and images in none."""
    grouping = inputs.health.grouping
    if grouping is None:
        return None
    lead = (
        "<p>Images that the network finds similar, each modality by itself. A row begins with the "
        "most typical image and ends with the least typical one. In a good cluster all images "
        "show one person.</p>"
    )
    parts = []
    for modality in Modality:
        side = _Clusters(inputs, grouping, modality)
        largest = np.argsort(-side.sizes, kind="stable")[:LARGEST]
        rest = [c for c in np.argsort(side.tightness, kind="stable") if c not in largest]
        parts += [
            '<div class="columns">',
            _rows(side, pictures, f"Largest {modality.value} clusters", largest.tolist()),
            _rows(side, pictures, f"Loosest {modality.value} clusters", rest[:LOOSEST]),
            "</div>",
            _outliers(side, pictures),
        ]
    return section("groups", "Clusters as pictures", lead, note(_counted(inputs)), *parts)


def pairs(inputs: ReportInputs, pictures: Pictures) -> Section | None:
    """Pairs of clusters across the modalities: the most confident and the most doubtful ones."""
    grouping = inputs.health.grouping
    if grouping is None or not (grouping.partners >= 0).any():
        return None
    sides = {m: _Clusters(inputs, grouping, m) for m in Modality}
    vis, margins = grouping.margins()
    order = vis[np.argsort(-margins, kind="stable")]
    by_margin = dict(zip(vis.tolist(), margins.tolist(), strict=True))
    number = min(PAIRS, (len(order) + 1) // 2)
    doubtful = order[::-1][: min(PAIRS, len(order) - number)]
    lead = (
        "<p>A visible and an infrared cluster that are each other's most similar are taken for one "
        "person. Look at the doubtful ones first: if they show the same people, the network can be "
        "relied on; if even the confident ones do not, it cannot.</p>"
        f"<p>{inputs.health.unpaired()}</p>"
    )
    parts = []
    for title, chosen in (
        ("Most confident pairs", order[:number]),
        ("Most doubtful pairs", doubtful),
    ):
        found = "".join(_pair(pictures, sides, grouping, c, by_margin[c]) for c in chosen.tolist())
        parts.append(f"<h3>{title}</h3>{found}" if found else "")
    under = note(
        "Similarity: cosine of the centres, at most 1. Margin: how much more similar the two are "
        "than either is to any other cluster; the pairs are sorted by it."
    )
    return section("pairs", "Pairs across modalities", lead, under, _right(inputs), *parts)


def _right(inputs: ReportInputs) -> str:
    """How many pairs are right, if the people are known."""
    of = inputs.health.measures
    if "pairs_correct" not in of:
        return ""
    said = [f"{percent(of['pairs_correct'])} % of the pairs show one person."]
    if "image_pairs_precision" in of and "image_pairs_recall" in of:
        said.append(
            f"Of all pairs of a visible and an infrared image in matched clusters "
            f"{percent(of['image_pairs_precision'])} % show one person (precision), and of all "
            f"that show one person {percent(of['image_pairs_recall'])} % are in matched clusters "
            "(recall)."
        )
    said.append(
        "Adjusted Rand index of clusters and people, matched clusters being one and each image in "
        f"no cluster one of its own: {percent(of['ari'])} %."
    )
    return note(f"By the identities, which no cluster depends on: {' '.join(said)}")


def _rows(side: _Clusters, pictures: Pictures, title: str, chosen: list[int]) -> str:
    found = "".join(
        f'<figure class="group"><figcaption>{_about(side, cluster)}</figcaption>'
        f"{tiles(side.inputs, pictures, side.members(cluster, MEMBERS))}</figure>"
        for cluster in chosen
    )
    return f"<div><h3>{title}</h3>{found}</div>" if found else ""


def _outliers(side: _Clusters, pictures: Pictures) -> str:
    rows = side.rows[side.labels < 0]
    if not len(rows):
        return ""
    shown = rows[evenly(len(rows), OUTLIERS)]
    said = (
        f"{count(len(rows), f'{side.modality.value} image')} like no group of others, "
        f"{percent(len(rows) / len(side.rows))} % of them"
    )
    return (
        f'<h3>Images in no {side.modality.value} cluster</h3><figure class="group"><figcaption>'
        f"{said}</figcaption>{tiles(side.inputs, pictures, shown)}</figure>"
    )


def _about(side: _Clusters, cluster: int) -> str:
    rows, inputs = side.all(cluster), side.inputs
    cameras = len({inputs.records[row].cam for row in rows})
    words = [
        count(len(rows), "image"),
        count(cameras, "camera"),
        f"{side.tightness[cluster]:.2f} similar to its centre",
    ]
    people = {inputs.records[row].pid for row in rows}
    if None not in people:
        words.append("✓ one person" if len(people) == 1 else f"✗ {len(people)} people")
    return " · ".join(words)


def _pair(
    pictures: Pictures,
    sides: dict[Modality, _Clusters],
    grouping: Grouping,
    cluster: int,
    margin: float,
) -> str:
    chosen = {Modality.VISIBLE: cluster, Modality.INFRARED: int(grouping.partners[cluster])}
    visible, infrared = (
        tiles(side.inputs, pictures, side.members(chosen[m], SIDE), m.value)
        for m, side in sides.items()
    )
    sim = grouping.sims[cluster, chosen[Modality.INFRARED]]
    words = [f"<b>margin {margin:.2f}, similarity {sim:.2f}</b>", *_same(sides, chosen)]
    words += [count(len(side.all(chosen[m])), f"{m.value} image") for m, side in sides.items()]
    return (
        f'<figure class="pair">{visible}<span class="link" aria-hidden="true">↔</span>{infrared}'
        f"<figcaption>{'<br>'.join(words)}</figcaption></figure>"
    )


def _same(sides: dict[Modality, _Clusters], chosen: dict[Modality, int]) -> list[str]:
    """Whether both clusters show mostly the same person, if people are known."""
    most = []
    for modality, side in sides.items():
        pids = [side.inputs.records[row].pid for row in side.all(chosen[modality])]
        known = [pid for pid in pids if pid is not None]
        if len(known) < len(pids):
            return []
        most.append(max(sorted(set(known)), key=known.count))
    return ["✓ the same person" if most[0] == most[1] else "✗ different people"]


def tiles(
    inputs: ReportInputs,
    pictures: Pictures,
    rows: IntArray,
    kind: str = "",
    about: Callable[[int], str] | None = None,
) -> str:
    """HTML of pictures beside each other, each with its camera.

    Args:
        inputs: the images.
        pictures: where they are collected.
        rows: of the images shown.
        kind: a class of the page: visible, infrared, wide.
        about: what is written under a picture, by its row.
    """
    found = ""
    for row in rows.tolist():
        record = inputs.records[row]
        camera = inputs.camera(record)
        tag = pictures.tag(record, f"{record.modality.value}, {camera}")
        said = "" if about is None else f"<b>{escape(about(row))}</b>"
        found += f'<div class="tile">{tag}{said}<span>{escape(camera)}</span></div>'
    return f'<div class="{f"tiles {kind}".strip()}">{found}</div>'


def _counted(inputs: ReportInputs) -> str:
    of = inputs.health.measures
    parts = [
        f"{count(int(of[f'clusters_{m.value}']), f'{m.value} cluster')} with a median of "
        f"{of[f'median_size_{m.value}']:.0f} images"
        for m in Modality
    ]
    return f"{' and '.join(parts)}. {shown(inputs)}"


def shown(inputs: ReportInputs) -> str:
    """Which images the page is about."""
    number, train = len(inputs.records), len(inputs.benchmark.train)
    if inputs.benchmark.test:
        return f"Images: the {number:,} test images."
    if number < train:
        return f"Images: a sample of {number:,} of the {train:,} training images."
    return f"Images: all {number:,} training images."
