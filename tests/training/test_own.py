"""The preset `own`: settings from counts, cameras, device and memory, and trainings with it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visir import cli
from visir.core.types import InputError, Modality
from visir.core.yaml_file import load_yaml
from visir.data.dataset import announced
from visir.data.registry import open_benchmark
from visir.methods import METHODS
from visir.methods.pairs import PRESETS
from visir.nets.cost import Cost
from visir.training import own
from visir.training.own import Facts, facts_of, own_settings, own_start
from visir.training.train import train

VIS, IR = Modality.VISIBLE, Modality.INFRARED
LABEL_FREE = [name for name in METHODS if not METHODS[name].learns_from_labels]
GIB = 2**30


def facts(visible=371, infrared=200, cameras=(4, 3), device="cpu", memory=24 * GIB):
    images = {VIS: visible, IR: infrared}
    return Facts(images, dict(zip((VIS, IR), cameras, strict=True)), device, memory)


def crops(root, visible, infrared, images=4):
    for kind, cameras in (("visible", visible), ("infrared", infrared)):
        for camera in range(cameras):
            for number in range(images):
                path = root / kind / f"{kind[0]}{camera}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng([number, camera]).integers(0, 256, (6, 3, 3))
                Image.fromarray(pixels.astype(np.uint8)).resize((24, 48)).save(path)
    return root


@pytest.fixture
def counted(monkeypatch):
    """A network of which a view takes 100 MB, and the weights 1.44 GB."""
    monkeypatch.setattr(own, "cost", lambda net, size: Cost(90_000_000, 100_000_000))
    monkeypatch.setattr(own, "build", lambda *_: None)


def test_a_folder_of_some_hundred_crops_on_a_cpu():
    found = own_settings("adca", facts())
    assert (found.network, found.size, own_start(found)) == ("hybrid-micro", (96, 48), "person")
    assert (found.visible_clusters, found.infrared_clusters, found.instances) == (8, 16, 4)
    assert found.iterations == 12  # 371 images by 8 clusters of 4
    assert (found.stage_epochs, found.k1, found.adapt) == ((10, 20), 16, "eps")


def test_a_few_crops_of_one_camera_each():
    found = own_settings("cmag", facts(20, 10, cameras=(1, 1)))
    assert (found.visible_clusters, found.infrared_clusters) == (2, 2)
    assert (found.carc, found.camera_epochs, found.camera_eps) == (False, (0, 0), (0.5,))
    assert (found.k1, found.k2, found.gsmem_start) == (4, 4, 15)
    found = own_settings("tokenmatcher", facts(20, 10, cameras=(2, 1)))
    assert found.camera_epochs == (2, 0)


def test_a_gpu_trains_longer_with_larger_batches():
    found = own_settings("adca", facts(20_000, 12_000, device="cuda", memory=80 * GIB))
    assert (found.instances, found.iterations, found.stage_epochs) == (8, 200, (20, 40))
    found = own_settings("simclr", facts(20_000, 12_000, device="cuda", memory=80 * GIB))
    assert (found.network, found.size, found.batch) == ("small", (256, 128), 128)
    assert own_start(found) is None


def test_batches_fit_into_the_memory(counted):
    large = {"network": "base"}
    found = own_settings("adca", facts(20_000, 12_000, device="cuda", memory=24 * GIB), large)
    # Half of 24 GiB without 1.44 GB: 114 views; 7 x 4 x 2 visible and 14 x 4 infrared ones.
    assert (found.visible_clusters, found.infrared_clusters, found.instances) == (7, 14, 4)
    assert found.size == (288, 144)  # the published one of this network
    with pytest.raises(InputError, match=r"adca with the network base at 288x144 pixels needs 7 "):
        own_settings("adca", facts(device="cuda", memory=8 * GIB), large)


def test_what_is_set_stays():
    found = own_settings("sdcl", facts(), {"iterations": "7", "size": "64,32", "k1": "9"})
    assert (found.iterations, found.size, found.k1, found.k1_after) == (7, (64, 32), 9, 16)


@pytest.mark.parametrize("cameras", [(4, 3), (1, 1), (1, 2), (9, 9)])
@pytest.mark.parametrize("method", LABEL_FREE)
def test_no_number_of_cameras_is_refused(method, cameras, tmp_path):
    if method == "dino":
        pytest.importorskip("lightly")
    bench = open_benchmark(crops(tmp_path, *cameras))
    found = own_settings(method, facts_of(bench, torch.device("cpu")))
    data, _ = announced(bench.train, found.size)
    assert METHODS[method](found, data, torch.device("cpu"), 0).epochs >= 10


def test_pairs_goes_on_from_the_ready_model():
    found = own_settings("pairs", facts())
    assert (found.network, found.size, own_start(found)) == ("resnet-mini", (96, 48), "builtin")
    assert own_settings("pairs", facts(2880, 960)) == PRESETS["tiny"]  # what demo and grids take
    other = own_settings("pairs", facts(), {"network": "resnet-micro"})
    assert (other.size, own_start(other)) == ((96, 48), "person")
    assert (found.chance, found.least_matched, found.average) == (0.3, 0.25, 0.995)
    assert (other.chance, other.least_matched, other.average) == (1.0, 0.0, 0.0)


def test_methods_that_need_labels_have_no_such_preset(tmp_path):
    with pytest.raises(InputError, match="preset 'own': is for methods without labels, and agw"):
        train("agw", tmp_path, tmp_path / "run", preset="own")


def test_the_settings_can_be_looked_at(tmp_path, capsys):
    site = crops(tmp_path / "site", 2, 1)
    assert cli.main(["config", "cmag", "--preset", "own", "--data", str(site)]) == 0
    assert "network: hybrid-micro" in capsys.readouterr().out
    assert cli.main(["config", "cmag", "--preset", "own"]) == 2
    assert "name their folder with --data" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_keeps_all_settings_and_its_start(few, tmp_path):
    out = tmp_path / "run"
    asked = {"stage_epochs": "1,1", "iterations": "2", "eps": "0.7", "min_samples": "2"}

    def stop(epoch, *_):
        if epoch == 1:
            raise KeyboardInterrupt

    common = {"preset": "own", "progress": False}
    with pytest.raises(KeyboardInterrupt):
        train("adca", few, out, settings=asked, on_epoch=stop, **common)
    stored = load_yaml(out / "config.yaml")
    assert (stored["preset"], stored["start"]) == ("own", "person")
    assert stored["settings"]["visible_clusters"] == 5  # 44 images, 8 for each
    assert stored["settings"]["k1"] == 4
    done = train("adca", few, out, settings=asked, resume=True, **common)
    assert load_yaml(done.config) == stored
    assert [line["epoch"] for line in done.read_metrics() if line["kind"] == "epoch"] == [0, 1]


@pytest.mark.slow
def test_random_weights_can_be_asked_for(tmp_path):
    site = crops(tmp_path / "site", 1, 1)
    asked = {"epochs": "1", "iterations": "1", "network": "hybrid-micro", "size": "32,16"}
    for start, expected in ((None, "person"), (Path("none"), None)):
        out = tmp_path / f"from-{start}"
        train("simclr", site, out, settings=asked, preset="own", start=start, progress=False)
        assert load_yaml(out / "config.yaml")["start"] == expected
