"""Two processes train as one does: the same losses, labels and weights; what they are refused."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from ranks_job import CASES, STEPS
from safetensors.torch import load_file
from small import run

from visir.core import ranks
from visir.core.run import Run
from visir.core.types import InputError
from visir.methods import METHODS
from visir.training import launch, processes
from visir.training.settings import Asked, DataPlace, Division, division_of

pytestmark = pytest.mark.slow

# Relative, in double precision: of the first five steps, and of all. Convolutional networks make
# ten times as much of a rounding error in two steps at their rates (2.5e-4 after twenty on a
# processor with AVX-512, less on others); other networks stay below 1e-12.
FIRST, ALL = 1e-9, 1e-2
DIVIDED = [*METHODS, "slices", "slices of convolutions"]


@pytest.fixture(scope="module")
def pair(few, once):
    """A folder with what one process and two have trained, see ranks_job.py."""

    def make(folder):
        job = Path(__file__).with_name("ranks_job.py")
        done = subprocess.run(
            [sys.executable, str(job), str(few), str(folder)], stderr=subprocess.PIPE, text=True
        )
        assert done.returncode == 0, done.stderr

    return once("ranks", make)


@pytest.fixture(scope="module")
def seen(pair):
    """By process ("one", "0", "1") and case: the terms of all steps, the labels of all epochs."""
    return {name: json.loads((pair / f"{name}.json").read_text()) for name in ("one", "0", "1")}


def deviation(found, wanted):
    """The largest relative deviation of a term."""
    assert [list(step) for step in found] == [list(step) for step in wanted]
    pairs = [(a[name], b[name]) for a, b in zip(found, wanted, strict=True) for name in b]
    return max(abs(a - b) / max(abs(b), 1e-3) for a, b in pairs)


def test_every_method_is_tried():
    assert list(STEPS) == list(METHODS)


@pytest.mark.parametrize("case", DIVIDED)
def test_two_processes_give_the_losses_labels_and_variances_of_one(case, seen, pair):
    one, first, second = (seen[name][case] for name in ("one", "0", "1"))
    assert first == second
    assert len(one["terms"]) >= (20 if case in METHODS else 10 if case == "slices" else 3)
    assert deviation(first["terms"][:5], one["terms"][:5]) < FIRST
    assert deviation(first["terms"], one["terms"]) < ALL
    assert first["labels"] == one["labels"]
    ours, theirs = (load_file(Run(pair / f"{case}-{kind}").weights) for kind in ("one", "two"))
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        # A bias before a batch norm has no gradient but rounding, of which Adam makes steps, and
        # moves the running mean. Slices have statistics of their own.
        if case in METHODS and name.endswith("running_var"):
            assert torch.allclose(theirs[name], value, rtol=1e-3, atol=1e-5), name


def test_statistics_of_each_process_are_another_training(seen):
    """Also shows that a batch norm with the wrong statistics would be noticed above."""
    one, first = (seen[name]["own statistics"]["terms"] for name in ("one", "0"))
    assert deviation(first[:1], one[:1]) > 1e-3


def test_a_gradient_that_is_counted_twice_would_be_noticed(seen):
    one, first = (seen[name]["gradients twice"]["terms"] for name in ("one", "0"))
    assert deviation(first[:1], one[:1]) < FIRST
    assert deviation(first[:5], one[:5]) > 1000 * FIRST


def test_one_process_writes(pair):
    """The lines of the metrics and the files of TensorBoard are those of a single process."""
    for case in CASES:
        one, two = (Run(pair / f"{case}-{kind}") for kind in ("one", "two"))
        kinds = [[(line["kind"], line["epoch"]) for line in of.read_metrics()] for of in (one, two)]
        assert kinds[0] == kinds[1]
        names = [sorted(path.name for path in of.folder.iterdir()) for of in (one, two)]
        assert names[0] == names[1]
        assert len(list((two.folder / "tensorboard").iterdir())) == 1


SENTENCES = {
    "seed": r"process 2 of 2 \(on \S+\) has --seed 1, but process 1 has 0; start all processes",
    "settings": r"process 2 of 2 \(on \S+\) has --set pad=1, but process 1 has ;",
    "data": r"process 2 of 2 \(on \S+\) has --data \S+, but process 1 has",
    "version": r"process 2 of 2 \(on \S+\) has visir 0\.1, but process 1 has 0\.0; start all",
    "few images": r"a batch has 6 visible of 12 images, too few for 8 slices \(2 processes times "
    r"--accumulate 4\).*set larger batches",
    "no number": r"the loss is no longer a number in epoch 1, batch 1 \(term is nan\)",
    "memory": r"epoch 1: process 2 of 2: ran out of memory \(CUDA out of memory\. Tried to allocate"
    r" 2\.00 GiB\.\); what was saved is kept",
}


@pytest.mark.parametrize("case", SENTENCES)
def test_one_process_says_why_both_end(case, pair):
    said = [json.loads((pair / f"refused {n}.json").read_text())[case] for n in (0, 1)]
    found = [line for line in said if line is not None]
    assert len(found) == 1, said
    assert re.search(SENTENCES[case], found[0]), found[0]
    assert "\n" not in found[0]


def test_the_batch_that_was_no_number_is_saved_whole(pair):
    saved = json.loads(Run(pair / "refused no number").bad_batch.read_text())
    assert saved["finite_images"] == [True] * len(saved["rows"])
    assert len(saved["files"]) == len(saved["rows"]) == 24


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = "3 GPUs are asked for, and this machine has 2; start at most 2 processes on it"
    with pytest.raises(InputError, match=said):
        launch.launch(3, "cuda", print)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=said):
        processes.own_device("auto")


def test_devices_that_cannot_be_given_are_refused(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    with pytest.raises(InputError, match="--devices 5: this machine has 4 cores"):
        launch.launch(5, "cpu", print)
    with pytest.raises(InputError, match="--devices 0: give 1 or more"):
        launch.launch(0, "cpu", print)
    with pytest.raises(InputError, match="--device cuda:1: each process has a device of its own"):
        launch.launch(2, "cuda:1", print)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="torchrun has started the processes already"):
        launch.launch(2, "cpu", print)
    with pytest.raises(InputError, match="'cuda:1': each process has a device of its own"):
        processes.own_device("cuda:1")


def meet_at(port, monkeypatch):
    """Be the first of two processes, as torchrun would start it."""
    place = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in place.items():
        monkeypatch.setenv(name, str(value))


def test_a_port_in_use_is_refused(few, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        meet_at(port, monkeypatch)
        with pytest.raises(InputError, match=rf"port 127\.0\.0\.1:{port} is in use; set MASTER_PO"):
            run(few, tmp_path / "run", "simclr")


def test_processes_that_do_not_come_are_said(few, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    meet_at(port, monkeypatch)
    monkeypatch.setattr(processes, "MEET", processes.MEET / 300)
    with pytest.raises(InputError, match=r"did not meet at .* start all of them, with the same"):
        run(few, tmp_path / "run", "simclr")


def asked(**words):
    return Asked("adca", "smoke", {}, 0, DataPlace(Path("d"), None, 1), None, **words)


def stored(batch_norm, parts):
    from visir.training.settings import RunSettings

    return RunSettings("adca", "smoke", 0, "d", None, 1, None, None, None, None, batch_norm, parts)


def test_batch_norms_keep_their_meaning():
    place = Run(Path("r"))
    assert division_of(place, stored("shared", 1), asked()) == Division(1, "shared")
    assert division_of(place, stored("shared", 4), asked()) == Division(4, "shared")
    assert division_of(place, stored("own", 4), asked(accumulate=4)) == Division(4, "own")
    with ranks.numbered(0, 2):
        assert division_of(place, stored("shared", 4), asked()) == Division(4, "shared")
        assert division_of(place, stored("own", 4), asked()) == Division(2, "own")
        with pytest.raises(InputError, match=r"began with 1 parts of a batch.*use --devices 1, or"):
            division_of(place, stored("own", 1), asked())
    with pytest.raises(InputError, match=r"began with 4 parts of a batch.*use --accumulate 4, or"):
        division_of(place, stored("shared", 4), asked(accumulate=2))
    with pytest.raises(InputError, match="the run began with --batch-norm shared, not own"):
        division_of(place, stored("shared", 1), asked(batch_norm="own"))


def test_accumulate_is_at_least_one(few, tmp_path):
    with pytest.raises(InputError, match="--accumulate 0: give 1 or more"):
        run(few, tmp_path / "run", accumulate=0)


def children(process):
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    names = {int(n): Path(f"/proc/{n}/cmdline").read_text() for n in text.split()}
    return [number for number, name in names.items() if "spawn_main" in name]


def test_a_killed_process_ends_the_training_which_one_process_resumes(few, tmp_path):
    words = [sys.executable, "-m", "visir.cli", "train", "simclr", "--preset", "smoke", "--data",
             str(few), "--out", str(tmp_path / "run"), "--device", "cpu", "--devices", "2",
             "--set", "epochs=300", "iterations=1"]  # fmt: skip
    stopped = Run(tmp_path / "run")
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 300
        while not stopped.previous.exists() and time.monotonic() < end:
            time.sleep(0.02)
        os.kill(max(children(process)), signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    errors = [line for line in said.splitlines() if "visir: error" in line]
    assert len(errors) == 1, said
    assert re.search(r"process [12] of 2 was ended by SIGKILL .*continue with --resume", errors[0])
    assert "Traceback" not in said
    assert "Warning" not in said
    resumed = []
    with pytest.raises(KeyboardInterrupt):
        run(few, stopped.folder, "simclr", resume=True, on_epoch=stop_after(resumed))
    lines = [line["epoch"] for line in stopped.read_metrics()]
    assert lines == list(range(resumed[0] + 1))
    assert resumed[0] >= 2


def stop_after(resumed):
    def stop(epoch, *_):
        resumed.append(epoch)
        raise KeyboardInterrupt

    return stop
