"""The demo, small: it prints what it promises, and a stopped one goes on where it was."""

import json
from dataclasses import replace

import pytest

from visir.commands import demo as module
from visir.commands.demo import demo
from visir.core.run import Run
from visir.core.types import InputError
from visir.methods import METHODS
from visir.training.train import held

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in {"TRAIN_IDS": 6, "TEST_IDS": 5, "IMAGES": 2, "SIZE": "32x16"}.items():
        monkeypatch.setattr(module, name, value)
    presets = METHODS["pairs"].presets
    own = {"network": "resnet-mini", "size": (96, 48), "epochs": 2}
    monkeypatch.setitem(presets, "tiny", replace(presets["smoke"], **own))


def test_a_stopped_demo_continues_and_shows_everything(tmp_path, monkeypatch, capsys):
    out, searching = tmp_path / "a demo", []

    def stop(*_):
        searching.append(True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("visir.commands.demo._search", stop)
        demo(out=out)
    trained = Run(out).weights.read_bytes()
    capsys.readouterr()
    done = demo(out=out)
    report = done.report
    assert searching and Run(out).weights.read_bytes() == trained

    assert report == out / "report.html" and "<html" in report.read_text("utf-8")
    assert (out / "search" / "search.png").stat().st_size > 0
    labels = [line["label"] for line in Run(out).read_metrics() if line["kind"] == "scores"]
    assert labels == ["random start", "backbone", "ready model", "pairs", "pairs"]
    text = capsys.readouterr().out + str(done)
    for row in ("random start", "backbone", "before training", "after training", "chance"):
        assert sum(line.strip().startswith(row) for line in text.splitlines()) == 1
    assert str(report) in text
    scores = json.loads(Run(out).scores.read_text())["protocols"][module.PROTOCOL]
    assert f"{scores['mean']['mAP']:.1%}" in text
    commands = [line.strip() for line in text.split("Next, try:")[1].splitlines() if line.strip()]
    assert [line.split()[1] for line in commands] == ["search", "train", "demo"]
    assert commands[1] == "visir train pairs --preset own --data YOUR_CROPS --seed 0"
    assert f"visir search '{out}' --gallery '{out / 'people'}'" in commands[0]


def test_a_demo_in_a_folder_in_use_writes_nothing(tmp_path):
    out = tmp_path / "demo"
    with held(Run(out)), pytest.raises(InputError, match="trains there; wait for it"):
        module._train(out, out / "people", 0, None)
    assert [path.name for path in out.iterdir()] == [".lock"]
