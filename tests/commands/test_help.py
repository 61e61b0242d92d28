"""Help: every command and argument is explained, in one look, without loading anything heavy."""

import re
import subprocess
import sys

import pytest

from visir import cli
from visir.commands import COMMANDS, arguments
from visir.commands.arguments import Command


def test_overview_names_every_verb(capsys: pytest.CaptureFixture) -> None:
    for argv in ([], ["-h"], ["--help"]):
        assert cli.main(argv) == 0
        text = capsys.readouterr().out
        assert all(f"\n  {name} " in text for name in COMMANDS)
        assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_explains_every_argument(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    command = arguments.find(name)
    for option in cli._options(command):
        after = text.split(f"{option} ", 1)[1]
        assert any(hint in after for hint in ("(default: ", "(required)", "(optional)"))
    described = re.split(r"\n *(?:Returns|Raises):\n", command.function.__doc__ or "")[0]
    for line in filter(None, map(str.strip, described.split("Args:")[1].splitlines())):
        assert line.partition(": ")[2] in text
    assert all(argument.help and argument.text in text for argument in command.arguments)


@pytest.mark.parametrize("words", ["-k 3", "-k=3", "--k 3", "--k=3"])
def test_k_has_one_dash_or_two(words: str) -> None:
    def listed(*, k: int = 10) -> int:
        """List hits.

        Args:
            k: number of hits.
        """
        return k

    assert cli._called(Command("listed", listed), words.split()) == ({"k": 3}, 3)


@pytest.mark.parametrize("name", COMMANDS)
def test_placeholders_look_alike(name: str) -> None:
    for argument in arguments.find(name).arguments:
        word = argument.metavar.removesuffix(" ...")
        if argument.positional:
            assert word == argument.name.upper()
        else:
            assert word in ("", "NAME", "NUMBER", "PATH", "TEXT")


@pytest.mark.slow
def test_help_loads_no_torch() -> None:
    """One process asks for the help of every command, and names the first that loads PyTorch."""
    code = (
        "import sys, visir.cli\n"
        f"for name in {[*COMMANDS]!r}:\n"
        "    try: visir.cli.main([*name.split(), '--help'])\n"
        "    except SystemExit as done: assert done.code == 0, name\n"
        "    else: raise AssertionError(name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("heavy", ["torch", "numpy", "tyro", "matplotlib"])
def test_importing_the_command_line_loads_nothing_heavy(heavy: str) -> None:
    code = f"import sys, visir.cli; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
