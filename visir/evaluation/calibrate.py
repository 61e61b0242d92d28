"""Learn what a cosine is worth, from people with labels or from clusters where there are none.

Galleries are drawn again and again, of some of the people and of many sizes, and everybody is
looked for in them: those who are there, and those who are not. A logistic curve tells the best hits
that are right from those that are not, by their cosine and by the size of the gallery.

Without labels a person is a pair of clusters, one of each modality, that are each other's most
similar; clusters without a partner are people one modality has seen only. What such a curve says is
as good as the pairs are: `benchmarks/calibration.py` measures it against labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import optimize, special
from torch import Tensor

from visir.cluster.associate import Side, mutual
from visir.cluster.cameras import centred
from visir.cluster.labels import pseudo_labels
from visir.core.types import BoolArray, FloatArray, InputError, IntArray, Modality, Record
from visir.data.registry import open_benchmark
from visir.embedding.pytorch import Embedder, load
from visir.evaluation.confidence import Calibration, Curve
from visir.methods.clustering import cluster_training

Part = Literal["train", "test"]
_MOST = 4000  # images of a modality that are compared
_ROUNDS, _QUERIES = 24, 400  # galleries of each size; queries into each
_FEWEST = 8  # people in both modalities
_EPS, _K1 = 0.5, 16  # of clusters, as in the presets `tiny`


class Table(NamedTuple):
    """Queries of one modality against the people of the other.

    best: (Q, P) the highest cosine of a query with an image of a person, who has `counts` (P,)
    of them; own: (Q,) who is on the query. People are numbered alike in all tables.
    """

    best: FloatArray
    counts: IntArray
    own: IntArray


class Looks(NamedTuple):
    """Queries into drawn galleries: best cosine, images searched, right, person there.

    All (T,).
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
    part: Part = "train",
    labels: bool = True,
    false_alarms: float = 0.1,
    device: str = "cpu",
    progress: bool = False,
) -> Calibration:
    """Measure a run's cosines on a data set and write calibration.json into the run.

    Args:
        run: run folder.
        data: a data set, or a folder of one's own crops, of both modalities.
        layout: of the data set; found out where None.
        split: of the data set.
        part: whose images, of those a data set keeps apart for training and for test.
        labels: use identities where the data set has them; clusters otherwise.
        false_alarms: share of queries about absent people that may pass the threshold.
        device: where the network runs.
        progress: show progress bars.

    Raises:
        InputError: too few people in both modalities to measure anything.
    """
    if not 0 < false_alarms < 1:
        raise InputError(f"false_alarms: {false_alarms} is no share; give one between 0 and 1")
    embedder = load(run, device)
    records = getattr(open_benchmark(data, layout, split), part)
    known = labels and all(record.pid is not None for record in records)
    records = _drawn(records)
    tables = compared(embedder, records, known, progress)
    curve, threshold, rates = measure(tables, false_alarms)
    found = Calibration(
        *curve,
        threshold,
        *rates,
        identities="labels" if known else "clusters",
        people=len(_shared(tables)),
        images=len(records),
        fingerprint=embedder.fingerprint,
    )
    found.save(run)
    return found


def compared(
    embedder: Embedder, records: Sequence[Record], labels: bool, progress: bool = False
) -> list[Table]:
    """Images of each modality against the people of the other, by labels or by clusters."""
    sides = {m: [record for record in records if record.modality is m] for m in Modality}
    features = {m: embedder.embed_records(side, progress) for m, side in sides.items()}
    pids = _labelled(sides) if labels else _clustered(features, sides)
    return [_table(features, pids, side) for side in Modality]


def measure(
    tables: Sequence[Table], false_alarms: float
) -> tuple[Curve, float, tuple[float, float]]:
    """Fit the curve to everybody, and measure on one half of the people what the other half gives.

    Returns:
        The curve; its threshold; the share of absent people who pass it
        and the share of those there who are found.

    Raises:
        InputError: too few people are in both modalities.
    """
    shared = _shared(tables)
    if len(shared) < _FEWEST:
        raise InputError(
            f"only {len(shared)} people are known in both modalities, and {_FEWEST} are needed to "
            "measure what a cosine is worth; give more images, or labels"
        )
    rng = np.random.default_rng(0)
    rates = []
    halves = np.array_split(rng.permutation(len(tables[0].counts)), 2)
    for fitted, others in (halves, halves[::-1]):
        looks = look_around(tables, fitted, rng)
        curve = _fit(looks)
        threshold = _threshold(curve, looks, false_alarms)
        seen = look_around(tables, others, rng)
        passed = curve.confidence(seen.scores, seen.images) >= threshold
        rates.append((passed[~seen.there].mean(), (passed & seen.right)[seen.there].mean()))
    whole = look_around(tables, np.arange(len(tables[0].counts)), rng)
    curve = _fit(whole)
    alarms, found = np.mean(rates, axis=0)
    return curve, _threshold(curve, whole, false_alarms), (float(alarms), float(found))


def _drawn(records: Sequence[Record]) -> list[Record]:
    """At most so many of each modality, evenly over the list, so that nobody is left out whole."""
    kept: list[Record] = []
    for modality in Modality:
        side = [record for record in records if record.modality is modality]
        kept += side[:: -(-len(side) // _MOST) or 1]
    return kept


def _labelled(sides: Mapping[Modality, Sequence[Record]]) -> dict[Modality, IntArray]:
    names = dict.fromkeys(record.pid for side in sides.values() for record in side)
    number = {name: row for row, name in enumerate(names)}
    return {m: np.array([number[r.pid] for r in side], np.int64) for m, side in sides.items()}


def _clustered(
    features: Mapping[Modality, FloatArray], sides: Mapping[Modality, Sequence[Record]]
) -> dict[Modality, IntArray]:
    """Numbers of people, -1 for nobody known: clusters, of both modalities where two are paired."""
    units = {
        m: centred(torch.from_numpy(of), np.array([record.cam for record in sides[m]]))
        for m, of in features.items()
    }

    def cluster(_: Modality, of: Tensor, eps: float) -> IntArray:
        return pseudo_labels(of, eps, k1=_K1)

    labels, *_ = cluster_training(units, cluster, _EPS, momentum=0.1, adapt="eps")
    vis, ir = (Side(units[m], labels[m]) for m in (Modality.VISIBLE, Modality.INFRARED))
    pairs = mutual(vis, ir).vis_to_ir
    number = np.arange(ir.clusters) + vis.clusters
    number[pairs.argmax(axis=1)[pairs.any(axis=1)]] = np.flatnonzero(pairs.any(axis=1))
    renamed = np.append(number, -1)[ir.labels]
    return {Modality.VISIBLE: vis.labels, Modality.INFRARED: renamed}


def _table(
    features: Mapping[Modality, FloatArray], pids: Mapping[Modality, IntArray], side: Modality
) -> Table:
    """Queries of one modality against the other; images of nobody known are left out."""
    people = 1 + max(int(of.max(initial=-1)) for of in pids.values())
    asked, held = pids[side] >= 0, pids[side.other] >= 0
    sim_QG = features[side][asked] @ features[side.other][held].T
    theirs = pids[side.other][held]
    best_QP = np.full((len(sim_QG), people), -np.inf, np.float32)
    for person in np.unique(theirs):
        best_QP[:, person] = sim_QG[:, theirs == person].max(axis=1)
    return Table(best_QP, np.bincount(theirs, minlength=people), pids[side][asked])


def _shared(tables: Sequence[Table]) -> IntArray:
    """People one can ask for in both directions."""
    return np.flatnonzero(np.all([table.counts > 0 for table in tables], axis=0))


def look_around(tables: Sequence[Table], people: IntArray, rng: np.random.Generator) -> Looks:
    """Look for some people in galleries of some of them, of sizes from two to nearly all.

    Into each gallery, as many look who are there as who are not.
    """
    found = []
    for table in tables:
        held = people[table.counts[people] > 0]
        asking = np.flatnonzero(np.isin(table.own, people))
        for size in np.unique(np.geomspace(2, max(2, 0.8 * len(held)), 6).astype(int)):
            for _ in range(_ROUNDS):
                there = rng.choice(held, min(size, len(held)), replace=False)
                present = np.isin(table.own[asking], there)
                both = asking[present], asking[~present]
                half = min(_QUERIES // 2, *map(len, both))
                rows = np.concatenate([rng.choice(of, half, replace=False) for of in both])
                best_QG = table.best[np.ix_(rows, there)]
                own = table.own[rows]
                images = np.full(len(rows), table.counts[there].sum())
                right = there[best_QG.argmax(axis=1)] == own
                found.append(Looks(best_QG.max(axis=1), images, right, np.isin(own, there)))
    return Looks(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _fit(looks: Looks) -> Curve:
    """The logistic curve of right answers.

    Raises:
        InputError: all answers are right, or none is.
    """
    if looks.right.all() or not looks.right.any():
        raise InputError("the people are found always or never, so there is no curve to fit")
    columns = looks.scores, np.log(looks.images), np.ones_like(looks.scores)
    inputs_TF = np.stack(columns, axis=1).astype(float)
    signs = np.where(looks.right, 1.0, -1.0)

    def loss(curve: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        margins = signs * (inputs_TF @ curve)
        slack = signs * special.expit(-margins)
        cost = np.logaddexp(0, -margins).mean() + 1e-6 * curve @ curve
        return float(cost), 2e-6 * curve - (inputs_TF * slack[:, None]).mean(axis=0)

    found = optimize.minimize(loss, np.zeros(3), jac=True, method="BFGS").x
    return Curve(*map(float, found))


def _threshold(curve: Curve, looks: Looks, false_alarms: float) -> float:
    """The confidence that only so large a share of the absent people's best hits reaches."""
    sure = curve.confidence(looks.scores, looks.images)
    return float(np.quantile(sure[~looks.there], 1 - false_alarms))
