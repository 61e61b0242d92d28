"""Weights that come with visir: what they can do, what they say, and damaged files."""

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import visir
from visir import cli
from visir.core.run import sha256
from visir.core.types import InputError
from visir.data.registry import open_benchmark
from visir.evaluation.evaluate import evaluate
from visir.methods import METHODS
from visir.nets import shipped
from visir.nets.build import build
from visir.nets.shipped import (
    BUILTIN,
    FOLDER,
    NETWORKS,
    PERSON,
    SUMS,
    ShippedWarning,
    as_run,
    builtin_file,
    card_of,
    start_file,
)
from visir.nets.weights import read_about, start_from
from visir.synth.write import synthesise

NAMES = [BUILTIN, *(f"person-{network}" for network in PERSON)]


@pytest.fixture(scope="module")
def people(once):
    """Eight people whom no pool contains, for the scores only, beside two for training."""

    def make(folder: Path) -> None:
        synthesise(folder / "people", ids=10, train_ids=2, images=2, size="96x48", progress=False)

    return once("people-for-the-ready-model", make) / "people"


def ready():
    with pytest.warns(ShippedWarning, match="synthetic people only, in visible light, near infrar"):
        return visir.load(BUILTIN)


def test_the_ready_model_finds_people_it_has_never_seen(people):
    benchmark = open_benchmark(people)
    found = evaluate(ready(), benchmark, ["all-single-seeded"]).results["all-single-seeded"].mean
    assert found.chance_mAP < 0.35 and found.mAP > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_every_file_has_a_card_and_is_the_released_one(name):
    path = FOLDER / f"{name}.safetensors"
    assert f"{sha256(path)}  {path.name}" in (FOLDER / SUMS).read_text().splitlines()
    card = card_of(read_about(path))
    assert card.network == NETWORKS[name]
    assert len(card.accuracy) == 4 and all(0 < value < 100 for value in card.accuracy.values())
    table = card.as_table()
    for words in ("synthetic people of", "python benchmarks/shipped.py", "minutes", "licence"):
        assert words in table
    loaded = start_from(build(card.network, card.size), path)
    assert not loaded.unused and not loaded.kept


def test_the_files_stay_small():
    assert {path.name for path in FOLDER.iterdir()} == {SUMS, *(f"{n}.safetensors" for n in NAMES)}
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 12e6


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """A copy of the shipped files, to be damaged."""
    folder = tmp_path / "shipped_weights"
    shutil.copytree(FOLDER, folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def another(path):
    shutil.copyfile(path.parent / f"{NAMES[1]}.safetensors", path)


@pytest.mark.parametrize("damage", [cut, flipped, another, Path.unlink])
def test_a_damaged_file_is_named_with_what_to_do(damage, broken, capsys):
    damage(broken / "builtin.safetensors")
    for use in (lambda: visir.load(BUILTIN), lambda: as_run(Path(BUILTIN)), builtin_file):
        with pytest.raises(InputError, match=r"builtin.safetensors: is missing, damaged, or of"):
            use()
    assert not Path("runs").exists()
    assert cli.main(["search", BUILTIN, "a.jpg", "--gallery", "."]) == 2
    assert "install visir again" in capsys.readouterr().err


def test_a_damaged_backbone_starts_nothing(broken):
    cut(broken / f"person-{PERSON[0]}.safetensors")
    with pytest.raises(InputError, match="install visir again"):
        start_file("person", PERSON[0])


def test_a_run_folder_is_made_once_and_a_folder_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = as_run(Path(BUILTIN))
    assert first == Path("runs/builtin-1") and (first / "model.safetensors").is_file()
    made = (first / "model.safetensors").stat().st_mtime_ns
    assert as_run(Path(BUILTIN)) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    Path(BUILTIN).mkdir()
    assert as_run(Path(BUILTIN)) == Path(BUILTIN)
    assert as_run(Path("runs/mine")) == Path("runs/mine")


def test_there_is_no_report_of_a_training_that_was_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", BUILTIN]) == 2
    assert "visir eval builtin --data DATA scores it" in capsys.readouterr().err


def test_no_backbone_starts_another_network():
    with pytest.raises(InputError, match="set network to hybrid-micro or resnet-micro, or name"):
        start_file("person", "resnet50")
    assert start_file("runs/mine", "resnet50") is None
    assert start_file(BUILTIN, "resnet-mini") == start_file(BUILTIN, "") == builtin_file()
    with pytest.raises(InputError, match=r"person-resnet-micro: has .* not of resnet50; set netw"):
        start_file("person-resnet-micro", "resnet50")


def train_pairs(people, out, *settings):
    words = ["train", "pairs", "--preset", "smoke", "--data", str(people), "--start", BUILTIN]
    return cli.main([*words, "--out", str(out), "--set", "epochs=1", *settings])


@pytest.mark.parametrize(
    ("network", "other"),
    [("hybrid-micro", ", or give --start person-hybrid-micro"), ("micro", "")],
)
def test_the_ready_model_starts_its_own_network_only(network, other, people, tmp_path, capsys):
    """An error names the network to set; another size is a warning."""
    assert train_pairs(people, tmp_path / "run", f"network={network}", "size=64,32") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        f"visir: error: --start builtin: has weights of the network resnet-mini, not of {network}; "
        f"set network=resnet-mini{other}"
    )
    assert not (tmp_path / "run").exists()


def test_the_ready_model_at_another_size_says_its_own(people, tmp_path, capsys):
    assert train_pairs(people, tmp_path / "run", "network=resnet-mini", "size=64,32") == 0
    said = capsys.readouterr().err
    assert "start: The ready model has seen" in said
    assert "at 96x48 pixels, not at 64x32;" in said


@pytest.mark.parametrize("network", PERSON)
def test_a_training_starts_from_a_backbone_and_says_what_it_has_not_seen(
    network, people, tmp_path, capsys
):
    words = ["train", "adca", "--preset", "smoke", "--data", str(people), "--start", "person"]
    words += ["--out", str(tmp_path / "run"), "--set", f"network={network}", "stage_epochs=1,0"]
    assert cli.main(words) == 0
    said = capsys.readouterr().err
    size = "x".join(map(str, METHODS["adca"].presets["smoke"].size))
    assert "start: person: " in said
    assert f"in visible light, at 96x48 pixels, not at {size}" in said


def test_the_command_line_warns_in_one_line(people, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    infrared = sorted(people.glob("cam3/*/*.jpg"))[0]
    assert cli.main(["search", BUILTIN, str(infrared), "--gallery", str(people)]) == 0
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if "warning" in line]
    assert line.startswith("visir: warning: The ready model has seen synthetic people only")
    assert infrared.parent.name in said.out.splitlines()[2]


def test_embeddings_at_half_precision_are_what_the_training_gave():
    """Weights come back as float32, so that results are the same on every processor."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ShippedWarning)
        net = visir.load(BUILTIN).net
    assert {value.dtype for value in net.parameters()} == {torch.float32}


def test_the_warning_names_the_size_only_if_it_differs():
    card = card_of(read_about(builtin_file()))
    assert "pixels" not in card.warning() and "pixels" not in card.warning(card.size)
    assert "at 96x48 pixels, not at 64x32" in card.warning((64, 32))
    assert "in visible light;" in replace(card, lights=("visible",)).warning()
    assert np.isfinite([*card.accuracy.values()]).all()
