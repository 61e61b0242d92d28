"""The scheduler keeps every device busy, waits for what a job needs, and stops cleanly."""

import pytest

from visir.bench.jobs import Job
from visir.bench.progress import Estimate, Lines, spelt
from visir.bench.schedule import chosen_devices, run_jobs
from visir.bench.store import Store
from visir.core.types import InputError


def job(name, seed, *needs):
    return Job("arms", "people", name, seed, needs, {})


class Machine:
    """Jobs that last a number of ticks; a tick is a look at the processes."""

    def __init__(self, ticks, fails=()):
        self.ticks, self.fails = ticks, fails
        self.now, self.busy, self.started, self.stopped, self.most = 0, {}, [], [], 0

    def launch(self, of, device):
        self.started.append((of.key, device, self.now))
        self.busy[of.key] = device
        self.most = max(self.most, len(self.busy))
        return _Process(self, of, self.now + self.ticks.get(of.name, 1))

    def waiting(self, running):
        self.now += 1

    def nothing(self, *_):
        pass

    started_one = finished = nothing


class _Process:
    def __init__(self, machine, of, end):
        self.machine, self.of, self.end = machine, of, end

    def poll(self):
        if self.machine.now < self.end:
            return None
        self.machine.busy.pop(self.of.key, None)
        return 1 if self.of.name in self.machine.fails else 0

    def stop(self):
        self.machine.stopped.append(self.of.key)


class Watcher:
    def __init__(self, machine):
        self.waiting = machine.waiting

    def started(self, running):
        pass

    def finished(self, running, succeeded):
        pass


def scheduled(jobs, devices, machine, done=(), **options):
    options = {"clock": lambda: machine.now, "pause": 0, **options}
    return run_jobs(jobs, set(done), devices, machine.launch, Watcher(machine), **options)


CHAIN = [
    job("warm", 0),
    job("a", 0, "arms/people/warm/0"),
    job("b", 0, "arms/people/warm/0"),
    job("warm", 1),
    job("a", 1, "arms/people/warm/1"),
    job("b", 1, "arms/people/warm/1"),
]


@pytest.mark.parametrize("devices", [["cpu"], ["cpu", "cpu"], ["cuda:0", "cuda:1", "cuda:2"]])
def test_every_job_follows_what_it_needs_and_no_device_idles(devices):
    machine = Machine({"warm": 4, "a": 2, "b": 3})
    outcome = scheduled(CHAIN, devices, machine)
    assert outcome.done == {of.key for of in CHAIN} and not outcome.left
    begun = {key: at for key, _, at in machine.started}
    for of in CHAIN:
        for need in of.needs:
            assert begun[of.key] >= begun[need] + 4
    assert machine.most == min(len(devices), 4)
    assert (
        machine.now == {1: 18, 2: 10, 3: 9}[len(devices)]
    )  # by hand, none idle while one is ready
    assert {device for _, device, _ in machine.started} == set(devices)


def test_finished_jobs_are_skipped_and_a_failure_stops_only_what_needs_it():
    machine = Machine({}, fails=("warm",))
    outcome = scheduled(CHAIN, ["cpu"], machine, done=["arms/people/warm/0"])
    assert [key for key, _, _ in machine.started] == [
        "arms/people/a/0", "arms/people/b/0", "arms/people/warm/1",
    ]  # fmt: skip
    assert outcome.failed == ["arms/people/warm/1"]
    assert outcome.left == ["arms/people/a/1", "arms/people/b/1"] and not outcome.out_of_time


def test_after_the_minutes_nothing_is_started_and_what_runs_is_finished():
    machine = Machine({"warm": 90, "a": 90})
    outcome = scheduled(CHAIN, ["cpu"], machine, minutes=1.6)
    assert outcome.done == {"arms/people/warm/0", "arms/people/a/0"}
    assert outcome.out_of_time and len(outcome.left) == 4 and not machine.stopped


def test_an_interruption_ends_what_runs():
    machine = Machine({"warm": 50})

    def interrupted(running):
        raise KeyboardInterrupt

    machine.waiting = interrupted
    with pytest.raises(KeyboardInterrupt):
        scheduled(CHAIN, ["cpu", "cpu"], machine)
    assert machine.stopped == ["arms/people/warm/0", "arms/people/warm/1"]


def test_devices_are_named():
    assert chosen_devices("cpu,cpu") == ["cpu", "cpu"]
    with pytest.raises(InputError, match="device '\\?' is unknown"):
        chosen_devices("cpu,")


def test_the_time_left_is_that_of_the_same_arm():
    a, b = (job(name, seed) for name, seed in (("a", 0), ("b", 0)))
    estimate = Estimate([a, b], {})
    assert estimate.left([job("a", 1)], {}, 1) is None
    estimate.add(a, 10)
    estimate.add(b, 2)
    waiting = [job("a", 1), job("b", 1), job("b", 2)]
    assert estimate.left(waiting, {}, 1) == 14
    assert estimate.left(waiting, {}, 2) == 7
    assert estimate.left(waiting, {job("a", 2): 4.0}, 1) == 20
    assert estimate.left([], {job("a", 2): 40.0}, 1) == 0
    assert estimate.of(job("new", 0)) == 6
    assert [spelt(minutes) for minutes in (0.5, 35.2, 130)] == ["30 s", "35 min", "2 h 10 min"]


def test_a_pipe_gets_a_line_at_every_start_and_end_and_one_a_minute(tmp_path, capsys):
    now = [0.0]
    lines = Lines(Store(tmp_path), CHAIN, {CHAIN[0].key: {"minutes": 3}}, 1, lambda: now[0])
    machine = Machine({})
    running = []

    class Telling:
        started = staticmethod(lambda one: (running.append(one), lines.started(one)))
        finished = staticmethod(lines.finished)

        @staticmethod
        def waiting(of):
            now[0] += 40
            machine.now += 1
            lines.waiting(of)

    machine.ticks = {"a": 3}
    run_jobs(
        CHAIN[:2], {CHAIN[0].key}, ["cpu"], machine.launch, Telling, clock=lambda: now[0], pause=0
    )
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("[1 of 6 done, about 15 min left] a (people, seed 0): started on cpu")
    assert said[1].endswith("a (people, seed 0): running for 1 min")
    assert said[2] == "[2 of 6 done, about 10 min left] a (people, seed 0): done in 2 min"
    assert len(said) == 3
