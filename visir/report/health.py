"""What can be said of images and their embeddings without a label: clusters, hubs, poor crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from visir.cluster.metrics import describe, true_identities
from visir.core.types import FloatArray, InputError, IntArray, Modality, Record
from visir.data.pictures import look_at_all
from visir.data.remarks import poor
from visir.evaluation import ranking
from visir.evaluation.grouping import Grouping, as_people, grouped
from visir.report.images import Mark

FIRST = 10  # hits of a search in which images are counted
HUB = 5.0
"""A hub is among the first hits at least this many times as often as an image is on average: ours,
between networks of known accuracy (benchmarks/verdict.py)."""


class Health(NamedTuple):
    """Of N images, by their row numbers.

    rows: of each modality. grouping: clusters of these rows; None if there are none, for the reason
    `ungrouped`. measures: of the clusters, as `visir.cluster.metrics.describe` names them; those
    that need identities only if every image has one. people: (N,) a number for each image's
    cluster, the same for matched clusters; -1 for outliers. found:
    (N,) how many searches from the other modality have the image among the first hits; first: how
    many hits these are; searches: number of searches for each modality's images. poor: what is
    wrong with an image.
    """

    rows: Mapping[Modality, IntArray]
    grouping: Grouping | None
    ungrouped: str
    measures: Mapping[str, float]
    people: IntArray
    found: IntArray
    first: Mapping[Modality, int]
    searches: Mapping[Modality, int]
    poor: Mapping[int, str]

    def hubs(self) -> IntArray:
        """Rows that are among the first hits far too often, the most frequent first."""
        hubs: list[int] = []
        for modality, rows in self.rows.items():
            average = self.first[modality] * self.searches[modality] / max(len(rows), 1)
            hubs += rows[self.found[rows] > max(HUB * average, 1)].tolist()
        return np.array(sorted(hubs, key=lambda row: (-self.found[row], row)), np.int64)

    def unpaired(self) -> str:
        """A sentence on people who seem to be in one modality only; empty without clusters."""
        if self.grouping is None:
            return ""
        ranges = " and ".join(
            f"{100 * least:.0f} to {100 * most:.0f}&nbsp;% of the {modality.value} ones"
            for modality, (least, most) in self.grouping.unpaired().items()
        )
        return (
            "Images of people who have none in the other modality, as estimated without labels: "
            f"{ranges}; the less sure the pairs are, the wider the range."
        )

    def never(self) -> float:
        """The share of images that are among the first hits of no search."""
        return float((self.found == 0).mean()) if len(self.found) else 0.0

    def marks(self, records: Sequence[Record]) -> dict[Record, Mark]:
        """What is said in the corners of pictures."""
        marks = {records[row]: Mark("!", f"poor crop: {why}") for row, why in self.poor.items()}
        for row in self.hubs().tolist():
            hub = Mark("H", f"hub: among the first hits of {self.found[row]:,} searches")
            poor = marks.get(records[row])
            both = None if poor is None else Mark("H!", f"{hub.words}; {poor.words}")
            marks[records[row]] = both or hub
        return marks


def examine(records: Sequence[Record], features: FloatArray) -> Health:
    """Cluster, search and look at images.

    Args:
        records: the images.
        features: (N, D) unit embeddings, a row for each.
    """
    infrared = np.array([record.modality is Modality.INFRARED for record in records], bool)
    rows = {m: np.flatnonzero(infrared == (m is Modality.INFRARED)) for m in Modality}
    grouping, ungrouped = _grouped(records, features, rows)
    people, measures = np.full(len(records), -1, np.int64), {}
    if grouping is not None:
        for modality, of in as_people(grouping).items():
            people[rows[modality]] = of
        labels = {modality.value: of for modality, of in grouping.labels.items()}
        numbers = true_identities(records)
        truth = None if numbers is None else {m.value: numbers[of] for m, of in rows.items()}
        measures = describe(labels, grouping.partners, truth)
    found = np.zeros(len(records), np.int64)
    first = {m: min(FIRST, max(1, len(rows[m]) // 20)) for m in Modality}
    for modality, side in rows.items():
        found[side] = _occurrences(features[rows[modality.other]], features[side], first[modality])
    searches = {m: len(rows[m.other]) for m in Modality}
    return Health(
        rows, grouping, ungrouped, measures, people, found, first, searches, _poor(records)
    )


def _grouped(
    records: Sequence[Record], features: FloatArray, rows: Mapping[Modality, IntArray]
) -> tuple[Grouping | None, str]:
    sides = {m: [records[row] for row in side] for m, side in rows.items()}
    try:
        return grouped({m: features[side] for m, side in rows.items()}, sides), ""
    except InputError as error:
        return None, str(error).split(";")[0]


def _occurrences(queries_QD: FloatArray, gallery_GD: FloatArray, first: int) -> IntArray:
    """(G,) in how many ranked lists an image is among the first (Radovanovic et al., JMLR 2010)."""
    if not len(queries_QD) or not len(gallery_GD):
        return np.zeros(len(gallery_GD), np.int64)
    hits, _ = ranking.rank(queries_QD, gallery_GD, first)
    return np.bincount(hits.ravel(), minlength=len(gallery_GD)).astype(np.int64)


def _poor(records: Sequence[Record]) -> dict[int, str]:
    looks = look_at_all([(record.path, record.modality, record.span) for record in records])
    return {row: words for row, look in enumerate(looks) if (words := poor(look))}
