"""The command line when nobody reads what it prints."""

import os
import shlex
import subprocess
import sys

import pytest


@pytest.mark.parametrize("together", [False, True], ids=["output", "output and errors"])
@pytest.mark.parametrize("words", ["", "--help", "train --help", "config cmag", "tain"])
def test_output_that_nobody_reads_ends_the_command_without_a_traceback(words, together):
    """As `visir ... | head` does; an error that is printed elsewhere keeps its exit code."""
    unread, output = os.pipe()
    os.close(unread)
    done = subprocess.run(
        [sys.executable, "-m", "visir.cli", *words.split()], stdout=output,
        stderr=output if together else subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    os.close(output)
    assert done.returncode == (2 if words == "tain" and not together else 141)
    assert "Traceback" not in (done.stderr or "")


@pytest.mark.parametrize(("words", "code"), [("--help", 0), ("config cmag", 0), ("tain", 2)])
def test_without_a_standard_output_a_command_does_its_work(words, code):
    line = f"{shlex.quote(sys.executable)} -m visir.cli {words} >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_a_fault_is_not_hidden_by_output_that_nobody_reads(tmp_path):
    code = tmp_path / "failing.py"
    code.write_text(
        "from visir import cli\n"
        "def failing(argv):\n"
        "    print('text in the buffer')\n"
        "    raise RuntimeError('the fault')\n"
        "cli._finished = failing\n"
        "cli.main([])\n"
    )
    unread, output = os.pipe()
    os.close(unread)
    done = subprocess.run(
        [sys.executable, str(code)], stdout=output, stderr=subprocess.PIPE, text=True, check=False,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )  # fmt: skip
    os.close(output)
    assert done.returncode != 141
    assert "the fault" in done.stderr
