"""The verdict in the head of a report: one sentence in plain words, and what it rests on."""

from __future__ import annotations

from html import escape
from typing import Literal, NamedTuple

import numpy as np

from visir.core.types import Modality
from visir.report.inputs import ReportInputs
from visir.report.markup import count

Level = Literal["good", "fair", "poor"]
# Limits with labels: ours, in plain words "three of four" and "two of five".
_GOOD, _FAIR, _CHANCE = 0.75, 0.4, 2.0  # rank-1; rank-1; mAP over that of chance
# Limits without labels: ours, between three networks of known accuracy (benchmarks/verdict.py).
_MATCHED, _FEW, _MARGIN, _OUTLIERS, _HUBS = 0.7, 0.35, 0.2, 0.4, 0.02


class Verdict(NamedTuple):
    """level: for the colour; words: the sentence; reasons: what it rests on, and what to do."""

    level: Level
    words: str
    reasons: tuple[str, ...]


def verdict(inputs: ReportInputs) -> Verdict:
    """Judge by the labels of the test images; without labels, by clusters, pairs and hubs."""
    return _by_labels(inputs) if inputs.evaluation is not None else _by_clusters(inputs)


def as_html(found: Verdict) -> str:
    """A box with the sentence and its reasons."""
    reasons = "".join(f"<li>{reason}</li>" for reason in found.reasons)
    return (
        f'<div class="verdict {found.level}" role="note" aria-label="Verdict">'
        f"<p><b>{found.words}</b></p><ul>{reasons}</ul></div>"
    )


def _by_labels(inputs: ReportInputs) -> Verdict:
    assert inputs.evaluation is not None
    result = next(iter(inputs.evaluation.results.values()))
    rank1, mean_ap, chance = result.mean.rank1, result.mean.mAP, result.mean.chance_mAP
    reason = (
        f"The first hit is the right person in {_of_100(rank1)} of 100 searches; mAP is "
        f"{100 * mean_ap:.1f}&nbsp;%, by chance it would be {100 * chance:.1f}&nbsp;% "
        f"({escape(result.protocol)})."
    )
    caveats = [*_caveats(inputs), *_hub_reason(inputs)]
    if mean_ap < _CHANCE * chance:
        words = "Do not use this network: it finds the right person hardly more often than chance."
        return Verdict("poor", words, (reason, *caveats))
    if rank1 >= _GOOD:
        words = "Good on these images: most first hits are right."
        return Verdict("good", words, (reason, *caveats))
    if rank1 >= _FAIR:
        words = "Useful to somebody who checks every hit: the first one is often wrong."
    else:
        words = "Weak: it does better than chance, but most first hits are wrong."
    return Verdict("fair" if rank1 >= _FAIR else "poor", words, (reason, *caveats))


def _by_clusters(inputs: ReportInputs) -> Verdict:
    health = inputs.health
    unknown = f"{escape(inputs.unscored)}, so accuracy is unknown; this verdict rests on clusters."
    if health.grouping is None:
        reason = f"No clusters of people were found: {escape(health.ungrouped)}."
        return Verdict("poor", "Do not rely on this network yet.", (reason, unknown))
    vis, margins = health.grouping.margins()
    margin = float(np.median(margins)) if len(margins) else 0.0
    share = len(vis) / max(1, min(health.grouping.sims.shape))
    out = max(health.measures[f"outliers_{m.value}"] for m in Modality)
    hubs = len(health.hubs()) / max(len(inputs.records), 1)
    reasons = (
        f"{count(len(vis), 'pair')} of clusters match across the modalities, of at most "
        f"{min(health.grouping.sims.shape)}; a pair is more similar than either side to any "
        f"other cluster by {margin:.2f} (median).",
        f"Images in no cluster: {_percents(inputs)}.",
        health.unpaired(),
        *_hub_reason(inputs),
        unknown,
    )
    if out > _OUTLIERS or share < _FEW:
        what = "most people do not form clusters that match across the modalities"
        return Verdict("poor", f"Do not rely on this network yet: {what}.", reasons)
    if share < _MATCHED or margin < _MARGIN or hubs > _HUBS:
        words = "Doubtful: not all clusters match across the modalities, or they match only just."
        return Verdict("fair", words, reasons)
    words = (
        'Looks sound, but nothing is proven: look at the <a href="#pairs">most doubtful pairs</a>.'
    )
    return Verdict("good", words, reasons)


def _hub_reason(inputs: ReportInputs) -> list[str]:
    health = inputs.health
    hubs, poor = len(health.hubs()), len(health.poor)
    parts = [count(hubs, "hub")] if hubs else []
    parts += [count(poor, "poor crop")] if poor else []
    if not parts:
        return []
    return [f'There are {" and ".join(parts)}: <a href="#quality">look at them</a>.']


def _caveats(inputs: ReportInputs) -> list[str]:
    """Why the accuracy of other images can be lower."""
    if inputs.benchmark.name.startswith("synthetic"):
        return ["The people are synthetic; results on photographs are lower."]
    return []


def _percents(inputs: ReportInputs) -> str:
    of = inputs.health.measures
    return " and ".join(f"{100 * of[f'outliers_{m.value}']:.0f}&nbsp;% {m.value}" for m in Modality)


def _of_100(share: float) -> str:
    return f"{100 * share:.0f}"
