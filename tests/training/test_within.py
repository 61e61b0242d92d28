"""Saving inside an epoch: a training stopped after any batch goes on to the same weights."""

import json

import pytest
import torch
from small import run as run_small
from small import same

from visir.core.run import DamageWarning, Run
from visir.core.types import InputError
from visir.methods import METHODS
from visir.methods.adca import Adca
from visir.methods.contract import Method
from visir.training.loop import Loop

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]

# Settings that keep more state than the preset "smoke": shared memories, a queue, many batches.
FEW = {"epochs": "2", "people": "6", "images": "4"}  # three batches an epoch
MORE = {
    "agw": FEW,
    "caj": FEW,
    "hct": FEW,
    "adca": {"drop_path": "0.5", "network": "micro", "split_weight": "1"},
    "cmag": {"carc": "true", "cats_convolution": "true", "split_weight": "1"},
    "mra": FEW,
    "sdcl": {"iterations": "3", "drop_path": "0.5", "split_weight": "1"},
}


class Killed(BaseException):
    """Stands in for a kill: nothing handles it."""


def run(few, out, method="adca", **keywords):
    return run_small(few, out, method, **{"settings": MORE.get(method), **keywords})


def logged(run):
    """The metrics without what depends on the clock."""
    clock = ("seconds", "views_per_second")
    return [{k: v for k, v in line.items() if k not in clock} for line in run.read_metrics()]


@pytest.fixture
def stopping(monkeypatch):
    """`stopping(n)`: from now on the n-th batch that is begun is not trained."""
    step = Loop._step

    def after(count):
        begun = []

        def counted(self, batch, *where):
            begun.append(where)
            if len(begun) == count:
                raise Killed
            return step(self, batch, *where)

        monkeypatch.setattr(Loop, "_step", counted)
        return begun

    return after


@pytest.mark.parametrize("method", METHODS)
def test_stopped_after_every_single_batch(method, few, tmp_path, stopping):
    """Each start trains one batch only: every place between two batches is resumed from."""
    begun = stopping(0)
    whole = run(few, tmp_path / "whole", method)
    steps, broken = list(begun), Run(tmp_path / "run")
    trained = []
    for starts in range(2 * len(steps) + 2):
        begun = stopping(2)
        try:
            run(few, broken.folder, method, resume=starts > 0, save_every=1)
        except Killed:
            trained += begun[:-1]
            continue
        trained += begun
        break
    # Only the last batch of an epoch is not saved by itself: the epoch is, when it is complete.
    assert trained == steps
    assert same(whole, broken)
    assert logged(whole) == logged(broken)
    assert not broken.within.exists()


@pytest.mark.parametrize("stop", [2, 3, 4, 5])
def test_saving_every_second_batch(stop, few, tmp_path, stopping):
    settings = {**MORE["sdcl"], "iterations": "5", "epochs": "3", "switch": "2"}
    whole = run(few, tmp_path / "whole", "sdcl", settings=settings)
    stopping(5 + stop)
    with pytest.raises(Killed):
        run(few, tmp_path / "run", "sdcl", settings=settings, save_every=2)
    begun = stopping(0)
    again = run(few, tmp_path / "run", "sdcl", resume=True, settings=None)
    assert begun[0] == (1, (stop - 1) // 2 * 2)
    assert same(whole, again)
    assert logged(whole) == logged(again)


def interrupted(few, out, stopping, **keywords):
    """A run with a state inside its second epoch."""
    stopping(4)
    with pytest.raises(Killed):
        run(few, out, save_every=1, **keywords)
    assert Run(out).within.exists()
    stopping(0)
    return Run(out)


def test_a_damaged_state_inside_an_epoch_costs_the_epoch_only(few, tmp_path, stopping):
    whole = run(few, tmp_path / "whole")
    broken = interrupted(few, tmp_path / "run", stopping)
    data = bytearray(broken.within.read_bytes())
    data[len(data) // 2] ^= 1
    broken.within.write_bytes(data)
    begun = stopping(0)
    with pytest.warns(DamageWarning, match=r"within\.ckpt: is damaged .*repeated from its start"):
        run(few, broken.folder, resume=True)
    assert begun[0] == (1, 0)
    assert same(whole, broken)


def test_a_state_of_another_epoch_is_not_used(few, tmp_path, stopping):
    whole = run(few, tmp_path / "whole")
    broken = interrupted(few, tmp_path / "run", stopping)
    broken.checkpoint.unlink()
    begun = stopping(0)
    run(few, broken.folder, resume=True)
    assert begun[0] == (0, 0)
    assert same(whole, broken)


def test_an_epoch_that_is_planned_otherwise_is_repeated(few, tmp_path, stopping, monkeypatch):
    broken = interrupted(few, tmp_path / "run", stopping)
    monkeypatch.setattr(Adca, "_cluster", lambda self, modality, of, eps: _halves(len(of)))
    begun = stopping(0)
    with pytest.warns(DamageWarning, match="epoch 2 is planned differently now"):
        run(few, broken.folder, resume=True)
    assert begun[0] == (1, 0)


def _halves(count):
    return torch.arange(count).numpy() % 2


def test_a_run_inside_its_first_epoch_is_not_written_over(few, tmp_path, stopping):
    stopping(2)
    with pytest.raises(Killed):
        run(few, tmp_path / "run", save_every=1)
    with pytest.raises(InputError, match="already holds a run; continue it with --resume"):
        run(few, tmp_path / "run")
    config = Run(tmp_path / "run").config
    config.write_text(config.read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(InputError, match="seed is 1, but the run was trained with 0"):
        run(few, tmp_path / "run", resume=True)


def test_a_method_that_does_not_say_what_changes_is_refused(few, tmp_path, monkeypatch):
    monkeypatch.setattr(Adca, "step_state", Method.step_state)
    with pytest.raises(InputError, match="Adca lacks step_state or load_step_state; leave --save"):
        run(few, tmp_path / "run", save_every=1)
    assert not (tmp_path / "run").exists()
    assert run(few, tmp_path / "run").weights.exists()


def test_the_memories_are_part_of_it(few, tmp_path, stopping, monkeypatch):
    """Without the rows of the memories the weights differ: the other tests would see it."""
    whole = run(few, tmp_path / "whole")
    broken = interrupted(few, tmp_path / "run", stopping)
    monkeypatch.setattr(Adca, "load_step_state", lambda *_: None)
    run(few, broken.folder, resume=True)
    assert not same(whole, broken)
    assert json.loads(broken.metrics.read_text().splitlines()[0])["epoch"] == 0
