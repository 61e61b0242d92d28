"""The sections of a report with images: the data, ranked lists, failures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from visir.core.types import IntArray, Modality, Record
from visir.report.images import Pictures
from visir.report.inputs import Ranked, ReportInputs, evenly
from visir.report.markup import Section, note, percent, scroll, section

IDENTITIES, SAMPLES = 6, 4  # rows of the grid, with labels and without
QUERIES, FAILURES, HITS = 6, 6, 8
CAMERAS = 12  # columns of the grid

Row = tuple[str, dict[int, Record]]


def data(inputs: ReportInputs, pictures: Pictures) -> Section:
    """Example images of both modalities, and the numbers of images."""
    sets = (("Training", inputs.benchmark.train), ("Test", inputs.benchmark.test))
    counts = ". ".join(_counts(name, records) for name, records in sets if records)
    labelled = [record for record in inputs.records if record.pid is not None]
    rows = _identity_rows(labelled) if labelled else _sample_rows(inputs.records)
    half = (len(rows) + 1) // 2
    grids = "".join(_grid(inputs, pictures, part) for part in (rows[:half], rows[half:]) if part)
    what = "One row is one person" if labelled else "Sample images"
    caption = (
        f"{what}; one column is one camera, visible (orange) or infrared (violet). The task is to "
        "find the same person in the other modality."
    )
    return section(
        "data",
        "The data",
        note(f"{counts}."),
        f"<figure>{scroll('Example images', grids, 'grids')}"
        f"<figcaption>{caption}</figcaption></figure>",
    )


def ranked_lists(inputs: ReportInputs, pictures: Pictures) -> Section | None:
    """Ranked lists of queries spread evenly over the test images."""
    numbers = _rankable(inputs)
    if not len(numbers):
        return None
    known = inputs.evaluation is not None
    marks = (
        "A green frame and ✓ mark the same person, an orange frame and ✗ another person."
        if known
        else "The identities are unknown, so no hit is marked right or wrong."
    )
    lead = (
        "<p>The query is at the left, then come the most similar images, best first. "
        f"{marks} The queries are spread evenly over the list, not chosen by result.</p>"
    )
    scored = f"{escape(inputs.protocol.name)}, first trial. " if known else ""
    body = "".join(
        _ranked(inputs, pictures, inputs.ranked(number))
        for number in numbers[evenly(len(numbers), QUERIES)]
    )
    under = note(f"{scored}Beside each rank: cosine similarity, at most 1.")
    return section("ranked", "Ranked lists", lead, under, body)


def failures(inputs: ReportInputs, pictures: Pictures) -> Section | None:
    """The queries with the lowest average precision, worst first."""
    if inputs.evaluation is None:
        return None
    numbers = _rankable(inputs)
    worst = numbers[np.argsort(inputs.precision[numbers], kind="stable")][:FAILURES]
    lead = (
        "<p>The queries with the lowest average precision, the worst first. If no right image is "
        "among the first hits, the first right one is shown at the end of the row.</p>"
    )
    body = "".join(_ranked(inputs, pictures, inputs.ranked(number)) for number in worst)
    return section("failures", "Worst failures", lead, body)


def _counts(name: str, records: Sequence[Record]) -> str:
    words = []
    for modality in Modality:
        side = [record for record in records if record.modality is modality]
        cameras = len({record.cam for record in side})
        cameras_text = "1 camera" if cameras == 1 else f"{cameras} cameras"
        words.append(f"{len(side):,} {modality.value} images from {cameras_text}")
    people = len({record.pid for record in records} - {None})
    return f"{name}: {' and '.join(words)}{f', {people} people' if people else ''}"


def _identity_rows(records: Sequence[Record]) -> list[Row]:
    """One image per camera of identities seen by the most cameras, spread evenly over these."""
    seen: dict[int, dict[int, Record]] = {}
    for record in records:
        seen.setdefault(record.pid or 0, {}).setdefault(record.cam, record)
    highest = max(map(len, seen.values()))
    best = sorted(pid for pid, cams in seen.items() if len(cams) == highest)
    return [(f"person {best[n]}", seen[best[n]]) for n in evenly(len(best), IDENTITIES)]


def _sample_rows(records: Sequence[Record]) -> list[Row]:
    by_cam: dict[int, list[Record]] = {}
    for record in records:
        by_cam.setdefault(record.cam, []).append(record)
    columns = {
        cam: [found[n] for n in evenly(len(found), SAMPLES)] for cam, found in by_cam.items()
    }
    return [
        ("", {cam: found[n] for cam, found in columns.items() if n < len(found)})
        for n in range(SAMPLES)
    ]


def _grid(inputs: ReportInputs, pictures: Pictures, rows: Sequence[Row]) -> str:
    cameras = {record.cam: record for _, cells in rows for record in cells.values()}
    order = sorted(cameras, key=lambda cam: (cameras[cam].modality is Modality.INFRARED, cam))
    order = [order[place] for place in evenly(len(order), CAMERAS)]
    heads = "".join(
        f'<th class="{cameras[cam].modality.value}">{escape(inputs.camera(cameras[cam]))}</th>'
        for cam in order
    )
    body = ""
    for name, cells in rows:
        row = [
            f"<td>{pictures.tag(cells[cam], f'{name} {inputs.camera(cells[cam])}')}</td>"
            if cam in cells
            else '<td class="none">–</td>'
            for cam in order
        ]
        body += f"<tr><th>{escape(name)}</th>{''.join(row)}</tr>"
    head = f"<thead><tr><th></th>{heads}</tr></thead>"
    return f'<table class="grid">{head}<tbody>{body}</tbody></table>'


def _rankable(inputs: ReportInputs) -> IntArray:
    """Numbers of the queries that have a match; of all queries if identities are unknown."""
    if inputs.evaluation is None:
        return np.arange(len(inputs.precision))
    return np.flatnonzero(~np.isnan(inputs.precision))


def _ranked(inputs: ReportInputs, pictures: Pictures, ranked: Ranked) -> str:
    """One row: the query, its first hits, and the first right hit if it has a lower rank."""
    query, match = ranked.query, ranked.match()
    tiles = [_hit(inputs, pictures, ranked, n) for n in range(min(HITS, len(ranked.gallery)))]
    if match is not None and match >= HITS:
        tiles[-1:] = ['<div class="skip">…</div>', _hit(inputs, pictures, ranked, match)]
    head = _tile(pictures, query, "query", "query", inputs.camera(query))
    told = ""
    if ranked.precision is not None and match is not None:
        told = (
            f"<figcaption>Person {query.pid}: average precision {percent(ranked.precision)} %, "
            f"first right image at rank {match + 1} of {len(ranked.gallery)}.</figcaption>"
        )
    return (
        f'<figure class="ranked"><div class="tiles">{head}</div>'
        f'<div class="tiles">{"".join(tiles)}</div>{told}</figure>'
    )


def _hit(inputs: ReportInputs, pictures: Pictures, ranked: Ranked, place: int) -> str:
    record, mark, frame = ranked.gallery[place], "", ""
    if ranked.precision is not None:
        right = record.pid == ranked.query.pid
        mark, frame = ("✓ ", "hit") if right else ("✗ ", "miss")
    score = f"{mark}{place + 1} <span>· {ranked.scores[place]:.2f}</span>"
    return _tile(pictures, record, frame, score, inputs.camera(record))


def _tile(pictures: Pictures, record: Record, frame: str, first: str, second: str) -> str:
    picture = pictures.tag(record, f"{frame} {second}".strip(), frame)
    return f'<div class="tile">{picture}<b>{first}</b><br>{escape(second)}</div>'
