"""What a training will do is said before it, and how long is left while it runs."""

import pytest

from visir import cli
from visir.core.types import Modality
from visir.data.registry import open_benchmark
from visir.methods import METHODS
from visir.training.outlook import Measured, Outlook, outlook
from visir.training.remaining import Remaining
from visir.training.train import dry_run, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]


def test_remaining_time_counts_batches_and_what_is_between_them():
    left = Remaining([10, 10, 5])
    left.planned(10, 3.0)
    left.trained(4, 8.0)  # two seconds each
    assert left.seconds(0, 4) == 2 * (6 + 10 + 5) + 3 * 2
    left.finished(4.0)
    assert left.seconds(1, 10) == 2 * 5 + 4
    assert left.seconds(2, 10) == 0


def test_unknown_epochs_count_like_the_last_one():
    left = Remaining([None, None])
    left.planned(7, 0.0)
    left.trained(7, 7.0)
    assert left.seconds(0, 7) == 7


def test_an_outlook_reads_as_one_line_or_as_a_list(tmp_path):
    found = Outlook(
        {Modality.VISIBLE: 1371, Modality.INFRARED: 200}, 7, 30, 360, "cpu (2 threads)",
        24_000_000_000, tmp_path, 82_000_000, 1_500_000_000_000,
    )  # fmt: skip
    assert str(found) == (
        "1,571 images (1,371 visible, 200 infrared) of 7 cameras; 30 epochs, 360 batches; "
        f"cpu (2 threads), 24.0 GB of memory; about 82 MB to write into {tmp_path}, 1.5 TB free"
    )
    lines = str(found._replace(measured=Measured(750, 128, 900_000_000, 256, 6))).splitlines()
    assert lines[1] == "30 epochs, 360 batches of 128 views"
    assert lines[2].endswith(", about 900 MB needed")
    assert lines[4] == (
        "about 12 min: an estimate from 6 batches and 256 embedded images; nothing was written"
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_dry_run_measures_and_writes_nothing(method, few, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = dry_run(method, few, tmp_path / "runs" / "new", preset="smoke")
    train = open_benchmark(few).train
    assert found.images == {m: sum(of.modality is m for of in train) for m in Modality}
    assert (found.cameras, found.measured.batches >= 3) == (6, True)
    assert found.measured.seconds > 0
    assert found.measured.views >= 6
    assert found.batches is not None
    assert list(tmp_path.iterdir()) == []


def test_times_of_a_gpu_are_taken_when_it_has_finished(few, tmp_path, monkeypatch):
    """Batches of 1 s that the device ends late: the clock goes on only when it is waited for."""
    now, left = [0.0], [0]

    def step(*_):
        left[0] += 1

    def wait_for(_):
        now[0], left[0] = now[0] + left[0], 0

    monkeypatch.setattr("visir.training.outlook.train_step", step)
    monkeypatch.setattr("visir.training.outlook.wait_for", wait_for)
    monkeypatch.setattr("visir.training.outlook.time.perf_counter", lambda: now[0])
    found = dry_run("agw", few, tmp_path / "run", preset="smoke")
    assert found.batches is not None
    assert found.measured.seconds == pytest.approx(found.batches)


def test_the_batches_said_are_those_trained(few, tmp_path):
    """The sum of all epochs: ADCA's smoke preset has 2 + 2 epochs of two batches."""
    assert dry_run("adca", few, tmp_path / "run", preset="smoke").batches == 8


def test_a_training_says_at_once_what_it_does_and_then_how_long(few, tmp_path, capsys):
    words = ["train", "adca", "--preset", "smoke", "--data", str(few), "--device", "cpu"]
    words += ["--out", str(tmp_path / "run"), "--set", "iterations=6", "stage_epochs=1,1"]
    assert cli.main([*words, "--dry-run"]) == 0
    text = capsys.readouterr()
    assert text.out.startswith("66 images (44 visible, 22 infrared) of 6 cameras\n2 epochs, 12 ")
    assert not (tmp_path / "run").exists()
    assert cli.main(words) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("training: 66 images (44 visible, 22 infrared) of 6 cameras; 2 ep")
    said = [line for line in lines if "estimated from 5 batches" in line]
    assert len(said) == 1 and said[0].startswith("about ")
    epochs = [line for line in lines if line.startswith("stage ")]
    assert epochs[0].endswith(" left") and not epochs[1].endswith(" left")


def test_methods_of_others_need_not_know_their_batches(few, tmp_path, monkeypatch):
    monkeypatch.delattr(METHODS["adca"], "steps")
    found = dry_run("adca", few, tmp_path / "run", preset="smoke")
    assert found.batches is None
    assert "4 epochs of" in str(found)
    assert train("adca", few, tmp_path / "run", preset="smoke", progress=False).weights.exists()


def test_every_method_of_visir_says_its_batches():
    from visir.methods.contract import Method

    assert all(METHODS[name].steps is not Method.steps for name in METHODS)
    assert outlook.__doc__
