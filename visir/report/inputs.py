"""The inputs of a report, read from a run: settings, metrics, features, scores, rankings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visir.core.run import Run
from visir.core.run_config import RunConfig, read_config
from visir.core.types import (
    Benchmark,
    Exclusion,
    FloatArray,
    InputError,
    IntArray,
    Modality,
    Protocol,
    Record,
    Trial,
)
from visir.data.registry import open_benchmark
from visir.evaluation import ranking
from visir.report.health import Health, examine

if TYPE_CHECKING:
    from visir.evaluation.results import Evaluation

Line = Mapping[str, Any]
UNTESTED = 2000  # training images that are shown if there are no test images


@dataclass(frozen=True, slots=True)
class Ranked:
    """One query and its gallery in order, best first.

    ``precision`` is its average precision; None if identities are unknown.
    """

    query: Record
    gallery: tuple[Record, ...]
    scores: FloatArray
    precision: float | None

    def match(self) -> int | None:
        """Position (from 0) of the first image of the query's identity; None without one."""
        if self.query.pid is None:
            return None
        places = (n for n, record in enumerate(self.gallery) if record.pid == self.query.pid)
        return next(places, None)


@dataclass(frozen=True, slots=True)
class ReportInputs:
    """All inputs of the page.

    records: the test images, or a sample of the training images if there are no test images.
    features: (N, D), a row per record. evaluation: None if the test images cannot be scored;
    ``unscored`` then says why. protocol: the ranked lists show its first trial. precision: (Q,)
    average precision of that trial's queries, NaN without a match or labels. health: what is said
    of the images without labels.
    """

    run: Run
    config: RunConfig
    metrics: Sequence[Line]
    benchmark: Benchmark
    size: tuple[int, int]
    records: tuple[Record, ...]
    features: FloatArray
    evaluation: Evaluation | None
    unscored: str
    protocol: Protocol
    precision: FloatArray
    health: Health

    def lines(self, kind: str) -> list[Line]:
        """The metrics of one kind, oldest first."""
        return [line for line in self.metrics if line.get("kind") == kind]

    def camera(self, record: Record) -> str:
        """The name of the camera that took an image."""
        return self.benchmark.cameras.get(record.cam, f"camera {record.cam}")

    def ranked(self, number: int) -> Ranked:
        """The complete ranked list of a query, given by its number within the trial."""
        trial = self.protocol.trials[0]
        query, exclusion = self.records[trial.query[number]], self.protocol.exclusion
        rows = np.array(
            [row for row in trial.gallery if _compared(query, self.records[row], exclusion)]
        )
        mine = self.features[trial.query[number]][None]
        order, scores = ranking.rank(mine, self.features[rows], k=len(rows))
        precision = float(self.precision[number])
        return Ranked(
            query,
            tuple(self.records[row] for row in rows[order[0]]),
            scores[0],
            None if np.isnan(precision) else precision,
        )


def gather(run: Run, device: str) -> ReportInputs:
    """Read a run, embed its test images once, score and rank them.

    Raises:
        InputError: the settings or the data set they name are missing or cannot be read.
    """
    from visir.embedding import pytorch
    from visir.evaluation.evaluate import score_features

    config = read_config(run)
    root = Path(config.data)
    if not root.is_dir():
        raise InputError(
            f"{run.config}: data names {root}, which is not a folder here; run the command in the "
            "folder where the training was started, or correct the field"
        )
    embedder = pytorch.load(run.folder, device=device)
    benchmark = open_benchmark(root, config.layout, config.split, embedder.ranges)
    train = benchmark.train
    records = benchmark.test or tuple(train[n] for n in evenly(len(train), UNTESTED))
    features = embedder.embed_records(records)
    evaluation, unscored = None, "No test image has an identity label"
    if benchmark.protocols:
        try:
            evaluation = score_features(features, benchmark)
        except InputError as error:
            unscored = f"The test images could not be scored ({error})"
    protocol = _shown(benchmark, records)
    return ReportInputs(
        run,
        config,
        metrics=run.read_metrics(),
        benchmark=benchmark,
        size=embedder.size,
        records=records,
        features=features,
        evaluation=evaluation,
        unscored=unscored,
        protocol=protocol,
        precision=_precision(protocol, benchmark, features, scored=evaluation is not None),
        health=examine(records, features),
    )


def evenly(total: int, count: int) -> IntArray:
    """At most `count` of the numbers below `total`, evenly spread, ascending."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(np.int64))


def _shown(benchmark: Benchmark, records: tuple[Record, ...]) -> Protocol:
    """The benchmark's first protocol, else every infrared image against every visible one."""
    if benchmark.protocols:
        return next(iter(benchmark.protocols.values()))
    infrared = [record.modality is Modality.INFRARED for record in records]
    trial = Trial(np.flatnonzero(infrared), np.flatnonzero(np.logical_not(infrared)))
    return Protocol("infrared to visible", (trial,))


def _precision(
    protocol: Protocol, benchmark: Benchmark, features: FloatArray, *, scored: bool
) -> FloatArray:
    """(Q,) average precision of each query of the first trial, NaN without a match or labels."""
    query, gallery = protocol.trials[0]
    if not scored:
        return np.full(len(query), np.nan, dtype=np.float32)
    pids = np.array([-1 if record.pid is None else record.pid for record in benchmark.test])
    cams = np.array([record.cam for record in benchmark.test])
    judged = ranking.judge(
        features[query] @ features[gallery].T,
        *_pairs(pids, query, gallery),
        *_pairs(cams, query, gallery),
        protocol.exclusion,
        protocol.unique_identities,
    )
    return np.where(judged.matches > 0, judged.precision, np.nan).astype(np.float32)


def _pairs(values: IntArray, query: IntArray, gallery: IntArray) -> tuple[IntArray, IntArray]:
    return values[query], values[gallery]


def _compared(query: Record, other: Record, exclusion: Exclusion) -> bool:
    barred = (query.cam, other.cam) in exclusion.cam_pairs
    return not barred or (exclusion.same_identity_only and query.pid != other.pid)


def points(lines: Iterable[Line], name: str) -> list[tuple[float, float]]:
    """(epoch counted from 1, value) of the lines that have the value; the start is epoch 0."""
    return [(line["epoch"] + 1, float(line[name])) for line in lines if line.get(name) is not None]


def stages(lines: Sequence[Line]) -> list[tuple[str, float]]:
    """Name of each stage and the position of its begin: half an epoch before its first epoch."""
    starts = [lines[0]] if lines else []
    starts += [line for before, line in pairwise(lines) if before.get("stage") != line.get("stage")]
    return [(str(line.get("stage", "")), line["epoch"] + 0.5) for line in starts]
