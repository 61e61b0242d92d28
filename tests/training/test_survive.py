"""What a training survives: damaged files, a second process, edited settings, changed images."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from small import run, same

from visir import cli
from visir.core.lock import locked
from visir.core.run import DamageWarning, Run
from visir.core.types import InputError
from visir.methods.adca import Adca
from visir.training.checkpoint import DamagedError, newest, packed, read
from visir.training.loop import Loop
from visir.training.pretrain import pretrain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]


def epochs(run):
    return [line["epoch"] for line in run.read_metrics() if line["kind"] == "epoch"]


def flipped(data, places):
    data = bytearray(data)
    for place in places:
        data[place] ^= 1 << (place % 8)
    return bytes(data)


def rewritten(path, **changes):
    state = torch.load(path, weights_only=True)
    path.write_bytes(packed({**state, **changes}))


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: os.truncate(path, path.stat().st_size - 1),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "zeroed within": lambda path: path.write_bytes(
        path.read_bytes()[:50_000] + bytes(4096) + path.read_bytes()[54_096:]
    ),
    "64 flipped bytes": lambda path: path.write_bytes(
        flipped(path.read_bytes(), np.random.default_rng(0).integers(9_000, 90_000, 64).tolist())
    ),
    "text": lambda path: path.write_text("last.ckpt"),
    "epoch 99": lambda path: rewritten(path, epoch=98),
    "epoch -1": lambda path: rewritten(path, epoch=-2),
    "epoch of text": lambda path: rewritten(path, epoch="2"),
    "no model": lambda path: rewritten(path, model=None),
    "without a checksum": lambda path: torch.save(torch.load(path), path),
    "a list": lambda path: path.write_bytes(packed([1, 2])),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_of_a_damaged_checkpoint_the_one_before_is_used(kind, few, whole, broken):
    DAMAGE[kind](broken.checkpoint)
    said = r"last\.ckpt: is damaged \(.+\); continued from .*previous\.ckpt, after epoch 2"
    with pytest.warns(DamageWarning, match=said):
        run(few, broken.folder, resume=True)
    assert same(whole, broken)
    assert epochs(broken) == [0, 1, 2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error", DamageWarning)
        run(few, broken.folder, resume=True)


def test_two_damaged_checkpoints_are_one_clear_error(few, broken):
    before = broken.metrics.read_bytes()
    DAMAGE["half"](broken.checkpoint)
    DAMAGE["zeroed"](broken.previous)
    said = r"last\.ckpt: is damaged \(.*previous\.ckpt: is damaged \(.*start another run with"
    with pytest.raises(InputError, match=said):
        run(few, broken.folder, resume=True)
    assert broken.metrics.read_bytes() == before


def test_a_damaged_checkpoint_without_another_is_refused(few, broken):
    broken.previous.unlink()
    DAMAGE["cut"](broken.checkpoint)
    with pytest.raises(InputError, match=r"last\.ckpt: is damaged .*there is no earlier one"):
        run(few, broken.folder, resume=True)


def test_a_missing_checkpoint_is_replaced_by_the_one_before(few, whole, broken):
    """As after a kill between the two renames."""
    broken.checkpoint.unlink()
    with pytest.raises(InputError, match="already holds a run"):
        run(few, broken.folder)
    with pytest.warns(DamageWarning, match=r"last\.ckpt: is missing; continued from .*previous"):
        run(few, broken.folder, resume=True)
    assert same(whole, broken)


def test_the_one_before_is_the_epoch_before(broken):
    kept = [read(path)["epoch"] for path in (broken.previous, broken.checkpoint)]
    assert kept == [1, 2]


def test_no_flipped_byte_is_believed(whole, tmp_path):
    data, path = whole.checkpoint.read_bytes(), tmp_path / "last.ckpt"
    rng, last = np.random.default_rng(0), len(data) - 1
    for place in (0, last, last - 64, last - 65, *rng.integers(0, len(data), 100).tolist()):
        path.write_bytes(flipped(data, [place]))
        with pytest.raises(DamagedError, match="its checksum is wrong"):
            read(path)
    path.write_bytes(data)
    assert read(path)["epoch"] == 3


def test_a_checkpoint_is_an_archive_with_its_sum_as_comment(whole):
    data = whole.checkpoint.read_bytes()
    with zipfile.ZipFile(whole.checkpoint) as archive:
        assert archive.comment.decode() == hashlib.sha256(data[:-64]).hexdigest()
        assert archive.testzip() is None
    assert torch.load(whole.checkpoint, weights_only=True)["epoch"] == 3


def test_a_damaged_checkpoint_of_a_finished_pretraining_is_said(few, tmp_path, monkeypatch):
    words = {"method": "simclr", "preset": "smoke", "progress": False}
    pretrain(few, tmp_path / "run", **words)
    damaged = Run(tmp_path / "run").checkpoint
    monkeypatch.setattr("visir.training.pretrain.train", lambda *_, **__: Run(tmp_path / "run"))
    DAMAGE["half"](damaged)
    with pytest.raises(InputError, match=r"last\.ckpt: is damaged .*--resume"):
        pretrain(few, tmp_path / "run", **words)


def test_a_folder_in_use_is_refused_and_left_alone(few, broken, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in broken.folder.rglob("*.*")}
    with locked(broken.folder, "trains", "wait"):
        for resume in (False, True):
            out = broken.folder if resume else tmp_path / "new"
            with locked(tmp_path / "new", "trains", "wait"):
                said = rf"{out.name}: process {os.getpid()} on \S+ trains there; wait for it, or"
                with pytest.raises(InputError, match=said):
                    run(few, out, resume=resume)
    after = {path: path.stat().st_mtime_ns for path in broken.folder.rglob("*.*")}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]


def test_a_training_that_ended_while_this_one_waited_is_not_written_over(
    few, whole, tmp_path, monkeypatch
):
    from visir.training import train as module

    def slow(folder, *words):
        shutil.copytree(whole.folder, folder)
        return locked(folder, *words)

    monkeypatch.setattr(module, "locked", slow)
    with pytest.raises(InputError, match="already holds a run"):
        run(few, tmp_path / "run")
    assert same(whole, Run(tmp_path / "run"))


def test_half_a_metrics_line_is_dropped_at_resume(few, whole, broken):
    with broken.metrics.open("a") as file:
        file.write('{"kind": "ep')
    with pytest.warns(DamageWarning, match="half a line"):
        run(few, broken.folder, resume=True)
    assert epochs(broken) == [0, 1, 2, 3]


def test_a_loss_that_is_no_number_names_its_term_and_saves_its_batch(few, tmp_path, monkeypatch):
    loss, steps = Adca.loss, []

    def broken_loss(self, batch, outputs):
        terms = loss(self, batch, outputs)
        steps.append(batch)
        if len(steps) == 4:
            terms["infrared"] = terms["infrared"] * torch.nan
        return terms

    monkeypatch.setattr(Adca, "loss", broken_loss)
    said = r"run: the loss .* in epoch 2, batch 2 \(infrared is nan\); .* in .*bad-batch\.json"
    with pytest.raises(InputError, match=said):
        run(few, tmp_path / "run")
    stopped = Run(tmp_path / "run")
    saved = json.loads(stopped.bad_batch.read_text())
    batch = steps[3]
    assert (saved["epoch"], saved["batch"]) == (2, 2)
    assert saved["rows"] == batch.rows.tolist()
    names = [json.loads(line)[0] for line in stopped.images.read_text().splitlines()]
    assert saved["files"] == [str(few / names[row]) for row in saved["rows"]]
    assert saved["labels"] == batch.labels.tolist()
    assert saved["infrared"] == batch.infrared.tolist()
    assert saved["terms"]["infrared"] == "nan"
    assert saved["terms"]["visible"] > 0
    assert saved["finite_images"] == [True] * len(saved["rows"])
    assert newest(stopped).first == 1


def test_terms_whose_sum_overflows_are_said(few, tmp_path, monkeypatch):
    huge = {"one": torch.tensor(3e38), "two": torch.tensor(3e38)}
    monkeypatch.setattr(Adca, "loss", lambda *_: huge)
    with pytest.raises(InputError, match=r"batch 1 \(the sum of the terms overflows\)"):
        run(few, tmp_path / "run")


def test_weights_that_are_no_numbers_do_not_replace_the_checkpoint(few, tmp_path, monkeypatch):
    save = Loop._save

    def spoilt(self, epoch):
        if epoch == 1:
            with torch.no_grad():
                next(self.method.model.parameters()).view(-1)[0] = torch.inf
        save(self, epoch)

    monkeypatch.setattr(Loop, "_save", spoilt)
    with pytest.raises(InputError, match=r"no longer numbers after epoch 2; .*lower lr"):
        run(few, tmp_path / "run")
    assert newest(Run(tmp_path / "run")).first == 1


def test_sigterm_leaves_a_training_that_can_be_resumed(few, tmp_path):
    """In a process of its own, as a batch system does it."""
    words = [sys.executable, "-m", "visir.cli", "train", "simclr", "--preset", "smoke", "--data",
             str(few), "--out", str(tmp_path / "run"), "--device", "cpu"]  # fmt: skip
    stopped = Run(tmp_path / "run")
    with subprocess.Popen(
        [*words, "--set", "epochs=5000"], stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 120
        while not stopped.checkpoint.exists() and time.monotonic() < end:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "visir: stopped; to continue: visir train simclr" in said
    assert said.rstrip().endswith("--resume")
    assert "Traceback" not in said
    assert newest(stopped).first >= 1


def test_sigterm_is_not_lost_while_python_removes_an_object(capfd):
    """What a signal raises in `__del__` ends there; the training is stopped all the same."""

    class Closing:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            for _ in range(100):  # the handler runs in here
                pass

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), cli._ending_in_order(["train"]):
        Closing()
        while time.monotonic() < began + cli._ENDING / 2:
            time.sleep(0.01)
    assert time.monotonic() < began + cli._ENDING / 2
    assert "Traceback" not in capfd.readouterr().err
