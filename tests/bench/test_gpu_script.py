"""The script for a machine with a GPU: what it is given, what it runs, and where there is none."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from visir import cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
# Stands for Python on a machine with a GPU: notes its words, and whether PyTorch has one.
STUB = """#!/usr/bin/env bash
[ "$1" != -c ] || exit 0
printf '%q ' "$@" >> "$CALLS"
echo >> "$CALLS"
[[ ! "$*" =~ $FAILING ]]
"""
# Stands for `timeout`: notes how long a command may take, and runs it.
TIMEOUT = """#!/usr/bin/env bash
echo "$3" >> "$CALLS.seconds"
exec "${@:4}"
"""


def started(*words, **environment):
    return subprocess.run(
        [SCRIPT, *map(str, words)],
        env={**os.environ, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def pretended(tmp_path):
    """Run the script with the stubs; the commands it ran, as words, and what it said."""
    for name, text in (("python", STUB), ("timeout", TIMEOUT)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    calls = tmp_path / "calls"

    def run(failing="nothing"):
        calls.unlink(missing_ok=True)
        said = started(
            tmp_path / "out", PYTHON=str(tmp_path / "python"), CALLS=str(calls), FAILING=failing,
            PATH=f"{tmp_path}:{os.environ['PATH']}",
        )  # fmt: skip
        assert said.returncode == 0, said.stderr
        return [shlex.split(line) for line in calls.read_text().splitlines()], said.stderr

    return run


@pytest.mark.parametrize("words", [[], ["one", "two"]])
def test_one_folder_is_asked_for(words):
    done = started(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "usage: benchmarks/gpu.sh OUT\n"


def test_without_a_gpu_nothing_is_done_and_this_is_said(tmp_path):
    done = started(tmp_path / "out", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 1 and done.stdout == ""
    assert "gpu.sh: this machine has no GPU that PyTorch can use; nothing was done" in done.stderr
    assert not (tmp_path / "out").exists()


def test_steps_the_twin_and_the_grid_are_run_in_ten_minutes(pretended, tmp_path):
    ran, said = pretended()
    out = str(tmp_path / "out")
    assert ran[0] == ["benchmarks/gpu.py", "--out", out]
    names = [words[2:4] for words in ran[1:]]
    assert names == [["synth", f"{out}/twin"], ["train", "pairs"], ["bench", "run"],
                     ["bench", "render"]]  # fmt: skip
    assert ran[1][4:] == ["--twin", "sysu"] and said == ""
    assert ran[2][ran[2].index("--data") + 1] == f"{out}/twin" and "--resume" not in ran[2]
    seconds = [int(one) for one in (tmp_path / "calls.seconds").read_text().split()]
    assert len(seconds) == 4 and seconds == sorted(seconds) and 0 < seconds[-1] <= 570


def test_every_option_it_gives_is_one_of_the_command(pretended, capsys):
    ran, _ = pretended()
    for words in [words[2:] for words in ran[1:]]:
        with pytest.raises(SystemExit) as ended:
            cli.main([*words, "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        assert all(word in said for word in words if word.startswith("--"))


def test_the_same_command_again_continues(pretended, tmp_path):
    pretended()
    (tmp_path / "out" / "steps.md").touch()
    (tmp_path / "out" / "twin-run").mkdir()
    (tmp_path / "out" / "twin-run" / "config.yaml").touch()
    (training, grid, _), _ = pretended()
    assert training[2:4] == ["train", "pairs"] and training[-1] == "--resume"
    assert grid[2:4] == ["bench", "run"]


def test_what_fails_is_said_and_the_rest_is_run(pretended):
    ran, said = pretended(failing="synth|gpu.py")
    assert "the steps were not all measured; see " in said
    assert "the twin is not finished, so nothing is trained on it; see " in said
    assert [words[2] for words in ran[1:]] == ["synth", "bench", "bench"]
    again, said = pretended(failing="train")
    assert [words[2] for words in again[1:]] == ["synth", "train", "bench", "bench"]
    assert "gpu.sh: the training on the twin has not ended" in said


def test_the_steps_need_a_gpu_or_another_device_by_name(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import gpu

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", "nowhere"])
    assert gpu.main() == 1
    assert capsys.readouterr().err == "benchmarks/gpu.py: no usable GPU was found\n"
