import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError
from visir.data.ranges import RangeBook
from visir.data.tree import excluded
from visir.sources.crop import ReadOptions
from visir.sources.folders import listed
from visir.training.settings import RunSettings
from visir.training.train import _open


@pytest.fixture
def root(tmp_path):
    for name in ("visible/door/a", "visible/door/b", "visible/door/c", "ir/d", "ir/e"):
        path = tmp_path / "set" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 4), 9, np.uint8)).save(path)
    return tmp_path / "set"


def test_a_list_leaves_images_out_of_an_embedding(root, tmp_path):
    file = tmp_path / "dark.txt"
    file.write_text(f"visible/door/a.png\n\n{root / 'ir/e.png'}\nelsewhere.png\n")
    options = ReadOptions(exclude=excluded(file))
    names = [item.path for item in listed(root, options, RangeBook())]
    assert names == [str(root / name) for name in ("ir/d.png", "visible/door/b.png",
                                                   "visible/door/c.png")]  # fmt: skip
    assert options.as_json()["exclude"] == sorted(
        ["visible/door/a.png", str(root / "ir/e.png"), "elsewhere.png"]
    )
    file.write_text(".\\visible\\door\\a.png\nvisible/door/Zoe\u0308.png\n", encoding="utf-8")
    (root / "visible/door/b.png").rename(root / "visible/door/Zo\u00eb.png")
    names = [item.path for item in listed(root, ReadOptions(exclude=excluded(file)), RangeBook())]
    assert names == [str(root / name) for name in ("ir/d.png", "ir/e.png", "visible/door/c.png")]
    assert excluded(None) == frozenset()
    with pytest.raises(InputError, match=r"exclude list .*none\.txt: cannot be read"):
        excluded(tmp_path / "none.txt")


def test_a_list_leaves_images_out_of_training(root, tmp_path):
    file = tmp_path / "copies.txt"
    file.write_text("visible/door/c.png\n")
    setting = RunSettings(
        method="adca", preset="smoke", seed=0, data=str(root), layout=None, split=1, start=None,
        settings=None, exclude=str(file),
    )  # fmt: skip
    kept = [record.path.name for record in _open(setting).train]
    assert kept == ["d.png", "e.png", "a.png", "b.png"]
    file.write_text("visible/door/c.png\nvisible/door/b.png\n")
    with pytest.raises(InputError, match="at least two visible images, found 1"):
        _open(setting)
