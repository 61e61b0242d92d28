"""What is refused before the first image is decoded, and that a refused run leaves nothing."""

import shutil

import pytest
import torch

from visir import cli
from visir.core.run import Run
from visir.core.types import InputError
from visir.methods.adca import Adca
from visir.training import train as module
from visir.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]


def run(people, out, method="tokenmatcher", **keywords):
    return train(method, people, out, preset="smoke", progress=False, **keywords)


@pytest.fixture
def unread(monkeypatch):
    def decoded(*_args, **_keywords):
        raise AssertionError("images were decoded")

    monkeypatch.setattr(module, "decoded", decoded)
    monkeypatch.setattr(module, "contents", decoded)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"settings": {"camera_eps": "0.2,0.3"}}, "camera_eps has 2 radii, the data 6 cameras"),
        ({"settings": {"agreeing_tokens": "9"}}, "agreeing_tokens=9"),
        ({"start": "no/such/run"}, "no/such/run"),
        ({"settings": {"stage_start": "test-best"}}, "test-best needs the score of every epoch"),
        ({"method": "cmag", "settings": {"gsmem_start": "999"}}, "gsmem_start=999"),
    ],
)
def test_settings_and_paths_come_before_images(few, tmp_path, unread, keywords, message):
    with pytest.raises(InputError, match=message):
        run(few, tmp_path / "runs" / "new", **keywords)
    assert list(tmp_path.iterdir()) == []


def test_scores_without_labels_are_refused_at_once(tmp_path, unread, capsys, few):
    site = tmp_path / "site"
    for kind, camera in (("visible", "cam1"), ("infrared", "cam3")):
        for person in sorted((few / camera).iterdir()):
            target = site / kind / camera / person.name
            shutil.copytree(person, target)
    words = ["train", "adca", "--preset", "smoke", "--data", str(site), "--eval-every", "1"]
    assert cli.main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "so --eval-every cannot score; leave it out" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_broken_image_leaves_nothing_of_the_run(few, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(few, site)
    for path in site.rglob("*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match="not an image"):
        run(site, tmp_path / "runs" / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_what_was_in_the_folder_stays(few, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    strict = {"eps": "0.001", "adapt": "nothing", "min_samples": "50"}
    with pytest.raises(InputError, match="cluster"):
        run(few, out, "adca", settings=strict)
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_what_another_process_writes_there_stays(few, tmp_path):
    out = tmp_path / "run"
    with module.held(Run(out)), pytest.raises(InputError, match="trains there; wait for it"):
        (out / "config.yaml").write_text("of the other process")
        run(few, out, "adca")
    assert sorted(path.name for path in out.iterdir()) == [".lock", "config.yaml"]


def test_the_batch_that_went_wrong_stays(few, tmp_path, monkeypatch):
    monkeypatch.setattr(Adca, "loss", lambda *_: {"wrong": torch.tensor(torch.nan)})
    with pytest.raises(InputError, match="no longer a number"):
        run(few, tmp_path / "run", "adca")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["bad-batch.json"]
