"""A run is resumed with the settings and images it began with, or it is refused."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from small import run, same

from visir.core.run import Run
from visir.core.types import InputError
from visir.core.yaml_file import load_yaml
from visir.synth.write import synthesise

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("small_network")]


def edited(run, old, new):
    text = run.config.read_text()
    assert old in text
    run.config.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seed: 0", "seed: 7", "seed is 7, but the run was trained with 0"),
        (" lr: 0.001", " lr: 0.002", r"settings\.lr is 0\.002, but .* with 0\.001"),
        ("  - 32\n  - 16", "  - 64\n  - 32", r"settings\.size is \[64, 32\], but .*\[32, 16\]"),
        ("stage_epochs:\n  - 2\n  - 2", "stage_epochs:\n  - 2\n  - 5",
         r"settings\.stage_epochs is \[2, 5\], but .*\[2, 2\]"),
        ("start: null", "start: builtin", "start is 'builtin', but .* with None"),
    ],
)  # fmt: skip
def test_an_edited_setting_is_refused(old, new, said, few, broken):
    edited(broken, old, new)
    with pytest.raises(InputError, match=rf"config\.yaml: {said}; restore this to resume, or st"):
        run(few, broken.folder, resume=True)
    edited(broken, new, old)
    run(few, broken.folder, resume=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"seed": 3}, "--seed=3"),
        ({"split": 2}, "--split=2"),
        ({"layout": "crops"}, "--layout=crops"),
        ({"settings": {"lr": "0.5"}}, "lr=0.5"),
    ],
)
def test_other_values_at_resume_are_refused(words, said, few, broken):
    with pytest.raises(InputError, match=f"has other settings than {said}; leave them out"):
        run(few, broken.folder, resume=True, **words)


@pytest.fixture
def mine(few, tmp_path):
    """A copy of the data set, and a run on it that was stopped after its first epoch."""
    root = shutil.copytree(few, tmp_path / "set")

    def stop(epoch, *_):
        if epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(root, tmp_path / "run", on_epoch=stop)
    return root, Run(tmp_path / "run")


def an_image(root, run):
    """The path of a training image of a camera that has others of the same person."""
    first = json.loads(run.images.read_text().splitlines()[0])[0]
    return root / first


def test_replaced_images_are_refused(mine, tmp_path):
    root, stopped = mine
    path = an_image(root, stopped)
    kept = path.read_bytes()
    image = np.asarray(Image.open(path)).copy()
    image[0] = 255 - image[0]
    Image.fromarray(image).save(path)
    name = path.relative_to(root)
    with pytest.raises(
        InputError, match=rf"set: of the training images, 1 replaced \(first {name}\)"
    ):
        run(root, stopped.folder, resume=True)
    path.write_bytes(kept)
    run(root, stopped.folder, resume=True)


def test_removed_and_added_images_are_refused(mine):
    root, stopped = mine
    path = an_image(root, stopped)
    path.rename(path.with_name("0099.jpg"))
    said = r"1 added \(first \S+0099\.jpg\), 1 removed \(first \S+\) since the run began"
    with pytest.raises(InputError, match=said):
        run(root, stopped.folder, resume=True)
    path.with_name("0099.jpg").unlink()
    with pytest.raises(InputError, match=r"of the training images, 1 removed \(first"):
        run(root, stopped.folder, resume=True)


def test_a_lost_list_of_images_still_refuses_others(mine):
    root, stopped = mine
    an_image(root, stopped).unlink()
    stopped.images.unlink()
    with pytest.raises(InputError, match="the training images are not those of the run; restore"):
        run(root, stopped.folder, resume=True)


def test_other_labels_are_refused_where_labels_are_learned(few, tmp_path, monkeypatch):
    from visir.data.dataset import shared_identities

    run(few, tmp_path / "run", "agw")
    monkeypatch.setattr(
        "visir.training.train.shared_identities",
        lambda records, both: shared_identities(records, both)[::-1].copy(),
    )
    with pytest.raises(InputError, match=r"given another identity \(first"):
        run(few, tmp_path / "run", "agw", resume=True)


def test_a_data_set_that_moved_is_taken_and_named(mine, whole, tmp_path):
    root, stopped = mine
    moved = root.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="set: "):
        run(root, stopped.folder, resume=True)
    run(moved, stopped.folder, resume=True)
    assert same(whole, stopped)
    assert load_yaml(stopped.config)["data"] == str(moved)
    assert len(list((stopped.folder / "cache").iterdir())) == 1


def test_another_data_set_is_not_taken_for_the_moved_one(mine, tmp_path):
    _, stopped = mine
    other = tmp_path / "other"
    synthesise(other, ids=10, train_ids=6, images=2, size="32x16", seed=5, progress=False)
    before = stopped.config.read_text()
    with pytest.raises(InputError, match="other: of the training images, "):
        run(other, stopped.folder, resume=True)
    assert stopped.config.read_text() == before
