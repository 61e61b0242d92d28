"""The command that fits after another one; the program prints it on standard error."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visir.core.run import Run

Given = Mapping[str, Any]


def next_step(name: str, given: Given, result: object) -> str | None:
    """What to type next; None where nothing follows, or where the result says it.

    Args:
        name: the command, a key of `visir.commands.COMMANDS`.
        given: its arguments by name, with defaults.
        result: what it returned.
    """
    if getattr(result, "exit_code", 0) or name not in _AFTER:
        return None
    words = _AFTER[name](given, result)
    return None if words is None else line(*words)


def line(*words: object) -> str:
    """A command line of visir; words in capitals are for the user to replace."""
    return shlex.join(["visir", *map(str, words)])


def after_training(run: Run) -> tuple[str, ...]:
    """What to do with a run: score it where that is possible, otherwise look at it and use it."""
    from typing import get_args

    from visir.core.run_config import read_config
    from visir.core.types import InputError
    from visir.data.registry import open_benchmark
    from visir.methods import METHODS
    from visir.nets.build import ResNetName

    config = read_config(run)
    data, folder = Path(config.data), run.folder
    if not METHODS.find(config.method).needs_both_modalities:
        network = config.settings.get("network")
        same = ("--set", f"network={network}") if network else ()
        method = "adca" if network in get_args(ResNetName) else "cmag"  # a transformer's
        out = f"runs/{method}-{data.resolve().name}"
        start = ("--preset", "own", "--data", data, "--start", folder, *same, "--out", out)
        return (line("train", method, *start),)
    report = line("report", folder)
    try:
        labelled = bool(open_benchmark(data, config.layout, config.split).protocols)
    except InputError:  # the data set was moved meanwhile; the training is complete all the same
        return (report,)
    if labelled:
        return (line("eval", folder), report)
    return (
        report,
        line("calibrate", folder, "--data", data),
        line("index", "add", "gallery", data, "--run", folder),
    )


_Words = tuple[object, ...]


def _after_check(given: Given, _: object) -> _Words:
    return "train", "pairs", "--preset", "own", "--data", given["data"]


def _check_out(given: Given, _: object) -> _Words:
    return "check", given["out"]


def _after_export(_: Given, result: Any) -> _Words:  # noqa: ANN401 - an `Exported`
    return "index", "add", "gallery", "IMAGES", "--run", result.folder


def _after_eval(given: Given, _: object) -> _Words | None:
    return ("report", given["runs"][0]) if given["runs"] else None


def _after_convert(given: Given, _: object) -> _Words:
    return "eval", given["out"], "--data", "DATA"


def _after_report(given: Given, _: object) -> _Words | None:
    from visir.core.run import Run
    from visir.core.run_config import read_config

    run = Run(Path(given["run"]))
    if not run.config.exists():
        return None
    return "calibrate", given["run"], "--data", read_config(run).data


def _after_calibrate(given: Given, _: object) -> _Words:
    return "index", "add", "gallery", given["data"], "--run", given["run"]


def _after_embed(given: Given, _: object) -> _Words:
    return "index", "add", "gallery", given["out"], "--run", given["run"]


def _after_index(given: Given, _: object) -> _Words:
    return "search", given["run"], "IMAGE", "--gallery", given["gallery"]


def _after_removal(given: Given, _: object) -> _Words:
    return "index", "stats", given["gallery"]


def _after_search(given: Given, result: Any) -> _Words | None:  # noqa: ANN401 - a `SearchResult`
    hits = result.lists[0].hits if result.lists else ()
    if given["json"] or not hits:
        return None
    return "compare", given["run"], result.lists[0].query, hits[0].path, "--out", "pair.png"


_AFTER: Mapping[str, Callable[[Given, Any], _Words | None]] = {
    "check": _after_check,
    "prepare": _check_out,
    "crop": _check_out,
    "export": _after_export,
    "convert": _after_convert,
    "eval": _after_eval,
    "report": _after_report,
    "calibrate": _after_calibrate,
    "embed": _after_embed,
    "index add": _after_index,
    "index remove": _after_removal,
    "search": _after_search,
}
