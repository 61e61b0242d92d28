"""The next step: what fits what was done, and commands that exist."""

import shlex
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from visir import cli
from visir.commands import COMMANDS
from visir.commands.arguments import find
from visir.commands.next_step import _AFTER, after_training, next_step
from visir.core.run import Run
from visir.data.check import CheckReport


def crops(root, labels=None):
    for kind in ("visible", "infrared"):
        for number in range(2):
            path = root / kind / f"{kind}-cam" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([number, len(kind)])
            pixels = rng.integers(0, 256, (8, 4, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((24, 48)).save(path)
    if labels:
        sides = ("visible", "infrared")
        rows = [f"{kind}/{kind}-cam/{n}.png,{n}" for kind in sides for n in (0, 1)]
        (root / "labels.csv").write_text("\n".join(["path,pid", *rows]) + "\n")
    return root


def run_of(folder, method, data, **settings):
    folder.mkdir()
    config = {"method": method, "data": str(data), "layout": None, "split": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "settings": settings}))
    return Run(folder)


def test_without_labels_nothing_is_scored(tmp_path):
    run = run_of(tmp_path / "run", "cmag", crops(tmp_path / "site"), network="micro")
    folder, data = run.folder, tmp_path / "site"
    assert after_training(run) == (
        f"visir report {folder}",
        f"visir calibrate {folder} --data {data}",
        f"visir index add gallery {data} --run {folder}",
    )


def test_with_labels_the_run_is_scored(tmp_path):
    data = crops(tmp_path / "a site", labels=True)
    run = run_of(tmp_path / "run", "agw", data)
    assert after_training(run) == (f"visir eval {run.folder}", f"visir report {run.folder}")


@pytest.mark.parametrize(
    ("method", "network", "next_method"),
    [("simclr", "micro", "cmag"), ("identity", "resnet-mini", "adca")],
)
def test_a_start_is_trained_on(tmp_path, method, network, next_method):
    run = run_of(tmp_path / "start", method, crops(tmp_path / "a site"), network=network)
    (line,) = after_training(run)
    assert shlex.split(line) == [
        "visir", "train", next_method, "--preset", "own", "--data", str(tmp_path / "a site"),
        "--start", str(run.folder), "--set", f"network={network}",
        "--out", f"runs/{next_method}-a site",
    ]  # fmt: skip


GIVEN = {
    "data": "site", "out": "out", "run": "run", "runs": ("run", "other"), "gallery": "g",
    "json": False,
}  # fmt: skip


def test_what_follows_is_a_command_with_known_options():
    for name in _AFTER.keys() - {"report", "search", "export"}:
        words = shlex.split(next_step(name, GIVEN, None))
        command = find(" ".join(words[1:3]) if words[1] in ("index", "bench") else words[1])
        known = {argument.option for argument in command.arguments}
        assert {word for word in words if word.startswith("--")} <= known, name
    assert next_step("index add", GIVEN, None) == "visir search run IMAGE --gallery g"
    assert next_step("eval", {**GIVEN, "runs": ()}, None) is None  # features of one's own
    assert next_step("serve", GIVEN, None) is None
    exported = SimpleNamespace(folder="run/onnx")
    assert next_step("export", GIVEN, exported) == "visir index add gallery IMAGES --run run/onnx"
    assert next_step("prepare", GIVEN, None) == "visir check out"


def test_every_command_says_what_follows_or_ends_a_way():
    in_its_result = {"demo", "synth", "train", "pretrain", "bench run"}
    ends = {"index list", "index stats", "compare", "serve", "config"}
    ends |= {"bench render", "bench compare", "bench check"}
    assert {*_AFTER, *in_its_result, *ends} == set(COMMANDS)
    assert len(_AFTER) + len(in_its_result) + len(ends) == len(COMMANDS)


def test_a_check_with_problems_leads_nowhere():
    assert next_step("check", GIVEN, CheckReport("folder", "", ["broken"])) is None
    assert next_step("check", GIVEN, CheckReport("folder", "", [])) == (
        "visir train pairs --preset own --data site"
    )


def test_the_program_prints_it_beside_the_result(tmp_path, capsys):
    site = crops(tmp_path / "site")
    assert cli.main(["check", str(site)]) == 0
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == f"next: visir train pairs --preset own --data {site}"
    assert "next:" not in said.out


@pytest.mark.parametrize("command", ["check", "train"])
def test_the_folder_of_one_modality_names_its_parent(tmp_path, capsys, command):
    site = crops(tmp_path / "site")
    words = {"check": [], "train": ["adca", "--data"]}[command]
    assert cli.main([command, *words, str(site / "visible")]) == 2
    assert capsys.readouterr().err == (
        f"visir: error: {site / 'visible'}: this is the folder of the visible images alone; name "
        f"its parent, {site}\n"
    )
