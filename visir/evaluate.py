"""Score an embedder on a benchmark: every image is embedded once, for all trials of all protocols.

Numbers never stand without the full name of the protocol they were measured with, and nothing is
re-ranked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from visir.config import did_you_mean, load_yaml
from visir.ranking import Judged, Scores, judge, summarise
from visir.run import Run, write_json
from visir.types import Benchmark, FloatArray, InputError, IntArray, Protocol, Trial

if TYPE_CHECKING:
    from visir.embed import Embedder

RANKS = (1, 5, 10, 20)
_BLOCK = 2**25  # similarities held at once, 128 MiB
_LABEL_THEM = "name the person on each in labels.csv there (header path,pid; one row an image)"


class Measures(NamedTuple):
    """The headline numbers of a trial, or their mean or spread over trials; fractions (0..1)."""

    rank1: float
    rank5: float
    rank10: float
    rank20: float
    mAP: float  # noqa: N815
    mINP: float  # noqa: N815
    chance_mAP: float  # noqa: N815

    @classmethod
    def of(cls, scores: Scores) -> Measures:
        """The headline numbers of one trial."""
        r1, r5, r10, r20 = (float(scores.cmc[rank - 1]) for rank in RANKS)
        return cls(r1, r5, r10, r20, scores.mAP, scores.mINP, scores.chance_mAP)


@dataclass(frozen=True, slots=True)
class ProtocolResult:
    """The trials of one protocol; ``protocol`` is its full name."""

    protocol: str
    trials: tuple[Scores, ...]

    @property
    def mean(self) -> Measures:
        """Mean over the trials."""
        return Measures(*np.mean([Measures.of(trial) for trial in self.trials], axis=0).tolist())

    @property
    def spread(self) -> Measures | None:
        """Sample standard deviation over the trials; None where there is one trial only."""
        if len(self.trials) == 1:
            return None
        values = [Measures.of(trial) for trial in self.trials]
        return Measures(*np.std(values, axis=0, ddof=1).tolist())

    @property
    def queries(self) -> str:
        """Queries with a match in the gallery: a number, or a range where trials differ."""
        counts = {trial.valid for trial in self.trials}
        return "-".join(str(count) for count in sorted({min(counts), max(counts)}))

    def as_json(self) -> dict[str, Any]:
        """The name, mean, spread and every trial, as plain values."""
        spread = self.spread
        return {
            "protocol": self.protocol,
            "mean": self.mean._asdict(),
            "spread": spread._asdict() if spread else None,
            "trials": [
                {**Measures.of(trial)._asdict(), "queries": trial.valid} for trial in self.trials
            ],
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The results of a benchmark by protocol key.

    ``split``: the fixed split, or splits, that were scored; ``flip_averaged``: whether features
    are means over an image and its mirror image (None: they came from elsewhere).
    """

    benchmark: str
    split: str | None
    results: dict[str, ProtocolResult]
    flip_averaged: bool | None = None

    def table(self) -> str:
        """The results as text, a line per protocol, in percent."""
        head = ["protocol", *(f"R{rank}" for rank in RANKS), "mAP", "mINP", "chance mAP"]
        rows = [[*head, "trials", "queries"]]
        rows += [_table_row(result) for result in self.results.values()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in rows
        ]
        trials = max(len(result.trials) for result in self.results.values())
        spread = "; mean ± sample standard deviation over trials" if trials > 1 else ""
        flip = {True: "yes", False: "no", None: "unknown"}[self.flip_averaged]
        data = f"{self.benchmark}, split {self.split}" if self.split else self.benchmark
        legend = f"{data}, in percent{spread}; flip averaging: {flip}; re-ranking: none."
        return "\n".join([*lines, legend])

    def as_json(self) -> dict[str, Any]:
        """What scores.json holds; all accuracies are fractions (0..1)."""
        return {
            "benchmark": self.benchmark,
            "split": self.split,
            "flip_averaging": self.flip_averaged,
            "re_ranking": "none",
            "protocols": {key: result.as_json() for key, result in self.results.items()},
        }


def evaluate(
    embedder: Embedder,
    benchmark: Benchmark,
    protocols: Sequence[str] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Embed the test images once and score all trials.

    Args:
        embedder: a trained network.
        benchmark: the data set, with labels.
        protocols: keys of `benchmark.protocols`; None takes all.
        progress: show a progress bar while embedding.

    Raises:
        InputError: the model saw the test identities in training (it was trained on another
            split of the same data set), an unknown protocol, or missing labels.
    """
    if embedder.dataset == benchmark.name and embedder.split not in (None, benchmark.split):
        raise InputError(
            f"{benchmark.name}: the model was trained on split {embedder.split} and so saw the "
            f"test identities of split {benchmark.split}; score it on its own split"
        )
    chosen = _chosen(benchmark, protocols)
    trials = [trial for protocol in chosen.values() for trial in protocol.trials]
    used = _union([rows for trial in trials for rows in trial])
    vectors = embedder.embed_records([benchmark.test[row] for row in used], progress=progress)
    features_ND = np.zeros((len(benchmark.test), vectors.shape[1]), np.float32)
    features_ND[used] = vectors
    return replace(score_features(features_ND, benchmark, list(chosen)), flip_averaged=True)


def score_features(
    features_ND: FloatArray, benchmark: Benchmark, protocols: Sequence[str] | None = None
) -> Evaluation:
    """Score features that exist already; the similarity is the dot product.

    Args:
        features_ND: (N, D), a row for each of `benchmark.test`, of length 1 for cosines.
        benchmark: the data set, with labels.
        protocols: keys of `benchmark.protocols`; None takes all.

    Raises:
        InputError: another number of rows, NaN, an unknown protocol, missing labels, or no
            identity shared by query and gallery.
    """
    chosen = _chosen(benchmark, protocols)
    features_ND = np.asarray(features_ND, np.float32)
    if features_ND.ndim != 2 or len(features_ND) != len(benchmark.test):
        raise InputError(
            f"features: shape {features_ND.shape} does not fit the {len(benchmark.test)} test "
            f"images of {benchmark.name}; give one row for each"
        )
    pids, cams = _labels(benchmark, chosen)
    by_query: dict[bytes, list[tuple[str, int]]] = {}
    for key, protocol in chosen.items():
        for number, trial in enumerate(protocol.trials):
            by_query.setdefault(trial.query.tobytes(), []).append((key, number))
    scores: dict[tuple[str, int], Scores] = {}
    for jobs in by_query.values():
        named = [(chosen[key], chosen[key].trials[number]) for key, number in jobs]
        scores.update(zip(jobs, _score_trials(features_ND, pids, cams, named), strict=True))
    results = {
        key: ProtocolResult(
            protocol.name, tuple(scores[key, number] for number in range(len(protocol.trials)))
        )
        for key, protocol in chosen.items()
    }
    return Evaluation(benchmark.name, benchmark.split, results)


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """One evaluation of several runs (RegDB's ten trained models): their trials side by side.

    Raises:
        InputError: none was given, or they differ in data set or protocols.
    """
    if not evaluations:
        raise InputError("merge: no evaluation was given; name at least one")
    first = evaluations[0]
    names = {key: result.protocol for key, result in first.results.items()}
    for other in evaluations[1:]:
        theirs = {key: result.protocol for key, result in other.results.items()}
        if (other.benchmark, theirs) != (first.benchmark, names):
            raise InputError(
                f"merge: {first.benchmark} ({', '.join(names)}) and {other.benchmark} "
                f"({', '.join(theirs)}) were scored differently; merge runs of one data set, "
                "scored with the same protocols"
            )
    results = {
        key: ProtocolResult(name, tuple(t for e in evaluations for t in e.results[key].trials))
        for key, name in names.items()
    }
    splits = dict.fromkeys(e.split for e in evaluations if e.split is not None)
    flips = {e.flip_averaged for e in evaluations}
    flip_averaged = first.flip_averaged if len(flips) == 1 else None
    return Evaluation(first.benchmark, ", ".join(splits) or None, results, flip_averaged)


def evaluate_run(
    run: Path,
    data: Path | None = None,
    protocols: Sequence[str] | None = None,
    device: str = "cpu",
    progress: bool = False,
    layout: str | None = None,
    split: int | None = None,
) -> Evaluation:
    """Score a trained run and write its scores.json, or beside another file FILE FILE.scores.json.

    Args:
        run: a run folder, the weights file in one, or a checkpoint `visir.nets.weights` can read.
        data: the data set; None takes the one the run was trained on, as its config.yaml says.
            The data set it was trained on is read at the run's own split.
        protocols: keys of the data set's protocols; None takes all.
        device: where the network runs.
        progress: show a progress bar while embedding.
        layout: of the data set; found out where None.
        split: of the data set; None takes the one the run was trained on.

    Raises:
        InputError: no such run, the data set is not where the run's settings say, or anything
            that `evaluate` refuses.
    """
    from visir.data.manifest import open_benchmark
    from visir.embed import load

    run = Path(run)
    folder = Run(run if run.is_dir() else run.parent)
    embedder = load(run, device=device)
    if data is None:
        if not folder.config.exists():
            raise InputError(f"{run}: nothing tells what it was trained on; give the data (--data)")
        settings = load_yaml(folder.config)
        if "data" not in settings:
            raise InputError(f"{folder.config}: key 'data' is missing; give the data set's folder")
        data, layout = Path(settings["data"]), layout or settings.get("layout")
        if not data.exists():
            raise InputError(f"{folder.config}: data {data} is not there; give its new place")
    benchmark = open_benchmark(data, layout, split or 1)
    if (
        split is None
        and benchmark.name == embedder.dataset
        and embedder.split not in (None, benchmark.split)
    ):
        benchmark = open_benchmark(data, layout, int(embedder.split))
    evaluation = evaluate(embedder, benchmark, protocols, progress)
    ours = run.is_dir() or run == folder.weights
    write_json(folder.scores if ours else Path(f"{run}.scores.json"), evaluation.as_json())
    return evaluation


def score_and_log(
    run: Run,
    embedder: Embedder,
    benchmark: Benchmark,
    epoch: int,
    label: str,
    protocols: Sequence[str] | None = None,
) -> Evaluation:
    """Evaluate during training and add a line for each protocol to the run's metrics.

    Args:
        run: whose metrics to add to.
        embedder: the network as it is.
        benchmark: what to score on.
        epoch: number of the epoch the network has just finished; below 0 before the first.
        label: the stage of the training, for people.
        protocols: as for `evaluate`.
    """
    evaluation = evaluate(embedder, benchmark, protocols)
    for result in evaluation.results.values():
        line = {"kind": "scores", "epoch": epoch, "label": label, "protocol": result.protocol}
        run.log({**line, **result.mean._asdict()})
    return evaluation


def _chosen(benchmark: Benchmark, keys: Sequence[str] | None) -> dict[str, Protocol]:
    known = benchmark.protocols
    if not known:
        raise InputError(
            f"{benchmark.root}: {benchmark.name} has no labelled test images, so nothing can be "
            f"scored; {_LABEL_THEM}"
        )
    for key in keys or ():
        if key not in known:
            raise InputError(f"protocols: unknown protocol {key!r}; {did_you_mean(key, known)}")
    return {key: known[key] for key in (known if keys is None else dict.fromkeys(keys))}


def _labels(benchmark: Benchmark, chosen: dict[str, Protocol]) -> tuple[IntArray, IntArray]:
    """(N,) identities and cameras of all test images; those no protocol uses may lack labels."""
    used = _union([rows for p in chosen.values() for trial in p.trials for rows in trial])
    for row in used:
        if benchmark.test[row].pid is None:
            raise InputError(
                f"{benchmark.root}: {benchmark.test[row].path.name} and maybe other test images "
                f"of {benchmark.name} have no identity, so nothing can be scored; {_LABEL_THEM}"
            )
    pids = [-1 if record.pid is None else record.pid for record in benchmark.test]
    cams = [record.cam for record in benchmark.test]
    return np.array(pids, np.int64), np.array(cams, np.int64)


def _score_trials(
    features_ND: FloatArray,
    pids: IntArray,
    cams: IntArray,
    jobs: Sequence[tuple[Protocol, Trial]],
) -> Iterator[Scores]:
    """Score trials that share their queries from one similarity matrix, a block of rows a time."""
    query = jobs[0][1].query
    gallery = _union([trial.gallery for _, trial in jobs])
    gallery_GD = features_ND[gallery]
    columns = [np.searchsorted(gallery, trial.gallery) for _, trial in jobs]
    judged: list[list[Judged]] = [[] for _ in jobs]
    step = max(1, _BLOCK // max(1, len(gallery)))
    for start in range(0, len(query), step):
        rows = query[start : start + step]
        sim_QG = features_ND[rows] @ gallery_GD.T
        people = (pids[rows], pids[gallery], cams[rows], cams[gallery])
        for parts, (protocol, _), selected in zip(judged, jobs, columns, strict=True):
            rules = (protocol.exclusion, protocol.unique_identities)
            parts.append(judge(sim_QG, *people, *rules, columns=selected))
    for parts, (protocol, _) in zip(judged, jobs, strict=True):
        try:
            yield summarise(Judged(*map(np.concatenate, zip(*parts, strict=True))))
        except InputError as error:
            raise InputError(f"{protocol.name}: {error}") from None


def _union(rows: Sequence[IntArray]) -> IntArray:
    """The distinct row numbers, ascending."""
    return np.unique(np.concatenate(rows))


def _table_row(result: ProtocolResult) -> list[str]:
    mean, spread = result.mean, result.spread
    cells = [f"{100 * value:.2f}" for value in mean]
    if spread is not None:
        cells[:-1] = [f"{c} ± {100 * s:.2f}" for c, s in zip(cells, spread[:-1], strict=False)]
    return [result.protocol, *cells, str(len(result.trials)), result.queries]
