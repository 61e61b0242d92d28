"""A method and a data set of a package outside visir: trained, resumed, scored and checked."""

import shutil
from importlib.metadata import EntryPoint

import pytest
import torch
from safetensors.torch import load_file

from visir.cli import main
from visir.core.registry import Registry
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml
from visir.data.registry import DATASETS, detect, open_benchmark
from visir.methods import METHODS
from visir.training.train import train

pytestmark = pytest.mark.slow

METHOD = '''
from dataclasses import dataclass, replace
from typing import Annotated

from visir.core.bounds import AtLeast, Share
from visir.methods.adca import PRESETS, Adca
from visir.methods.adca import Config as AdcaConfig


@dataclass(frozen=True)
class Config(AdcaConfig):
    """ADCA with a softer start; ours."""

    hard_from: Annotated[int, AtLeast(0)] = 0  # epoch from which the loss is whole [ours]
    share: Share = 0.5  # of the loss before [ours]
    count: int = 2  # [ours]


class Mine(Adca):
    presets = {
        name: Config(**vars(preset)) for name, preset in PRESETS.items() if name != "regdb"
    }

    def loss(self, batch, outputs):
        terms = super().loss(batch, outputs)
        return {name: self.config.share * term for name, term in terms.items()}
'''
DATA = '''
from visir.core.types import Benchmark, Modality, Record
from visir.data.contract import DataSet
from visir.data.tree import image_tree
from visir.data.protocols import two_directions


def load(root):
    """`<v or i>/<identity>/<image>`; even images are for training."""
    records = [
        Record(path, int(path.parent.name), 1 + (kind == "i"),
               Modality.INFRARED if kind == "i" else Modality.VISIBLE)
        for kind in "vi"
        for path in image_tree(root / kind)
    ]
    test = tuple(record for record in records if record.pid % 2)
    return Benchmark(
        name="Mycam", root=root, train=tuple(r for r in records if not r.pid % 2), test=test,
        protocols=two_directions(root, test, "Mycam", "full gallery"),
        cameras={1: "v", 2: "i"},
    )


def with_splits(root, split):
    return load(root)


def other(path):
    return load(path)


def wrong(root):
    return 3


MYCAM = DataSet(load, marks=("mycam.txt",))
'''


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    package = tmp_path / "site" / "outsiders"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "methods.py").write_text(METHOD)
    (package / "data.py").write_text(DATA)
    monkeypatch.syspath_prepend(package.parent)


@pytest.fixture
def mycam(people, tmp_path):
    root = tmp_path / "mycam"
    for kind, cam in (("v", "cam1"), ("i", "cam3")):
        for folder in (people / cam).iterdir():
            shutil.copytree(folder, root / kind / str(int(folder.name)))
    (root / "mycam.txt").write_text("")
    return root


def test_a_method_and_a_data_set_from_outside_go_all_the_way(mycam, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["outsiders.methods:Mine", "--data", str(mycam), "--out", str(run), "--device", "cpu",
             "--preset", "smoke", "--layout", "outsiders.data:MYCAM"]  # fmt: skip
    assert main(["train", *words, "--set", "stage_epochs=1,1", "share=0.25"]) == 0
    config = load_yaml(run / "config.yaml")
    assert config["method"] == "outsiders.methods:Mine"
    assert config["layout"] == "outsiders.data:MYCAM"
    assert config["settings"]["share"] == 0.25
    before = load_file(run / "model.safetensors")
    resumed = ["outsiders.methods:Mine", "--data", str(mycam), "--out", str(run), "--resume"]
    assert main(["train", *resumed]) == 0
    after = load_file(run / "model.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)
    capsys.readouterr()
    layout = ["--layout", "outsiders.data:MYCAM"]
    assert main(["eval", str(run), "--data", str(mycam), *layout, "--device", "cpu"]) == 0
    assert "Mycam" in capsys.readouterr().out
    query = next((mycam / "i").rglob("*.jpg"))
    assert main(["search", str(run), str(query), "--gallery", str(mycam / "v"), "--device", "cpu",
                 "--gallery-modality", "visible"]) == 0  # fmt: skip
    assert main(["check", str(mycam), *layout]) == 0
    assert main(["config", "outsiders.methods:Mine"]) == 0
    shown = capsys.readouterr().out
    assert "hard_from: 0" in shown and "[ours]" in shown and "[adca: paper]" in shown


def test_settings_from_outside_are_checked_by_their_own_bounds(mycam, tmp_path):
    for setting, said in (
        ({"hard_from": "-1"}, "setting hard_from: must be >= 0, got -1"),
        ({"share": "2.5"}, "setting share: must be <= 1, got 2.5"),
        ({"count": "0"}, "setting count: must be >= 1, got 0"),
    ):
        with pytest.raises(InputError, match=said):
            train("outsiders.methods:Mine", mycam, tmp_path / "run", settings=setting)


def test_a_function_is_a_data_set_too(mycam):
    assert open_benchmark(mycam, "outsiders.data:load").name == "Mycam"
    assert open_benchmark(mycam, "outsiders.data:with_splits", split=3).name == "Mycam"
    with pytest.raises(InputError, match="has one split only"):
        open_benchmark(mycam, "outsiders.data:load", split=2)
    with pytest.raises(
        InputError, match=r"neither a visir\.data\.contract\.DataSet nor a function"
    ):
        open_benchmark(mycam, "outsiders.data:other")
    with pytest.raises(
        InputError, match=r"neither a visir\.data\.contract\.DataSet nor a function"
    ):
        open_benchmark(mycam, "shutil:rmtree")
    assert mycam.is_dir()
    with pytest.raises(
        InputError, match=r"wrong returned int; return a visir\.core\.types\.Benchmark"
    ):
        open_benchmark(mycam, "outsiders.data:wrong")
    with pytest.raises(InputError, match=r"no module 'outsider\.data'"):
        open_benchmark(mycam, "outsider.data:load")


def test_packages_announce_methods_and_data_sets(mycam, tmp_path, monkeypatch):
    points = {
        "visir.methods": {"mine": EntryPoint("mine", "outsiders.methods:Mine", "visir.methods")},
        "visir.datasets": {"mycam": EntryPoint("mycam", "outsiders.data:MYCAM", "visir.datasets")},
    }
    monkeypatch.setattr("visir.core.registry._entry_points", lambda group: points[group])
    assert "mine" in METHODS.names() and "mycam" in DATASETS.names()
    assert isinstance(METHODS, Registry) and detect(mycam) == "mycam"
    run = train("mine", mycam, tmp_path / "run", preset="smoke", progress=False,
                settings={"stage_epochs": "1,1"})  # fmt: skip
    assert load_yaml(run.config)["method"] == "mine"


def test_check_reads_every_image_of_a_data_set_from_outside(mycam, capsys):
    broken = sorted((mycam / "v").rglob("*.jpg"))[:2]
    broken[0].write_bytes(b"")
    broken[1].write_text("not an image")
    assert main(["check", str(mycam), "--layout", "outsiders.data:load"]) == 1
    said = capsys.readouterr().out
    assert f"{broken[0]}: the file is empty" in said
    assert f"{broken[1]}: not an image" in said
