"""What the command line can do: one verb for each use, each a thin call of one Python function.

Nothing heavy is imported until a verb runs, so that help answers at once.
"""

from collections.abc import Callable

from visir.verbs import data, finding, learning

VERBS: dict[str, Callable[..., int | None]] = {
    "demo": data.demo,
    "synth": data.synth,
    "check": data.check,
    "prepare": data.prepare,
    "train": learning.train,
    "pretrain": learning.pretrain,
    "convert": learning.convert,
    "eval": learning.evaluate,
    "search": finding.search,
    "report": learning.report,
    "config": learning.config,
}
