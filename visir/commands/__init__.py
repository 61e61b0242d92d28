"""What the command line can do: one verb for each use, each a thin call of one Python function.

Nothing heavy is imported until a verb runs, so that help answers at once.
"""

from collections.abc import Callable

from visir.commands import data, embedding, finding, indexing, learning, serving

VERBS: dict[str, Callable[..., int | None]] = {
    "demo": data.demo,
    "synth": data.synth,
    "check": data.check,
    "prepare": data.prepare,
    "train": learning.train,
    "pretrain": learning.pretrain,
    "convert": learning.convert,
    "eval": learning.evaluate,
    "report": learning.report,
    "embed": embedding.embed,
    "index add": indexing.add,
    "index remove": indexing.remove,
    "index list": indexing.show,
    "index stats": indexing.stats,
    "search": finding.search,
    "compare": finding.compare,
    "calibrate": finding.calibrate,
    "serve": serving.serve,
    "export": serving.export,
    "config": learning.config,
}
