"""The columns of a table: their names, titles, and where each number is in a job's result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from visir.bench.statistics import Interval, mean_interval, median

LABELS = "labels."
"""Begin of the name of a column that shows a number of the last plan, such as labels.cats_kept."""

Pick = Callable[[Mapping[str, Any], str], float | None]
"""From a job's result and the key of a protocol to a number; None if the job has none."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    title: its head; picks: name -> the numbers it shows, one or one for each modality, in the unit
    shown; digits: after the point; spread: whether the spread over seeds is shown; over_seeds: what
    makes one number of those of the seeds.
    """

    title: str
    picks: Mapping[str, Pick]
    digits: int = 1
    spread: bool = False
    over_seeds: Callable[[Sequence[float]], Interval] = mean_interval


def scores_of(result: Mapping[str, Any], protocol: str) -> Mapping[str, Any]:
    """The scores of this protocol, or of the first one that the data set has instead."""
    scores = result["scores"]
    found: Mapping[str, Any] = scores.get(protocol) or next(iter(scores.values()))
    return found


def _score(name: str, scale: float = 100.0) -> Pick:
    def pick(result: Mapping[str, Any], protocol: str) -> float | None:
        return scale * float(scores_of(result, protocol)["mean"][name])

    return pick


def _trials(number: Callable[[list[dict[str, Any]]], float]) -> Pick:
    def pick(result: Mapping[str, Any], protocol: str) -> float | None:
        return number(scores_of(result, protocol)["trials"])

    return pick


def _label(name: str, scale: float = 100.0, plan: str = "labels") -> Pick:
    def pick(result: Mapping[str, Any], _: str) -> float | None:
        value = result.get(plan, {}).get(name)
        return None if value is None else scale * float(value)

    return pick


def _own(name: str) -> Pick:
    def pick(result: Mapping[str, Any], _: str) -> float | None:
        return float(result[name])

    return pick


def _both(name: str, scale: float = 100.0) -> dict[str, Pick]:
    """A measure of each modality."""
    sides = [f"{name}_{side}" for side in ("visible", "infrared")]
    return {side: _label(side, scale) for side in sides}


def _scored(title: str, name: str) -> Column:
    return Column(title, {name: _score(name)}, spread=True)


def _measured(title: str, name: str, scale: float = 100.0) -> Column:
    return Column(title, {name: _label(name, scale)})


COLUMNS: dict[str, Column] = {
    "rank1": _scored("rank-1, %", "rank1"),
    "rank5": _scored("rank-5, %", "rank5"),
    "rank10": _scored("rank-10, %", "rank10"),
    "rank20": _scored("rank-20, %", "rank20"),
    "mAP": _scored("mAP, %", "mAP"),
    "mINP": _scored("mINP, %", "mINP"),
    "chance_mAP": Column("mAP by chance, %", {"chance_mAP": _score("chance_mAP")}),
    "difference": Column("mAP less the control's", {"difference": _score("mAP")}),
    "pairs_correct": _measured("right pairs, %", "pairs_correct"),
    "none_precision": _measured("no match: precision, %", "none_precision"),
    "none_recall": _measured("no match: recall, %", "none_recall"),
    "ari": _measured("ARI, %", "ari"),
    "ari_clustered": _measured("ARI without outliers, %", "ari_clustered"),
    "image_pairs_precision": _measured("image pairs, precision, %", "image_pairs_precision"),
    "image_pairs_recall": _measured("image pairs, recall, %", "image_pairs_recall"),
    "purity": Column("purity, %, vis + ir", _both("purity"), digits=0),
    "first_purity": Column(
        "purity of the first clusters, %, vis + ir",
        {
            f"first_{side}": _label(f"purity_{side}", plan="first_labels")
            for side in ("visible", "infrared")
        },
        digits=0,
    ),
    "outliers": Column("outliers, %, vis + ir", _both("outliers"), digits=0),
    "clusters": Column("clusters, vis + ir", _both("clusters", 1), digits=0),
    "minutes": Column("minutes, median", {"minutes": _own("minutes")}, over_seeds=median),
    "epochs": Column("epochs", {"epochs": _own("epochs")}, digits=0),
    "trials": Column("trials", {"trials": _trials(len)}, digits=0),
    "queries": Column(
        "queries", {"queries": _trials(lambda of: sum(one["queries"] for one in of) / len(of))}
    ),
}
"""Name in a grid file -> column. ARI is the adjusted Rand index of the joint labels."""


def column(name: str) -> Column | None:
    """The column of that name, or of a number of the last plan; None if there is none."""
    if name.startswith(LABELS) and len(name) > len(LABELS):
        return Column(name[len(LABELS) :], {name: _label(name[len(LABELS) :], 1)}, digits=3)
    return COLUMNS.get(name)
