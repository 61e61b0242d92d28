"""The recipes run: a whole SYSU-MM01 training and test on synthetic people, RegDB's ten trials."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import torch

from visir import cli
from visir.core.run import Run
from visir.nets.build import build
from visir.nets.foreign import to_transreid

pytestmark = pytest.mark.slow

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = [
    "size=48,24", "network=micro", "class_tokens=4", "stage_epochs=1,1", "iterations=2",
    "visible_clusters=2", "infrared_clusters=2", "instances=2", "k1=8", "k2=3", "eps=0.6",
    "adapt=eps", "min_samples=2", "carc_eps=0.6", "gsmem_start=8", "gsmem_size=64",
    "lr=0.001,0.001", "precision=fp32",
]  # fmt: skip


def recipe(name, *words, path, **settings):
    done = subprocess.run(
        [RECIPES / name, *map(str, words)], capture_output=True, text=True,
        env={**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}", **settings},
    )  # fmt: skip
    return done


@pytest.fixture
def recorded(tmp_path):
    """A folder whose `visir` writes down what it was asked."""
    path = tmp_path / "bin"
    path.mkdir()
    asked = tmp_path / "asked"
    (path / "visir").write_text(f'#!/bin/sh\necho "$@" >> {asked}\n')
    (path / "visir").chmod(0o755)
    return path, lambda: asked.read_text().splitlines()


def test_sysu_from_a_pretrained_file_to_scores(people, recorded, tmp_path):
    """What the recipes ask of visir is done in this process, where PyTorch is loaded already."""
    path, asked = recorded
    net = build("micro", (48, 24))
    torch.save(to_transreid(net.state_dict()), tmp_path / "pretrained.pth")
    run = tmp_path / "run"
    words = (people, tmp_path / "pretrained.pth", run, "--device", "cpu", "--set", *SMALL)
    trained = recipe("run_train_sysu.sh", *words, path=path)
    assert trained.returncode == 0, trained.stderr
    assert cli.main(asked()[-1].split()) == 0
    stages = [line["stage"] for line in Run(run).read_metrics() if line["kind"] == "epoch"]
    assert stages == ["stage 1", "stage 2"]
    again = recipe("run_train_sysu.sh", *words[:3], "--device", "cpu", path=path)
    assert again.returncode == 0, again.stderr
    assert "--resume" in asked()[-1] and cli.main(asked()[-1].split()) == 0
    tested = recipe("run_test_sysu.sh", people, run, "--device", "cpu", path=path)
    assert tested.returncode == 0, tested.stderr
    assert cli.main(asked()[-1].split()) == 0
    assert len(asked()) == 3
    assert json.loads((run / "scores.json").read_text())


@pytest.mark.parametrize("name", ["run_train_sysu.sh", "run_test_sysu.sh"])
def test_a_recipe_fails_where_visir_does(name, recorded, tmp_path):
    path, _ = recorded
    (path / "visir").write_text("#!/bin/sh\necho broken >&2\nexit 2\n")
    done = recipe(name, "DATA", "FILE", tmp_path / "run", path=path)
    assert (done.returncode, done.stderr) == (2, "broken\n")


def test_regdb_goes_through_its_ten_trials(recorded, tmp_path):
    path, asked = recorded
    (tmp_path / "runs" / "3").mkdir(parents=True)
    (tmp_path / "runs" / "3" / "config.yaml").touch()
    recipe("run_train_regdb.sh", "DATA", "p.pth", tmp_path / "runs", "--seed", "4", path=path,
           METHOD="tokenmatcher")  # fmt: skip
    assert len(asked()) == 10
    for trial, line in enumerate(asked(), start=1):
        assert line.startswith(f"train tokenmatcher --preset regdb --data DATA --split {trial} ")
        assert line.endswith("--resume --seed 4" if trial == 3 else f"/runs/{trial} --seed 4")


def test_ten_trials_are_trained_and_then_scored_together(recorded, tmp_path):
    path, asked = recorded
    words = ("DATA", "p.pth", tmp_path / "runs", "--set", "granularity=single")
    recipe("run_trials_regdb.sh", *words, path=path, METHOD="mra", TRIALS="1 2")
    trained, tested = asked()[:-1], asked()[-1]
    assert [line.split()[1] for line in trained] == ["mra", "mra"]
    assert all(line.endswith("--set granularity=single") for line in trained)
    assert tested.startswith("eval ") and tested.endswith("--layout regdb --split 1 2")


def test_regdb_is_scored_over_runs_and_checkpoints(recorded, tmp_path):
    path, asked = recorded
    runs = tmp_path / "runs"
    (runs / "1").mkdir(parents=True)
    more = ("--protocols", "visible-to-infrared")
    recipe("run_test_regdb.sh", "DATA", runs, *more, path=path, TRIALS="1 2")
    words = f"eval {runs}/1 {runs}/2.pth --data DATA --layout regdb --split 1 2 {' '.join(more)}"
    assert asked() == [words]
    recipe("run_test_regdb.sh", "DATA", runs, path=path)
    found = [Path(word).stem for word in asked()[1].split() if word.startswith(str(runs))]
    assert found == asked()[1].split("--split ")[1].split() == list(map(str, range(1, 11)))


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.sh")))
def test_too_few_words_are_answered_with_the_usage(name, tmp_path):
    done = recipe(name, "one", path=tmp_path)
    assert done.returncode == 2 and "usage:" in done.stderr
