"""Fit a run's confidences and its no-match threshold, from labels or, without them, from clusters.

Many galleries of some of the people and of different sizes are drawn at random, and searched for
people who are in them and for people who are not. A logistic curve is fitted: the probability that
the best hit is right, by its cosine and by the size of the gallery.

Without labels a person is a pair of clusters, one of each modality, that are each other's most
similar; a cluster without a match is a person that only one modality has seen. Tracks, where they
are known, correct the clusters inside each camera. The curve is as good as these pairs;
`benchmarks/calibration.py` compares it with labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

from visir.core.types import BoolArray, FloatArray, InputError, IntArray, Modality, Record
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.confidence import Calibration, Curve
from visir.evaluation.grouping import as_people, grouped
from visir.evaluation.strangers import QUERIES, ROUNDS, measure_strangers

Subset = Literal["train", "test"]
_MAX_IMAGES = 4000  # images per modality that are compared
_MIN_PEOPLE = 8  # people seen in both modalities


class Table(NamedTuple):
    """Queries of one modality against the people of the other.

    best: (Q, P) the highest cosine of a query with an image of a person; counts: (P,) images of
    each person; own: (Q,) the person on the query. All tables number people in the same way.
    """

    best: FloatArray
    counts: IntArray
    own: IntArray


class Searches(NamedTuple):
    """T searches in drawn galleries; all arrays are (T,).

    scores: cosine of the best hit; images: number of images searched; right: whether the best hit
    shows the query's person; there: whether that person is in the gallery.
    """

    scores: FloatArray
    images: IntArray
    right: BoolArray
    there: BoolArray


def calibrate(
    run: Path,
    data: Path,
    layout: str | None = None,
    split: int = 1,
    part: Subset = "train",
    labels: bool = True,
    false_alarms: float = 0.1,
    device: str = "cpu",
    progress: bool = False,
) -> Calibration:
    """Measure a run's cosines on a data set and write calibration.json into the run.

    Where fewer than eight people are known in both modalities, only strangers are measured
    (`visir.evaluation.strangers`); the result says what that cannot tell.

    Args:
        run: run folder.
        data: a data set, or a folder of your own crops, with both modalities.
        layout: of the data set; None detects it.
        split: of the data set.
        part: use the training or the test images of the data set.
        labels: use the identity labels of the data set if it has them; otherwise clusters.
        false_alarms: share of queries about absent people that may pass the threshold.
        device: where the network runs.
        progress: show progress bars.

    Raises:
        InputError: `false_alarms` is out of range, or there are too few images.
    """
    if not 0 < false_alarms < 1:
        raise InputError(f"false_alarms: must be between 0 and 1, got {false_alarms}")
    embedder = load(run, device)
    records = getattr(open_benchmark(data, layout, split, embedder.ranges), part)
    known = labels and all(record.pid is not None for record in records)
    records = _drawn(records)
    features, sides = by_modality(embedder, records, progress)
    pids = _identified(features, sides, known)
    tables = _tables(features, pids)
    people = len(_shared(tables))
    hits: float | None = None
    if people >= _MIN_PEOPLE:
        curve, threshold, (alarms, hits) = measure(tables, false_alarms)
        identities = "labels" if known else "clusters"
    else:
        named = _labelled(sides) if labels else {}
        some = len({*np.concatenate([*named.values(), [-1]]).tolist()}) > 2
        of = named if some else None
        curve, threshold, alarms = measure_strangers(features, of, pids, false_alarms)
        identities = "strangers" if some else "others"
    found = Calibration(
        *curve, threshold, alarms, hits, identities, people, len(records), embedder.fingerprint
    )
    found.save(run)
    return found


def by_modality(
    embedder: Embedder, records: Sequence[Record], progress: bool = False
) -> tuple[dict[Modality, FloatArray], dict[Modality, list[Record]]]:
    """Embeddings and records of each modality.

    Raises:
        InputError: there are none of one.
    """
    sides = {m: [record for record in records if record.modality is m] for m in Modality}
    for modality, side in sides.items():
        if not side:
            raise InputError(
                f"there are no {modality.value} images to calibrate with; give images of both "
                "modalities"
            )
    return {m: embedder.embed_records(side, progress) for m, side in sides.items()}, sides


def compared(
    features: Mapping[Modality, FloatArray],
    sides: Mapping[Modality, Sequence[Record]],
    labels: bool,
) -> list[Table]:
    """Compare images of each modality with the people of the other, by labels or by clusters.

    There are no tables if too few images are alike to be clusters.
    """
    return _tables(features, _identified(features, sides, labels))


def _identified(
    features: Mapping[Modality, FloatArray],
    sides: Mapping[Modality, Sequence[Record]],
    labels: bool,
) -> dict[Modality, IntArray] | None:
    """Who is on each image, by labels or by clusters; None with fewer than two clusters."""
    if labels:
        return _labelled(sides)
    try:
        return as_people(grouped(features, sides))
    except InputError:
        return None


def _tables(
    features: Mapping[Modality, FloatArray], pids: Mapping[Modality, IntArray] | None
) -> list[Table]:
    return [] if pids is None else [_table(features, pids, side) for side in Modality]


def measure(
    tables: Sequence[Table], false_alarms: float
) -> tuple[Curve, float, tuple[float, float]]:
    """Fit the curve to all people; measure its rates by fitting half of them, testing the others.

    Args:
        tables: one per query modality.
        false_alarms: share of searches for absent people that may pass the threshold.

    Returns:
        The curve; its threshold; (share of searches for absent people that pass it, share of
        searches for present people that find them).

    Raises:
        InputError: too few people are in both modalities.
    """
    shared = _shared(tables)
    if len(shared) < _MIN_PEOPLE:
        raise InputError(
            f"only {len(shared)} people are known in both modalities, but a calibration needs "
            f"{_MIN_PEOPLE}; give more images, or labels"
        )
    rng = np.random.default_rng(0)
    rates = []
    halves = np.array_split(rng.permutation(len(tables[0].counts)), 2)
    for fitted, others in (halves, halves[::-1]):
        searches = draw_searches(tables, fitted, rng)
        curve = _fit(searches)
        threshold = _threshold(curve, searches, false_alarms)
        tested = draw_searches(tables, others, rng)
        passed = curve.confidence(tested.scores, tested.images) >= threshold
        rates.append((passed[~tested.there].mean(), (passed & tested.right)[tested.there].mean()))
    searches = draw_searches(tables, np.arange(len(tables[0].counts)), rng)
    curve = _fit(searches)
    alarms, found = np.mean(rates, axis=0)
    return curve, _threshold(curve, searches, false_alarms), (float(alarms), float(found))


def _drawn(records: Sequence[Record]) -> list[Record]:
    """At most `_MAX_IMAGES` of each modality, evenly over the list, so that all people remain."""
    kept: list[Record] = []
    for modality in Modality:
        side = [record for record in records if record.modality is modality]
        kept += side[:: max(1, math.ceil(len(side) / _MAX_IMAGES))]
    return kept


def _labelled(sides: Mapping[Modality, Sequence[Record]]) -> dict[Modality, IntArray]:
    """Number the people; -1 for images without a label."""
    names = dict.fromkeys(record.pid for side in sides.values() for record in side)
    number: dict[int | None, int] = {None: -1}
    number |= {name: row for row, name in enumerate(name for name in names if name is not None)}
    return {m: np.array([number[r.pid] for r in side], np.int64) for m, side in sides.items()}


def _table(
    features: Mapping[Modality, FloatArray], pids: Mapping[Modality, IntArray], side: Modality
) -> Table:
    """Compare queries of one modality with the other; images without a person are left out."""
    people = 1 + max(int(of.max(initial=-1)) for of in pids.values())
    query, gallery = pids[side] >= 0, pids[side.other] >= 0
    sim_QG = features[side][query] @ features[side.other][gallery].T
    gallery_pids = pids[side.other][gallery]
    best_QP = np.full((len(sim_QG), people), -np.inf, np.float32)
    for person in np.unique(gallery_pids):
        best_QP[:, person] = sim_QG[:, gallery_pids == person].max(axis=1)
    counts = np.bincount(gallery_pids, minlength=people)
    return Table(best_QP, counts, pids[side][query])


def _shared(tables: Sequence[Table]) -> IntArray:
    """People that both modalities have seen."""
    if not tables:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.all([table.counts > 0 for table in tables], axis=0))


def draw_searches(tables: Sequence[Table], people: IntArray, rng: np.random.Generator) -> Searches:
    """Draw galleries of some of the people, of sizes from two to 80 %, and search them.

    Each gallery is searched for as many people who are in it as for people who are not.

    Args:
        tables: one per query modality.
        people: numbers of the people to draw from.
        rng: source of the draws.
    """
    found = []
    for table in tables:
        available = people[table.counts[people] > 0]
        queries = np.flatnonzero(np.isin(table.own, people))
        for size in np.unique(np.geomspace(2, max(2, 0.8 * len(available)), 6).astype(int)):
            for _ in range(ROUNDS):
                there = rng.choice(available, min(size, len(available)), replace=False)
                present = np.isin(table.own[queries], there)
                both = queries[present], queries[~present]
                half = min(QUERIES // 2, *map(len, both))
                rows = np.concatenate([rng.choice(of, half, replace=False) for of in both])
                best_QG = table.best[np.ix_(rows, there)]
                own = table.own[rows]
                images = np.full(len(rows), table.counts[there].sum())
                right = there[best_QG.argmax(axis=1)] == own
                found.append(Searches(best_QG.max(axis=1), images, right, np.isin(own, there)))
    return Searches(*(np.concatenate(columns) for columns in zip(*found, strict=True)))


def _fit(searches: Searches) -> Curve:
    """Fit the logistic curve of right best hits.

    Raises:
        InputError: all best hits are right, or none is.
    """
    if searches.right.all() or not searches.right.any():
        raise InputError(
            "every best hit is right, or every one is wrong, so no curve can be fitted; give other "
            "or more images"
        )
    columns = searches.scores, np.log(searches.images), np.ones_like(searches.scores)
    inputs_TF = np.stack(columns, axis=1).astype(float)
    signs = np.where(searches.right, 1.0, -1.0)

    def loss(curve: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margins = signs * (inputs_TF @ curve)
        slack = signs * special.expit(-margins)
        cost = np.logaddexp(0, -margins).mean() + 1e-6 * curve @ curve
        return float(cost), 2e-6 * curve - (inputs_TF * slack[:, None]).mean(axis=0)

    found = optimize.minimize(loss, np.zeros(3), jac=True, method="BFGS").x
    return Curve(*map(float, found))


def _threshold(curve: Curve, searches: Searches, false_alarms: float) -> float:
    """The confidence that a share `false_alarms` of the searches for absent people reaches."""
    confidences = curve.confidence(searches.scores, searches.images)
    return float(np.quantile(confidences[~searches.there], 1 - false_alarms))
