"""The map of a report: images as points in a plane, in colours that the reader chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from visir.core.types import FloatArray, IntArray, Modality, Record
from visir.report.figures import TONES
from visir.report.inputs import ReportInputs, evenly
from visir.report.markup import Section, count, section

POINTS, EACH, FEWEST = 600, 25, 10  # points; of one coloured person or cluster; for a map at all
_WIDTH, _HEIGHT, _BORDER = 720, 560, 10  # of the drawing, in its own units


class _Colouring(NamedTuple):
    """A way to colour the points.

    tones: colour of a row, a number below `len(TONES)`; rows without one are grey. legend: what
    each tone stands for; empty if there is nothing to name.
    """

    name: str
    title: str
    tones: Mapping[int, int]
    legend: Sequence[str]
    said: str


def embedding_map(inputs: ReportInputs) -> Section | None:
    """A 2-D map of the embeddings, coloured by person, cluster, camera or mark."""
    if len(inputs.records) < FEWEST:
        return None
    colourings = [
        found
        for make in (_by_person, _by_cluster, _by_camera, _by_mark)
        if (found := make(inputs)) is not None
    ]
    rows = _chosen(len(inputs.records), colourings)
    choices = "".join(
        f'<input type="radio" name="map" id="map-{one.name}"{" checked" if not n else ""}>'
        f'<label for="map-{one.name}">{one.title}</label>'
        for n, one in enumerate(colourings)
    )
    legends = "".join(_legend(one) for one in colourings)
    svg = _drawing(inputs, rows, _plane(inputs.features[rows]), colourings)
    caption = (
        f"{count(len(rows), 'image')} placed by t-SNE, similar ones close together; the axes have "
        "no unit. A good result is a group of one colour with both circles and triangles. Circles "
        "on one side and triangles on the other mean that modality outweighs identity; groups of "
        "one camera mean that the camera does."
    )
    shapes = '<p class="legend"><span>● visible</span><span>▲ infrared</span></p>'
    return section(
        "map",
        "Map of the embeddings",
        f'<style>{_rules(colourings)}</style><div class="map" role="radiogroup" '
        f'aria-label="Colours of the map">{choices}{shapes}{legends}<figure>{svg}'
        f"<figcaption>{caption}</figcaption></figure></div>",
    )


def _by_person(inputs: ReportInputs) -> _Colouring | None:
    """A colour for some of the people who are in both visible and infrared images."""
    sides: dict[int, set[Modality]] = {}
    for record in inputs.records:
        if record.pid is not None:
            sides.setdefault(record.pid, set()).add(record.modality)
    both = sorted(pid for pid, seen in sides.items() if len(seen) == len(Modality))
    if not both:
        return None
    tone_of = {both[place]: tone for tone, place in enumerate(evenly(len(both), len(TONES)))}
    tones = {
        row: tone_of[record.pid]
        for row, record in enumerate(inputs.records)
        if record.pid in tone_of
    }
    legend = [f"person {pid}" for pid in tone_of]
    return _Colouring("person", "Person", tones, legend, "Grey: all other people.")


def _by_cluster(inputs: ReportInputs) -> _Colouring | None:
    """The largest clusters; matched ones have one colour."""
    if inputs.health.grouping is None:
        return None
    people = inputs.health.people
    numbers, sizes = np.unique(people[people >= 0], return_counts=True)
    largest = numbers[np.argsort(-sizes, kind="stable")][: len(TONES)].tolist()
    tone_of = {number: tone for tone, number in enumerate(largest)}
    tones = {row: tone_of[one] for row, one in enumerate(people.tolist()) if one in tone_of}
    said = (
        f"The {len(largest)} largest clusters; matched clusters of both modalities have one "
        "colour. Grey: all others, and images in no cluster."
    )
    return _Colouring("cluster", "Cluster", tones, (), said)


def _by_camera(inputs: ReportInputs) -> _Colouring | None:
    cams = sorted({record.cam for record in inputs.records})
    names = {record.cam: inputs.camera(record) for record in inputs.records}
    tone_of = {cam: tone for tone, cam in enumerate(cams[: len(TONES)])}
    tones = {
        row: tone_of[record.cam]
        for row, record in enumerate(inputs.records)
        if record.cam in tone_of
    }
    said = "" if len(cams) == len(tone_of) else "Grey: further cameras."
    return _Colouring("camera", "Camera", tones, [names[cam] for cam in tone_of], said)


def _by_mark(inputs: ReportInputs) -> _Colouring | None:
    health = inputs.health
    tones = {**dict.fromkeys(health.poor, 3), **dict.fromkeys(health.hubs().tolist(), 0)}
    if not tones:
        return None
    legend = ["hubs", "", "", "poor crops"]
    return _Colouring("mark", "Hubs and poor crops", tones, legend, "Grey: all others.")


def _chosen(total: int, colourings: Sequence[_Colouring]) -> IntArray:
    """Rows to draw: some of every coloured person and cluster, then others; seeded."""
    rng = np.random.default_rng(0)
    named: set[int] = set()
    for colouring in colourings:
        if colouring.name != "camera":
            groups: dict[int, list[int]] = {}
            for row, tone in colouring.tones.items():
                groups.setdefault(tone, []).append(row)
            for rows in groups.values():
                named.update(rng.permutation(rows)[:EACH].tolist())
    first = rng.permutation(sorted(named))[:POINTS]
    others = rng.permutation(np.setdiff1d(np.arange(total), first))[: POINTS - len(first)]
    return np.sort(np.concatenate([first, others])).astype(np.int64)


def _legend(colouring: _Colouring) -> str:
    names = "".join(
        f'<span><i style="background:{TONES[tone]}"></i>{escape(name)}</span>'
        for tone, name in enumerate(colouring.legend)
        if name
    )
    return f'<p class="legend of-{colouring.name}">{names}<span>{colouring.said}</span></p>'


def _rules(colourings: Sequence[_Colouring]) -> str:
    """Colours and legend of the chosen way; without one all points are grey."""
    rules = []
    for one in colourings:
        chosen = f"#map-{one.name}:checked~"
        rules.append(f"{chosen}.of-{one.name}{{display:flex}}")
        for tone in sorted(set(one.tones.values())):
            style = f"{{fill:{TONES[tone]};opacity:.9}}"
            rules.append(f"{chosen}figure .{one.name}{tone}{style}")
    return "".join(rules)


def _drawing(
    inputs: ReportInputs, rows: IntArray, places_N2: FloatArray, colourings: Sequence[_Colouring]
) -> str:
    """An inline SVG with a point for each image, which says its camera when pointed at."""
    low, high = places_N2.min(axis=0), places_N2.max(axis=0)
    room = np.array([_WIDTH - 2 * _BORDER, _HEIGHT - 2 * _BORDER])
    scaled = _BORDER + (places_N2 - low) / np.maximum(high - low, 1e-9) * room
    points = "".join(
        _point(inputs, row, x, y, colourings)
        for row, (x, y) in zip(rows.tolist(), scaled.tolist(), strict=True)
    )
    said = f"Map of {len(rows)} images; the caption says what to look for."
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{said}">{points}</svg>'


def _point(
    inputs: ReportInputs, row: int, x: float, y: float, colourings: Sequence[_Colouring]
) -> str:
    record = inputs.records[row]
    classes = " ".join(f"{one.name}{one.tones[row]}" for one in colourings if row in one.tones)
    about = f'class="{classes}"><title>{escape(_words(inputs, record, row))}</title>'
    if record.modality is Modality.VISIBLE:
        return f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" {about}</circle>'
    return f'<path d="M{x:.0f} {y - 6:.0f}l6 11h-12z" {about}</path>'


def _words(inputs: ReportInputs, record: Record, row: int) -> str:
    words = [record.modality.value, inputs.camera(record)]
    if record.pid is not None:
        words.append(f"person {record.pid}")
    if inputs.health.people[row] >= 0:
        words.append(f"cluster {inputs.health.people[row]}")
    return ", ".join([*words, record.path.name])


def _plane(features_ND: FloatArray) -> FloatArray:
    """(N, 2) places by t-SNE (van der Maaten and Hinton, 2008) from a PCA start."""
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(features_ND) - 1) / 3)
    tsne = TSNE(init="pca", perplexity=perplexity, random_state=0, n_jobs=1)
    places: FloatArray = tsne.fit_transform(features_ND)
    return places
