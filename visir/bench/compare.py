"""Compare two results: paired over seeds and trials, with intervals and the seeds needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from visir.bench.statistics import (
    Interval,
    paired_difference,
    seeds_needed,
    unpaired_difference,
)
from visir.bench.store import read_collected, read_json, read_result
from visir.core.config import did_you_mean
from visir.core.run import Run
from visir.core.run_config import read_config
from visir.core.types import InputError
from visir.evaluation.results import Measures

Name = tuple[str, str]
"""Data set and arm; empty words for runs that no grid made."""
_NOTHING = (
    "holds no results; name the --out folder of `visir bench run`, a folder below it, its "
    "results.json, or runs that `visir eval` has scored"
)


@dataclass(frozen=True)
class Compared:
    """One arm, or one run, of the first results less one of the second.

    first and second: what they are; measure: what is compared; protocol: its full name; seeds: that
    both have; left_out: that only one has; trials: of a seed; means: of first and second, in
    percent; difference: over seeds, or over trials if there is one seed; effect: the difference, in
    percent points, for which seeds are counted too, if one is stated; paired: whether seed by seed.
    """

    first: str
    second: str
    measure: str
    protocol: str
    seeds: tuple[int, ...]
    left_out: tuple[int, ...]
    trials: int
    means: tuple[float, float]
    difference: Interval
    effect: float | None
    paired: bool

    @property
    def needed(self) -> int | None:
        """Seeds for 80 % power at the observed difference; None if that cannot be said."""
        return self._needed(self.difference.mean)

    @property
    def at_effect(self) -> int | None:
        """Seeds for 80 % power at the stated effect; None if none is stated, or as `needed`."""
        return None if self.effect is None else self._needed(self.effect)

    def _needed(self, effect: float) -> int | None:
        sd = self.difference.sd
        return None if len(self.seeds) < 2 or sd is None else seeds_needed(sd, effect)

    def __str__(self) -> str:
        of = self.difference
        lines = [
            f"{self.first} less {self.second}: {self.measure} in percent, {self.protocol}",
            f"  {self._sample}",
            f"  {self.means[0]:.2f} less {self.means[1]:.2f}: {of.mean:+.2f}",
        ]
        if of.low is not None and of.high is not None:
            lines.append(f"  95 % interval: {of.low:+.2f} to {of.high:+.2f}{self._over}")
        else:
            lines.append("  no interval: there is one seed with one trial")
        if of.sd is not None:
            over = "seeds" if len(self.seeds) > 1 else "trials"
            lines.append(f"  standard deviation of the differences over {over}: {of.sd:.2f}")
        return "\n".join([*lines, *self._plan])

    @property
    def _sample(self) -> str:
        seeds = f"{len(self.seeds)} seeds" if len(self.seeds) != 1 else "1 seed"
        how = "paired over seeds and trials" if self.paired else "independent samples (Welch)"
        left = f"; only one has seeds {_listed(self.left_out)}" if self.left_out else ""
        return f"{seeds} ({_listed(self.seeds)}) of {self.trials} trials, {how}{left}"

    @property
    def _over(self) -> str:
        if len(self.seeds) > 1:
            return " (t distribution, over seeds)"
        return (
            " (t distribution, over the trials of one seed: it covers the drawn galleries, not the "
            "randomness of training)"
        )

    @property
    def _plan(self) -> list[str]:
        """How many seeds are needed, in words."""
        if len(self.seeds) < 2:
            return ["  seeds needed: cannot be said from one seed; train at least two"]
        if not self.paired:
            return []
        shown = "no number shows a difference of 0" if self.needed is None else f"{self.needed}"
        lines = [f"  seeds needed for 80 % power at the observed difference: {shown}"]
        if self.effect is not None:
            lines.append(f"  at a difference of {self.effect:g}: {self.at_effect}")
        return lines


@dataclass(frozen=True)
class Comparison:
    """All arms that both results have; its text is that of each."""

    arms: tuple[Compared, ...]

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.arms))


def compare(
    first: Path,
    second: Path,
    *,
    protocol: str | None = None,
    measure: str = "mAP",
    effect: float | None = None,
    paired: bool = True,
) -> Comparison:
    """Compare two results.

    Arguments are those of `visir.commands.bench.compare`, with `paired` for the opposite of its
    `unpaired`. Two folders of one arm (or run) each are compared with each other; otherwise the
    arms of the same data set and name are, as of two builds.

    Raises:
        InputError: nothing to compare, another protocol or measure, or results that do not pair.
    """
    if measure not in Measures._fields:
        near = did_you_mean(measure, Measures._fields)
        raise InputError(f"compare: unknown measure {measure!r}; {near}")
    if effect is not None and not effect > 0:
        raise InputError(f"compare: effect must be above 0, got {effect:g}")
    one, other = read_scores(first), read_scores(second)
    return Comparison(
        tuple(
            _compared(
                _Side(first, a, one[a]),
                _Side(second, b, other[b]),
                protocol=protocol,
                measure=measure,
                effect=effect,
                paired=paired,
            )
            for a, b in _matched(first, second, one, other)
        )
    )


Scores = dict[int, Mapping[str, Any]]
"""Seed -> key of a protocol -> its name and trials, as in scores.json."""


@dataclass(frozen=True)
class _Side:
    """One of two that are compared."""

    path: Path
    name: Name
    scores: Scores

    @property
    def title(self) -> str:
        words = "/".join(filter(None, self.name))
        return f"{self.path} ({words})" if words else str(self.path)


def read_scores(path: Path) -> dict[Name, Scores]:
    """The scores below a path, by data set and arm, and by seed.

    Raises:
        InputError: there are none, they are damaged, or two runs have one seed.
    """
    found: dict[Name, Scores] = {}
    for name, seed, scores in _results(path):
        if seed in found.setdefault(name, {}):
            words = "/".join(filter(None, name)) or "the runs"
            raise InputError(
                f"{path}: {words} have seed {seed} twice; name a folder with one result a seed"
            )
        found[name][seed] = scores
    if not found:
        raise InputError(f"{path}: {_NOTHING}")
    return found


def _results(path: Path) -> Iterable[tuple[Name, int, Mapping[str, Any]]]:
    if path.is_file():
        results = read_collected(path)["results"]
    else:
        results = [read_result(file) for file in sorted(path.rglob("result.json"))]
    scored = [result for result in results if result["job"]["kind"] != "data"]
    arms = [result for result in scored if result["job"]["kind"] == "arms"]
    for result in arms or scored:
        job = result["job"]
        yield (job["data"], job["name"]), job["seed"], result["scores"]
    if not results and path.is_dir():
        yield from _plain_runs(path)


def _plain_runs(path: Path) -> Iterable[tuple[Name, int, Mapping[str, Any]]]:
    """Runs that no grid made, scored by `visir eval`."""
    for file in sorted(path.rglob("scores.json")):
        run = Run(file.parent)
        stored = read_json(file, ("protocols",), f"run visir eval {run.folder}", schema=None)
        seed = read_config(run).seed if run.config.exists() else None
        if seed is None:
            raise InputError(f"{run.config}: names no seed; restore the run's config.yaml")
        yield ("", ""), seed, _named(stored)


def _named(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """The protocols of a scores.json; the full names of re-ranked ones say so."""
    how = stored.get("re_ranking", "none")
    if how == "none":
        return cast(Mapping[str, Any], stored["protocols"])
    return {
        key: {**of, "protocol": f"{of['protocol']}, re-ranked by {how}"}
        for key, of in stored["protocols"].items()
    }


def _matched(
    first: Path, second: Path, one: Mapping[Name, Scores], other: Mapping[Name, Scores]
) -> list[tuple[Name, Name]]:
    if len(one) == len(other) == 1:
        return [(next(iter(one)), next(iter(other)))]
    both = [name for name in one if name in other]
    if not both:
        held = (", ".join("/".join(name) for name in of) for of in (one, other))
        raise InputError(
            f"compare: {first} and {second} have no arm in common ({next(held)}; {next(held)}); "
            "name the folders of one arm each"
        )
    return [(name, name) for name in both]


def _compared(
    a: _Side,
    b: _Side,
    protocol: str | None,
    measure: str,
    effect: float | None,
    paired: bool,
) -> Compared:
    seeds = sorted(a.scores.keys() & b.scores.keys())
    if not seeds and paired:
        raise InputError(
            f"compare: {a.title} has seeds {_listed(a.scores)}, {b.title} {_listed(b.scores)}, "
            "none in common; compare them with --unpaired"
        )
    key = _protocol(a, b, protocol)
    by_seed = [_by_trial(side, key, measure, seeds if paired else None) for side in (a, b)]
    if paired:
        _require_same_trials(a, b, by_seed, seeds)
    means = [[float(np.mean(trials)) for trials in of.values()] for of in by_seed]
    if not paired:
        difference = unpaired_difference(*means)
        seeds = sorted(a.scores.keys() | b.scores.keys())
    elif len(seeds) == 1:
        difference = paired_difference(*(of[seeds[0]] for of in by_seed))
    else:
        difference = paired_difference(*means)
    left = (a.scores.keys() ^ b.scores.keys()) if paired else set()
    return Compared(
        first=a.title,
        second=b.title,
        measure=measure,
        protocol=str(next(iter(a.scores.values()))[key]["protocol"]),
        seeds=tuple(seeds),
        left_out=tuple(sorted(left)),
        trials=len(next(iter(by_seed[0].values()))),
        means=(float(np.mean(means[0])), float(np.mean(means[1]))),
        difference=difference,
        effect=effect,
        paired=paired,
    )


def _protocol(a: _Side, b: _Side, wanted: str | None) -> str:
    """The key of a protocol that every result has, under one full name."""
    known = [
        key
        for key in next(iter(a.scores.values()))
        if all(key in scores for side in (a, b) for scores in side.scores.values())
    ]
    if not known:
        raise InputError(f"compare: {a.title} and {b.title} were not scored with one protocol")
    if wanted is not None and wanted not in known:
        near = did_you_mean(wanted, known)
        raise InputError(f"compare: protocol {wanted!r} is not in all results; {near}")
    key = wanted or known[0]
    names = {of[key]["protocol"] for side in (a, b) for of in side.scores.values()}
    if len(names) > 1:
        raise InputError(f"compare: protocol {key!r} means {' and '.join(sorted(names))}")
    return key


def _by_trial(
    side: _Side, key: str, measure: str, seeds: Sequence[int] | None
) -> dict[int, list[float]]:
    """Seed -> the measure of each trial, in percent."""
    wanted = sorted(side.scores) if seeds is None else seeds
    try:
        return {
            seed: [100 * float(trial[measure]) for trial in side.scores[seed][key]["trials"]]
            for seed in wanted
        }
    except (KeyError, TypeError) as error:
        raise InputError(f"{side.path}: scores of {key!r} are damaged ({error!r})") from None


def _require_same_trials(
    a: _Side, b: _Side, by_seed: Sequence[Mapping[int, Sequence[float]]], seeds: Sequence[int]
) -> None:
    for seed in seeds:
        counts = [len(of[seed]) for of in by_seed]
        if counts[0] != counts[1]:
            raise InputError(
                f"compare: seed {seed} has {counts[0]} trials in {a.title}, {counts[1]} in "
                f"{b.title}; score both with the same protocol, or compare with --unpaired"
            )


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))
