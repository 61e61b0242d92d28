"""A folder held by one process at a time."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from visir.core.lock import LOCK, NoLockWarning, locked
from visir.core.types import InputError

HOLDS = """
import sys, time
from pathlib import Path
from visir.core.lock import locked
with locked(Path(sys.argv[1]), "trains", "wait for it"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    words = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_the_first(holder, tmp_path):
    said = rf"run: process {holder.pid} on \S+ trains there; wait for it"
    with pytest.raises(InputError, match=said), locked(tmp_path / "run", "trains", "wait for it",
                                                       patience=0):  # fmt: skip
        raise AssertionError


def test_a_killed_process_holds_nothing(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    with locked(tmp_path / "run", "trains", "wait for it", patience=30):
        assert (tmp_path / "run" / LOCK).read_text().startswith(f"process {os.getpid()} on ")


def test_one_process_cannot_hold_a_folder_twice_but_again(tmp_path):
    with locked(tmp_path, "trains", "wait"):
        with pytest.raises(InputError, match=f"process {os.getpid()} on"):
            locked(tmp_path, "trains", "wait", patience=0).__enter__()
        assert (tmp_path / LOCK).read_text().startswith("process ")
    with locked(tmp_path, "trains", "wait", patience=0):
        pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("visir.core.lock.fcntl.flock", none)
    with pytest.warns(NoLockWarning, match="cannot lock files"), locked(tmp_path, "trains", "wait"):
        pass


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        locked(tmp_path / "file" / "run", "trains", "wait").__enter__()
