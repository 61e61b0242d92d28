"""The command line: finds the verb, reads its words, and turns errors into one line.

The verbs themselves are in `visir.commands`.
"""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence

from visir import __version__
from visir.commands import VERBS


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: the words after `visir`; those of this process where None.

    Returns:
        The exit code: 0 done, 1 `check` found problems, 2 bad input, 130 stopped by Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"visir {__version__}")
        return 0
    from visir.core.types import InputError

    try:
        return _run(*_divided(argv)) or 0
    except InputError as error:
        print(f"visir: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nvisir: stopped{_how_to_go_on(argv)}", file=sys.stderr)
        return 130


def _overview() -> str:
    lines = [(inspect.getdoc(verb) or "").splitlines()[0] for verb in VERBS.values()]
    verbs = "\n".join(f"  {name:<14}{line}" for name, line in zip(VERBS, lines, strict=True))
    return (
        "usage: visir VERB ...\n\n"
        "Find the same person across visible and infrared cameras, learnt without labels.\n\n"
        f"{verbs}\n\n"
        "visir VERB --help shows a verb's options with their defaults; visir --version the version."
    )


def _divided(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The verb, of one word or of two, and the words after it."""
    two = " ".join(argv[:2])
    return (two, argv[2:]) if two in VERBS else (argv[0], argv[1:])


def _run(name: str, words: Sequence[str]) -> int | None:
    """Call the verb as the words ask for."""
    from visir.core.config import did_you_mean
    from visir.core.types import InputError

    if name not in VERBS:
        raise InputError(f"unknown verb {name!r}; {did_you_mean(name, VERBS)}")
    verb = VERBS[name]
    _check_options(name, words, ["--help", *_options(verb)])
    import tyro

    # tyro gives one-letter options two dashes
    words = ["-" + word if word == "-k" or word.startswith("-k=") else word for word in words]
    done = tyro.cli(verb, prog=f"visir {name}", args=words, config=(tyro.conf.FlagCreatePairsOff,))
    if done is not None and not isinstance(done, int):
        print(done)
        return 0
    return done


def _check_options(name: str, words: Sequence[str], known: Sequence[str]) -> None:
    """Refuse misspelt options with an offer, and repeated ones, of which tyro keeps the last."""
    from visir.core.config import did_you_mean
    from visir.core.types import InputError

    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    for option in given:
        if option not in known:
            raise InputError(f"{name}: unknown option {option!r}; {did_you_mean(option, known)}")
        if given.count(option) > 1:
            raise InputError(f"{name}: option {option!r} is given twice; give its values together")


def _options(verb: Callable[..., int | None]) -> list[str]:
    parameters = inspect.signature(verb).parameters.values()
    named = [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]
    return ["--" + name.replace("_", "-") for name in named]


def _how_to_go_on(argv: Sequence[str]) -> str:
    if argv[0] in ("train", "pretrain"):
        words = [*argv, *([] if "--resume" in argv else ["--resume"])]
        return f"; go on with: visir {shlex.join(words)}"
    if argv[0] in ("demo", "synth", "prepare", "embed", "index"):
        return "; the same command goes on with what is missing"
    return ""


if __name__ == "__main__":
    sys.exit(main())
