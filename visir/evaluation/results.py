"""The results of an evaluation: measures of trials, protocols and benchmarks; as text and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from visir.evaluation.ranking import Scores

RANKS = (1, 5, 10, 20)


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
        """Sample standard deviation over the trials; None for a single trial."""
        if len(self.trials) == 1:
            return None
        values = [Measures.of(trial) for trial in self.trials]
        return Measures(*np.std(values, axis=0, ddof=1).tolist())

    @property
    def queries(self) -> str:
        """Queries with a match in the gallery: a number, or a range if trials differ."""
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
    are means over an image and its mirror image (None: unknown); ``re_ranking``: the re-ranking of
    the ranked lists.
    """

    benchmark: str
    split: str | None
    results: dict[str, ProtocolResult]
    flip_averaged: bool | None = None
    re_ranking: str = "none"

    def table(self) -> str:
        """The results as text, one line per protocol, in percent."""
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
        legend = f"{data}, in percent{spread}; flip averaging: {flip}; re-ranking: "
        return "\n".join([*lines, f"{legend}{self.re_ranking}."])

    def as_json(self) -> dict[str, Any]:
        """The content of scores.json; all accuracies are fractions (0..1)."""
        return {
            "benchmark": self.benchmark,
            "split": self.split,
            "flip_averaging": self.flip_averaged,
            "re_ranking": self.re_ranking,
            "protocols": {key: result.as_json() for key, result in self.results.items()},
        }


def _table_row(result: ProtocolResult) -> list[str]:
    mean, spread = result.mean, result.spread
    cells = [f"{100 * value:.2f}" for value in mean]
    if spread is not None:
        cells[:-1] = [f"{c} ± {100 * s:.2f}" for c, s in zip(cells, spread[:-1], strict=False)]
    return [result.protocol, *cells, str(len(result.trials)), result.queries]
