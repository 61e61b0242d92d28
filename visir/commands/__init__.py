"""The commands: a module for each, named after it, with one function that is the Python interface.

Nothing is imported until a command is asked for, so that help answers at once.
"""

COMMANDS = {
    "demo": "demo:demo",
    "synth": "synth:synth",
    "check": "check:check",
    "prepare": "prepare:prepare",
    "crop": "crop:crop",
    "train": "train:train",
    "pretrain": "pretrain:pretrain",
    "convert": "convert:convert",
    "eval": "eval:evaluate",
    "report": "report:report",
    "embed": "embed:embed",
    "index add": "index:add",
    "index remove": "index:remove",
    "index list": "index:list",
    "index stats": "index:stats",
    "search": "search:search",
    "compare": "compare:compare",
    "calibrate": "calibrate:calibrate",
    "serve": "serve:serve",
    "export": "export:export",
    "config": "config:config",
    "bench run": "bench:run",
    "bench render": "bench:render",
    "bench compare": "bench:compare",
    "bench check": "bench:check",
}
"""Command -> module of `visir.commands`, and the function in it."""
