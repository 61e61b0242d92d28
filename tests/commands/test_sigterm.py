"""SIGTERM: a training ends as with Ctrl-C, other commands as ever."""

import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

from visir import cli


def raising_sigterm(seen: list) -> object:
    def call(*_args: object, **_kwargs: object) -> None:
        seen.append(signal.getsignal(signal.SIGTERM))
        if seen[-1] is not signal.SIG_DFL:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)  # the signal ends it

    return call


@pytest.mark.parametrize(
    ("words", "where"),
    [
        ("train adca --data d --out 'a b'", "visir.training.train.train"),
        ("pretrain d --resume", "visir.training.pretrain.pretrain"),
    ],
)
def test_sigterm_ends_a_training_like_ctrl_c(
    words: str, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    seen: list = []
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(where, raising_sigterm(seen))
    assert cli.main(shlex.split(words)) == 143
    resume = "" if "--resume" in words else " --resume"
    assert capsys.readouterr().err == f"\nvisir: stopped; to continue: visir {words}{resume}\n"
    assert len(seen) == 1
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_ends_other_commands_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list = []
    monkeypatch.setattr("visir.report.write_report", raising_sigterm(seen))
    assert cli.main(["report", "r"]) == 0
    assert seen == [signal.SIG_DFL]


STUCK = """
import os, signal, threading, time
from concurrent.futures import ThreadPoolExecutor
from visir import cli
import visir.training.train

def train(*args, **kwargs):
    with ThreadPoolExecutor(1) as pool:  # its end waits for the thread, and the thread for ever
        pool.submit(threading.Event().wait)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)

visir.training.train.train = train
cli._ENDING = 1
cli.main(["train", "adca", "--data", "d"])
"""


def test_a_training_that_cannot_end_in_order_is_ended_after_a_while() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 143
    assert done.stderr == "\nvisir: stopped; to continue: visir train adca --data d --resume\n"
