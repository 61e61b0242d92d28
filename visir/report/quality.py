"""The section of a report about images that spoil a search: hubs and poor crops."""

from __future__ import annotations

from collections import Counter
from html import escape

import numpy as np

from visir.core.types import IntArray
from visir.report.health import HUB
from visir.report.images import Pictures
from visir.report.inputs import ReportInputs, evenly
from visir.report.markup import Section, count, note, percent, section
from visir.report.montages import tiles

HUBS, CROPS = 12, 24  # pictures


def quality(inputs: ReportInputs, pictures: Pictures) -> Section | None:
    """Hubs and poor crops, with the numbers of both; None if there are none."""
    health = inputs.health
    hubs, poor = health.hubs(), health.poor
    if not len(hubs) and not poor:
        return None
    return section(
        "quality",
        "Hubs and poor crops",
        _hubs(inputs, pictures, hubs) if len(hubs) else "",
        _poor(inputs, pictures) if poor else "",
        note("In all pictures of this page H marks a hub and ! a poor crop."),
    )


def _hubs(inputs: ReportInputs, pictures: Pictures, hubs: IntArray) -> str:
    health = inputs.health

    def about(row: int) -> str:
        searches = health.searches[inputs.records[row].modality]
        return f"{health.found[row]:,} of {searches:,}"

    lead = (
        f"<p>{count(len(hubs), 'image')} came up among the first hits of searches for many "
        f"different people: at least {HUB:.0f} times as often as an image does on average. "
        f"{percent(health.never())} % of the images came up in no search. Under each picture: in "
        "how many of the searches from the other modality it was among the first "
        f"{max(health.first.values())}.</p>"
        "<p>Do not trust a hit that is a hub. Many hubs mean that the network has learned too "
        "little, or that the crops are of something else than a person.</p>"
    )
    return f"<h3>Hubs</h3>{lead}{tiles(inputs, pictures, hubs[:HUBS], 'wide', about)}"


def _poor(inputs: ReportInputs, pictures: Pictures) -> str:
    poor = inputs.health.poor
    rows = np.array(sorted(poor), np.int64)
    counted = Counter(word for words in poor.values() for word in words.split(", "))
    kinds = ", ".join(f"{number:,} {escape(word)}" for word, number in counted.most_common())
    lead = (
        f"<p>{count(len(rows), 'image')} of {len(inputs.records):,}: {kinds}. Such crops attract "
        "each other whoever is on them. <code>visir check --list</code> writes their names, and "
        "<code>--exclude-list</code> of <code>visir train</code>, <code>embed</code> and "
        "<code>index add</code> leaves them out.</p>"
    )
    shown = tiles(inputs, pictures, rows[evenly(len(rows), CROPS)], "wide", poor.__getitem__)
    return f"<h3>Poor crops</h3>{lead}{shown}"
