"""Writes the reference of all commands, a page of the documentation, from the commands themselves.

python -m visir.commands.reference
"""

from __future__ import annotations

from pathlib import Path

from visir.commands import COMMANDS
from visir.commands.arguments import Argument, Command, find

PAGE = Path("docs/reference/commands.md")
_HEAD = """\
<!-- Written by `python -m visir.commands.reference`; do not edit. -->
# Command reference

What `visir COMMAND --help` displays, for every command. [Commands](../cli.md) explains how they
work together, and each command is also a [Python function](api.md) with the same arguments.
"""


def page() -> str:
    """The page's Markdown text."""
    return "\n".join([_HEAD, *(_section(find(name)) for name in COMMANDS)])


def _section(command: Command) -> str:
    positional = [argument for argument in command.arguments if argument.positional]
    options = [argument for argument in command.arguments if not argument.positional]
    usage = " ".join(
        [
            f"visir {command.name}",
            *(argument.metavar for argument in positional),
            *(_in_usage(option) for option in options if option.hint == "(required)"),
            *(["[OPTIONS]"] if options else []),
        ]
    )
    lines = [f"## visir {command.name}", "", command.description, "", f"```text\n{usage}\n```", ""]
    lines += ["| argument | meaning | if omitted |", "|---|---|---|"] if command.arguments else []
    lines += [_row(argument) for argument in command.arguments]
    return "\n".join([*lines, ""])


def _in_usage(argument: Argument) -> str:
    return f"{argument.option} {argument.metavar}".strip()


def _row(argument: Argument) -> str:
    name = argument.metavar if argument.positional else _in_usage(argument)
    hint = argument.hint.strip("()").removeprefix("default: ")
    text = argument.text.replace("|", "\\|")
    return f"| `{name}` | {text} | {'' if hint == 'optional' else hint} |"


def main() -> None:
    """Write the page; run from the repository's root."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
