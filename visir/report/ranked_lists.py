"""The sections of a report with images: the data, ranked lists, failures, the map."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from visir.core.types import FloatArray, IntArray, Modality, Record
from visir.report import figures
from visir.report.images import Pictures
from visir.report.inputs import Ranked, ReportInputs, evenly
from visir.report.markup import note, percent, section

IDENTITIES, SAMPLES = 6, 4  # rows of the grid, with labels and without
QUERIES, FAILURES, HITS = 6, 6, 8
# Maximum number of points, maximum number of one coloured identity, minimum number of points.
MAP_POINTS, MAP_IMAGES, MAP_MIN_POINTS = 600, 25, 10

Row = tuple[str, dict[int, Record]]


def data(inputs: ReportInputs, pictures: Pictures) -> str:
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
        f'<figure><div class="scroll grids">{grids}</div>'
        f"<figcaption>{caption}</figcaption></figure>",
    )


def ranked_lists(inputs: ReportInputs, pictures: Pictures) -> str:
    """Ranked lists of queries spread evenly over the test images."""
    numbers = _rankable(inputs)
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


def failures(inputs: ReportInputs, pictures: Pictures) -> str:
    """The queries with the lowest average precision, worst first."""
    if inputs.evaluation is None:
        return section("failures", "Worst failures", note(inputs.unscored))
    numbers = _rankable(inputs)
    worst = numbers[np.argsort(inputs.precision[numbers], kind="stable")][:FAILURES]
    lead = (
        "<p>The queries with the lowest average precision, the worst first. If no right image is "
        "among the first hits, the first right one is shown at the end of the row.</p>"
    )
    body = "".join(_ranked(inputs, pictures, inputs.ranked(number)) for number in worst)
    return section("failures", "Worst failures", lead, body)


def embedding_map(inputs: ReportInputs) -> str:
    """A 2-D map of the embeddings."""
    rows, tones = _map_rows(inputs.records)
    if len(rows) < MAP_MIN_POINTS:
        few = note(f"A map needs at least {MAP_MIN_POINTS} images.")
        return section("map", "Map of the embeddings", few)
    infrared = [inputs.records[row].modality is Modality.INFRARED for row in rows]
    svg = figures.embedding_map(_plane(inputs.features[rows]), infrared, tones)
    coloured = any(tone is not None for tone in tones)
    who = "a colour: one person; grey: all others" if coloured else "grey: identities unknown"
    legend = f"<span>● visible</span><span>▲ infrared</span><span>{who}</span>"
    caption = (
        f"{len(rows)} images placed by t-SNE, similar ones close together; the axes have no unit. "
        "A good result is a group of one colour with both circles and triangles. Circles on one "
        "side and triangles on the other mean that modality outweighs identity."
    )
    return section(
        "map",
        "Map of the embeddings",
        f'<div class="legend">{legend}</div>'
        f'<figure class="map">{svg}<figcaption>{caption}</figcaption></figure>',
    )


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


def _map_rows(records: Sequence[Record]) -> tuple[IntArray, list[int | None]]:
    """The records of the map, and the tone of each (None: grey); the draw is seeded."""
    rng = np.random.default_rng(0)
    sides: dict[int, set[Modality]] = {}
    for record in records:
        if record.pid is not None:
            sides.setdefault(record.pid, set()).add(record.modality)
    both = sorted(pid for pid, seen in sides.items() if len(seen) == len(Modality))
    tone_of = {
        both[place]: tone for tone, place in enumerate(evenly(len(both), len(figures.TONES)))
    }
    named: list[int] = []
    for pid in tone_of:
        rows = [row for row, record in enumerate(records) if record.pid == pid]
        named += rng.permutation(rows)[:MAP_IMAGES].tolist()
    others = [row for row, record in enumerate(records) if record.pid not in tone_of]
    rest = rng.permutation(others)[: MAP_POINTS - len(named)].tolist()
    chosen = np.array(named + rest, dtype=np.int64)
    pids = (records[row].pid for row in chosen)
    return chosen, [None if pid is None else tone_of.get(pid) for pid in pids]


def _plane(features_ND: FloatArray) -> FloatArray:
    """(N, 2) places by t-SNE (van der Maaten and Hinton, 2008) from a PCA start."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features_ND) - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, random_state=0, n_jobs=1)
    places: FloatArray = tsne.fit_transform(features_ND)
    return places
