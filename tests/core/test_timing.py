"""Times of the parts of a training, by a clock that is set by hand."""

import pytest
import torch

from visir.core.timing import Timing, each, part, timing


@pytest.fixture
def clock(monkeypatch):
    """Advance it by changing its only element."""
    now = [100.0]
    monkeypatch.setattr("visir.core.timing.time.perf_counter", lambda: now[0])
    return now


def test_a_part_counts_without_the_parts_within_it(clock):
    found = Timing(torch.device("cpu"))
    with timing(found):
        with part("clustering"):
            clock[0] += 1
            with part("embedding"):
                clock[0] += 4
            clock[0] += 2
        clock[0] += 5  # no part
        with part("embedding"):
            clock[0] += 0.5
    assert found.seconds == {"clustering": 3.0, "embedding": 4.5}
    assert found.shares(15.0) == {"clustering": 0.2, "embedding": 0.3, "other": 0.5}


def test_a_part_that_fails_counts_and_is_closed(clock):
    found = Timing(torch.device("cpu"))
    with timing(found), part("clustering"):
        with pytest.raises(ValueError, match="far"), part("embedding"):
            clock[0] += 1
            raise ValueError("far")
        clock[0] += 2
    assert found.seconds == {"embedding": 1.0, "clustering": 2.0}


def test_what_an_iterable_needs_counts_and_what_is_done_with_it_does_not(clock):
    def numbers():
        for number in range(3):
            clock[0] += 1
            yield number
        clock[0] += 1

    found = Timing(torch.device("cpu"))
    with timing(found):
        for _ in each(numbers(), "loading"):
            clock[0] += 10
    assert found.seconds == {"loading": 4.0}


def test_without_a_timing_nothing_is_timed(clock):
    with part("forward"):
        clock[0] += 1
    assert list(each([1, 2], "loading")) == [1, 2]


def test_a_gpu_is_waited_for_where_a_part_begins_and_ends_only_if_times_are_asked_for(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    gpu = torch.device("cuda:1")
    with part("forward"):
        pass
    assert waits == []
    with timing(Timing(gpu)), part("forward"):
        assert waits == [gpu]
    assert waits == [gpu, gpu]
    with timing(Timing(torch.device("cpu"))), part("forward"):
        pass
    assert waits == [gpu, gpu]
