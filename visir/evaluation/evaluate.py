"""Score an embedder on a benchmark: every image is embedded once, for all trials of all protocols.

Results always carry the full name of their protocol. Nothing is re-ranked unless requested; results
then also name the re-ranking.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visir.core.config import did_you_mean
from visir.core.run import Run, write_json
from visir.core.run_config import read_config
from visir.core.types import Benchmark, FloatArray, InputError, IntArray, Protocol, Trial
from visir.evaluation.ranking import Judged, Scores, judge, summarise
from visir.evaluation.rerank import RERANKERS
from visir.evaluation.results import Evaluation, ProtocolResult

if TYPE_CHECKING:
    from visir.embedding.base import ImageEmbedder

_BLOCK = 2**25  # similarities in memory at once, 128 MiB
_ADD_LABELS = "add their identities to labels.csv there (header path,pid; one row per image)"


def evaluate(
    embedder: ImageEmbedder,
    benchmark: Benchmark,
    protocols: Sequence[str] | None = None,
    progress: bool = False,
    rerank: str = "none",
) -> Evaluation:
    """Embed the test images once and score all trials.

    Args:
        embedder: a trained network.
        benchmark: the data set, with labels.
        protocols: keys of `benchmark.protocols`; None takes all.
        progress: show a progress bar while embedding.
        rerank: a key of `visir.evaluation.rerank.RERANKERS`, or "none".

    Raises:
        InputError: the network saw the test identities in training (it was trained on another
            split of the same data set), a protocol is unknown, or labels are missing.
    """
    _require_known(rerank)
    if embedder.dataset == benchmark.name and embedder.split not in (None, benchmark.split):
        raise InputError(
            f"{benchmark.name}: the network was trained on split {embedder.split}, which contains "
            f"test identities of split {benchmark.split}; score it on split {embedder.split}"
        )
    chosen = _chosen(benchmark, protocols)
    trials = [trial for protocol in chosen.values() for trial in protocol.trials]
    used = _union([rows for trial in trials for rows in trial])
    embeddings = embedder.embed_records([benchmark.test[row] for row in used], progress=progress)
    features_ND = np.zeros((len(benchmark.test), embeddings.shape[1]), np.float32)
    features_ND[used] = embeddings
    evaluation = score_features(features_ND, benchmark, list(chosen), rerank)
    return replace(evaluation, flip_averaged=embedder.flip)


def score_features(
    features_ND: FloatArray,
    benchmark: Benchmark,
    protocols: Sequence[str] | None = None,
    rerank: str = "none",
) -> Evaluation:
    """Score given features; the similarity is the dot product.

    Args:
        features_ND: (N, D), a row for each of `benchmark.test`, of length 1 for cosines.
        benchmark: the data set, with labels.
        protocols: keys of `benchmark.protocols`; None takes all.
        rerank: a key of `visir.evaluation.rerank.RERANKERS`, or "none".

    Raises:
        InputError: the number of rows is wrong, a feature is NaN, the protocol or re-ranking is
            unknown, labels are missing, or query and gallery share no identity.
    """
    _require_known(rerank)
    chosen = _chosen(benchmark, protocols)
    features_ND = np.asarray(features_ND, np.float32)
    if features_ND.ndim != 2 or len(features_ND) != len(benchmark.test):
        raise InputError(
            f"features: shape {features_ND.shape} does not fit the {len(benchmark.test)} test "
            f"images of {benchmark.name}; give one row per image"
        )
    pids, cams = _labels(benchmark, chosen)
    by_query: dict[bytes, list[tuple[str, int]]] = {}
    for key, protocol in chosen.items():
        for number, trial in enumerate(protocol.trials):
            by_query.setdefault(trial.query.tobytes(), []).append((key, number))
    scores: dict[tuple[str, int], Scores] = {}
    for jobs in by_query.values():
        named = [(chosen[key], chosen[key].trials[number]) for key, number in jobs]
        found = (
            _score_trials(features_ND, pids, cams, named)
            if rerank == "none"
            else _score_reranked(features_ND, pids, cams, named, rerank)
        )
        scores.update(zip(jobs, found, strict=True))
    results = {
        key: ProtocolResult(
            protocol.name, tuple(scores[key, number] for number in range(len(protocol.trials)))
        )
        for key, protocol in chosen.items()
    }
    return Evaluation(benchmark.name, benchmark.split, results, re_ranking=rerank)


def merge(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Combine the trials of several runs (such as RegDB's ten networks) into one evaluation.

    Raises:
        InputError: no evaluation is given, or they differ in data set or protocols.
    """
    if not evaluations:
        raise InputError("merge: no evaluation given; give at least one")
    first = evaluations[0]
    names = _protocol_names(first)
    scored = (first.benchmark, names, first.re_ranking)
    for other in evaluations[1:]:
        theirs = _protocol_names(other)
        if (other.benchmark, theirs, other.re_ranking) != scored:
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
    return Evaluation(
        first.benchmark, ", ".join(splits) or None, results, flip_averaged, first.re_ranking
    )


def _protocol_names(evaluation: Evaluation) -> dict[str, str]:
    return {key: result.protocol for key, result in evaluation.results.items()}


def evaluate_run(
    run: Path,
    data: Path | None = None,
    *,
    protocols: Sequence[str] | None = None,
    layout: str | None = None,
    split: int | None = None,
    rerank: str = "none",
    flip: bool = True,
    device: str = "cpu",
    progress: bool = False,
) -> Evaluation:
    """Score one trained run and write its scores.json, or FILE.scores.json beside another file.

    Arguments are those of `visir.commands.eval.evaluate`, for one run; `flip` is the opposite of
    its `no_flip`, and `progress` shows a progress bar. Without `split`, the data set the run was
    trained on is read at the run's own split.

    Raises:
        InputError: the run or its data set is missing, or as `evaluate`.
    """
    from visir.data.registry import open_benchmark, open_own
    from visir.embedding.pytorch import load

    run = Path(run)
    folder = Run(run if run.is_dir() else run.parent)
    embedder = load(run, device=device)
    embedder.flip = flip
    if data is None:
        if not folder.config.exists():
            raise InputError(
                f"{run}: no config.yaml says which data set it was trained on; give it with --data"
            )
        settings = read_config(folder)
        data, layout = Path(settings.data), layout or settings.layout
        if not data.exists():
            raise InputError(
                f"{folder.config}: data {data} does not exist; give the data set with --data"
            )
    if split is None:
        benchmark = open_own(data, layout, embedder.dataset, embedder.split, embedder.ranges)
    else:
        benchmark = open_benchmark(data, layout, split, embedder.ranges)
    evaluation = evaluate(embedder, benchmark, protocols, progress, rerank)
    ours = run.is_dir() or run == folder.weights
    write_json(folder.scores if ours else Path(f"{run}.scores.json"), evaluation.as_json())
    return evaluation


def score_and_log(
    run: Run,
    embedder: ImageEmbedder,
    benchmark: Benchmark,
    epoch: int,
    label: str,
    protocols: Sequence[str] | None = None,
) -> Evaluation:
    """Evaluate during training and append a line for each protocol to the run's metrics.

    Args:
        run: the run with the metrics file.
        embedder: the current network.
        benchmark: the data set to score on.
        epoch: number of the epoch the network has just finished; below 0 before the first.
        label: name of the training stage.
        protocols: as for `evaluate`.
    """
    evaluation = evaluate(embedder, benchmark, protocols)
    for result in evaluation.results.values():
        line = {"kind": "scores", "epoch": epoch, "label": label, "protocol": result.protocol}
        run.log({**line, **result.mean._asdict()})
    return evaluation


def _require_known(rerank: str) -> None:
    if rerank not in ("none", *RERANKERS):
        raise InputError(f"re-ranking {rerank!r} is unknown; {did_you_mean(rerank, RERANKERS)}")


def _chosen(benchmark: Benchmark, keys: Sequence[str] | None) -> dict[str, Protocol]:
    known = benchmark.protocols
    if not known:
        raise InputError(
            f"{benchmark.root}: {benchmark.name} has no labelled test images, so nothing can be "
            f"scored; {_ADD_LABELS}"
        )
    for key in keys or ():
        if key not in known:
            raise InputError(f"protocols: unknown protocol {key!r}; {did_you_mean(key, known)}")
    return {key: known[key] for key in (known if keys is None else dict.fromkeys(keys))}


def _labels(benchmark: Benchmark, chosen: dict[str, Protocol]) -> tuple[IntArray, IntArray]:
    """(N,) identities and cameras of all test images; unused images may have no label."""
    used = _union([rows for p in chosen.values() for trial in p.trials for rows in trial])
    for row in used:
        if benchmark.test[row].pid is None:
            raise InputError(
                f"{benchmark.root}: {benchmark.test[row].path.name} and possibly other test images "
                f"of {benchmark.name} have no identity, so nothing can be scored; {_ADD_LABELS}"
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
    """Score trials with the same queries from one similarity matrix, block by block."""
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
        yield _summary(Judged(*map(np.concatenate, zip(*parts, strict=True))), protocol)


def _summary(judged: Judged, protocol: Protocol) -> Scores:
    """The scores of a trial; an error names its protocol."""
    try:
        return summarise(judged)
    except InputError as error:
        raise InputError(f"{protocol.name}: {error}") from None


def _score_reranked(
    features_ND: FloatArray,
    pids: IntArray,
    cams: IntArray,
    jobs: Sequence[tuple[Protocol, Trial]],
    rerank: str,
) -> Iterator[Scores]:
    """Score trials one by one, because each gallery has other neighbours.

    The whole gallery is used for re-ranking; then the protocol's exclusions apply, as in published
    code.
    """
    for protocol, (query, gallery) in jobs:
        sim_QG = RERANKERS[rerank](
            features_ND[query], features_ND[gallery], cams[query], cams[gallery]
        )
        people = (pids[query], pids[gallery], cams[query], cams[gallery])
        judged = judge(sim_QG, *people, protocol.exclusion, protocol.unique_identities)
        yield _summary(judged, protocol)


def _union(rows: Sequence[IntArray]) -> IntArray:
    """The distinct row numbers, ascending."""
    return np.unique(np.concatenate(rows))
