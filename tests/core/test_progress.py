"""Progress where there is no terminal: lines at a measured rate, and none where it is quick."""

import os
import signal
import threading
import time

import pytest

from visir.core import progress
from visir.core.progress import Bar, bar, beating, in_words


@pytest.fixture
def said(monkeypatch, capsys):
    """What was written since the last call; standard error is no terminal."""
    monkeypatch.setattr(progress, "EVERY", 0.05)
    return lambda: capsys.readouterr().err


def slowly(count):
    for number in range(count):
        time.sleep(0.02)
        yield number


def test_a_pipe_gets_a_line_now_and_then(said):
    assert list(bar(slowly(20), "decoding", 20, unit="images", show=True)) == list(range(20))
    text = said()
    lines = text.splitlines()
    assert 2 <= len(lines) <= 8
    assert all(line.startswith("decoding: ") and " of 20 images" in line for line in lines)
    assert "\r" not in text


def test_what_is_quick_says_nothing(said):
    assert list(bar(range(5), "decoding", unit="images", show=True)) == [0, 1, 2, 3, 4]
    assert list(bar(slowly(20), "decoding", 20, unit="images", show=False)) == list(range(20))
    assert said() == ""


def made_in_time():
    """Whether a bar can be made; what waits for a lock for ever is left behind."""
    thread = threading.Thread(
        target=lambda: list(bar(range(2), "", unit="images", show=False)), daemon=True
    )
    thread.start()
    thread.join(10)
    return not thread.is_alive()


def test_a_process_that_is_killed_while_it_writes_stops_no_other_one():
    reading, channel = os.pipe()
    child = os.fork()
    if not child:
        with Bar.get_lock():
            os.write(channel, b"held")
            time.sleep(60)
        os._exit(1)
    assert os.read(reading, 4) == b"held"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert made_in_time()


def test_a_process_forked_while_another_thread_writes_can_write():
    with Bar.get_lock():
        child = os.fork()
        if not child:
            os._exit(0 if made_in_time() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_unknown_total_is_not_named(said):
    list(bar(slowly(20), "embedding", unit="parts", show=True))
    text = said()
    assert " of " not in text
    assert "parts" in text


def test_what_has_no_steps_says_that_it_goes_on(said):
    with beating("clustering", show=True):
        time.sleep(0.18)
    lines = said().splitlines()
    assert 1 <= len(lines) <= 4
    assert lines[0] == "clustering, for 1 s so far"
    with beating("clustering", show=False):
        time.sleep(0.1)
    assert said() == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (89, "89 s"), (90, "2 min"), (3540, "59 min"), (3600, "1 h"),
     (12_000, "3 h 20 min"), (172_800, "2 days"), (190_800, "2 days 5 h")],
)  # fmt: skip
def test_durations_are_read_easily(seconds, words):
    assert in_words(seconds) == words
