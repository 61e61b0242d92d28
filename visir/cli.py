"""The command line: finds the command, reads its words, and turns errors into one line.

The commands themselves are in `visir.commands`.
"""

from __future__ import annotations

import inspect
import io
import os
import select
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TextIO

from visir import __version__
from visir.commands import COMMANDS

if TYPE_CHECKING:
    from visir.commands.arguments import Argument, Command

_TRAINING = ("train", "pretrain", "demo")
_ENDING = 10  # seconds that a training has after SIGTERM, before it is ended where it stands
_AGAIN = 0.05  # seconds after which a SIGTERM that was lost is sent again


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        argv: the words after `visir`; those of this process if None.

    Returns:
        The exit code: 0 done, 1 a check found problems or a job failed, 2 bad input, 130 stopped
        by Ctrl-C, 141 what read the output has ended, 143 a training stopped by SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            code = _finished(argv)
        except SystemExit:  # after --help
            _flush()
            raise
        _flush()
        return code
    except BrokenPipeError:
        if not _unread():
            raise
        return 141


def _flush() -> None:
    """Write what is left to the standard output, if there is one."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _unread() -> bool:
    """Whether nobody reads the standard output; if so, nothing more is written to it."""
    if sys.stdout is None:
        return False
    output, asked = sys.stdout.fileno(), select.poll()
    asked.register(output, 0)
    unread = any(event & select.POLLERR for _, event in asked.poll(0))
    if unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return unread


def _finished(argv: Sequence[str]) -> int:
    """Run the command to its end; the exit code."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if argv[0] == "--version":
        print(f"visir {__version__}")
        return 0
    from visir.core.types import InputError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names in any script, any terminal
    try:
        with warnings.catch_warnings(), _ending_in_order(argv):
            warnings.showwarning = _show_warning
            return _run(*_divided(argv))
    except InputError as error:
        print(f"visir: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        if _reports():
            print(_stopped(argv), file=sys.stderr)
        return 143 if isinstance(stopped, _TerminatedError) else 130


class _TerminatedError(KeyboardInterrupt):
    """SIGTERM, as a service manager or a batch system sends it before it kills."""


@contextmanager
def _ending_in_order(argv: Sequence[str]) -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C in a training; signals reach the main thread only.

    An exception that interrupts code which holds a lock can leave threads that wait for this lock,
    and a pool that waits for its threads, for ever. A training survives its end at any point, so
    after a while the process is ended all the same. One that is raised while Python removes an
    object is lost, so it is raised again a moment later.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        signal.alarm(_ENDING)
        raise _TerminatedError

    def give_up(_number: int, _frame: FrameType | None) -> None:
        if _reports():
            os.write(2, f"{_stopped(argv)}\n".encode())
        os._exit(143)

    def lost(what: sys.UnraisableHookArgs) -> None:
        if issubclass(what.exc_type, _TerminatedError):
            threading.Timer(_AGAIN, os.kill, [os.getpid(), signal.SIGTERM]).start()
        else:
            hook(what)

    if argv[0] not in _TRAINING or threading.current_thread() is not threading.main_thread():
        yield
        return
    hook, sys.unraisablehook = sys.unraisablehook, lost
    before = signal.signal(signal.SIGTERM, stop), signal.signal(signal.SIGALRM, give_up)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.alarm(0)
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGALRM, before[1])


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print visir's own warnings as one line, others as usual."""
    from visir.core.names import printable

    text = warnings.formatwarning(message, category, filename, lineno, line)
    if category.__module__.startswith("visir."):
        text = f"visir: warning: {printable(str(message))}\n"
    (file or sys.stderr).write(text)


def _overview() -> str:
    from visir.commands.arguments import find

    commands = "\n".join(f"  {name:<14}{find(name).summary}" for name in COMMANDS)
    return (
        "usage: visir COMMAND ...\n\n"
        "Find the same person across visible and infrared cameras.\n\n"
        f"{commands}\n\n"
        "visir COMMAND --help shows the options of a command with their defaults.\n"
        "visir --version shows the version."
    )


def _divided(argv: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command, of one word or of two, and the words after it."""
    two = " ".join(argv[:2])
    return (two, argv[2:]) if two in COMMANDS else (argv[0], argv[1:])


def _run(name: str, words: Sequence[str]) -> int:
    """Call the command, print what it returns, and give the exit code."""
    from visir.commands.arguments import find
    from visir.commands.next_step import next_step
    from visir.core.config import did_you_mean
    from visir.core.types import InputError

    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}; {did_you_mean(name, COMMANDS)}")
    command = find(name)
    words = _data_in_place(command, _renamed(command, words))
    _check_options(command, words)
    given, result = _called(command, words)
    if result is None:
        return 0
    if _reports():
        print(result, flush=True)
        following = next_step(name, given, result)
        if following is not None:
            print(f"next: {following}", file=sys.stderr)
    return getattr(result, "exit_code", 0)


def _reports() -> bool:
    """Whether this process says what all do: torchrun starts several."""
    return os.environ.get("RANK", "0") == "0"


def _called(command: Command, words: Sequence[str]) -> tuple[dict[str, Any], object]:
    """The command's arguments by name, as tyro reads them from the words, and its result."""
    import tyro

    def call(*args: object, **options: object) -> tuple[dict[str, Any], object]:
        bound = inspect.signature(command.function).bind(*args, **options)
        bound.apply_defaults()
        return dict(bound.arguments), command.function(*args, **options)

    parameters = [
        parameter.replace(annotation=_annotated(argument))
        for parameter, argument in zip(
            inspect.signature(command.function).parameters.values(), command.arguments, strict=True
        )
    ]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__ = command.description
    flags = (tyro.conf.FlagCreatePairsOff,)
    return tyro.cli(call, prog=f"visir {command.name}", args=words, config=flags)


def _annotated(argument: Argument) -> Any:  # noqa: ANN401 - a type expression
    """The argument's type with its help, as tyro reads it."""
    import tyro

    return Annotated[
        argument.kind,
        tyro.conf.arg(
            metavar=argument.metavar or None,
            help=argument.text,
            help_behavior_hint=argument.hint,
            aliases=(argument.option,) if len(argument.name) == 1 else None,
        ),
    ]


def _renamed(command: Command, words: Sequence[str]) -> list[str]:
    """The words with old spellings replaced, each with a warning."""
    options, values = command.old("OLD_OPTIONS"), command.old("OLD_VALUES")
    notes = command.old("OLD_NOTES")
    known = {argument.option for argument in command.arguments}
    found: list[str] = []
    before = ""
    for word in words:
        head, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if head not in known and options.get(head) in known:
            _warn_of_old(head, options[head], notes.get(head, ""))
            head = options[head]
        option = head or before
        if value in values.get(option, {}):
            _warn_of_old(f"{option} {value}", f"{option} {values[option][value]}")
            value = values[option][value]
        found.append(head + equals + value)
        before = head
    return found


def _warn_of_old(old: str, new: str, note: str = "") -> None:
    line = f"visir: warning: {old} is now called {new}; the old name works until version 1.0"
    print(
        f"{line}; {note}" if note else line,
        file=sys.stderr,
    )


def _data_in_place(command: Command, words: Sequence[str]) -> Sequence[str]:
    """`--data PATH` of a command that takes DATA by its place, moved to that place."""
    positional = [argument.name for argument in command.arguments if argument.positional]
    at = next((row for row, word in enumerate(words) if word.partition("=")[0] == "--data"), None)
    if "data" not in positional or at is None:
        return words
    _, equals, value = words[at].partition("=")
    taken = [value] if equals else list(words[at + 1 : at + 2])
    rest = [*words[:at], *words[at + 2 - bool(equals) :]]
    place = positional.index("data")
    return [*rest[:place], *taken, *rest[place:]]


def _check_options(command: Command, words: Sequence[str]) -> None:
    """Refuse misspelt options with an offer, and repeated ones, of which tyro keeps the last."""
    from visir.core.config import did_you_mean
    from visir.core.types import InputError

    known = ["--help", *_options(command)]
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    for option in given:
        if option not in known:
            near = did_you_mean(option, known)
            raise InputError(f"{command.name}: unknown option {option!r}; {near}")
        if given.count(option) > 1:
            raise InputError(
                f"{command.name}: option {option!r} is given twice; give its values together"
            )


def _options(command: Command) -> list[str]:
    """Every option with two dashes, as words may name it."""
    named = [argument.name for argument in command.arguments if not argument.positional]
    return ["--" + name.replace("_", "-") for name in named]


def _stopped(argv: Sequence[str]) -> str:
    return f"\nvisir: stopped{_how_to_continue(argv)}"


def _how_to_continue(argv: Sequence[str]) -> str:
    if argv[0] in ("train", "pretrain"):
        words = [*argv, *([] if "--resume" in argv else ["--resume"])]
        return f"; to continue: visir {shlex.join(words)}"
    again = (["index", "add"], ["bench", "run"])
    if argv[0] in ("demo", "synth", "prepare", "embed") or list(argv[:2]) in again:
        return "; run the same command again to continue"
    return ""


if __name__ == "__main__":
    sys.exit(main())
