"""Data sets on disk: same bytes for any workers, resuming, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from visir.core.types import InputError, Modality
from visir.data.check import check
from visir.data.registry import open_benchmark
from visir.synth import write
from visir.synth.write import synthesise

pytestmark = pytest.mark.slow

SMALL = {"ids": 4, "images": 2, "size": "48x24", "progress": False, "workers": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth") / "größe 1"
    synthesise(out, **SMALL)
    return out


def test_two_workers_write_the_same_bytes(made, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "_MIN_FOR_POOL", 1)
    synthesise(tmp_path / "b", **(SMALL | {"workers": 2}))
    assert contents(made) == contents(tmp_path / "b")


def test_an_interrupted_data_set_is_finished(made, tmp_path):
    out = tmp_path / "c"
    synthesise(out, **SMALL)
    images = sorted(out.rglob("*.jpg"))
    images[0].unlink()
    images[-1].write_bytes(b"")
    (images[3].parent / ".0001.jpg.part").write_bytes(b"half")
    kept = images[len(images) // 2].stat().st_mtime_ns
    synthesise(out, **SMALL)
    assert contents(out) == contents(made)
    assert images[len(images) // 2].stat().st_mtime_ns == kept


def test_a_different_seed_gives_other_pictures(made, tmp_path):
    synthesise(tmp_path / "d", **(SMALL | {"seed": 1}))
    name = "cam1/0001/0001.jpg"
    assert contents(made).get(name) != contents(tmp_path / "d").get(name)


def test_other_settings_in_the_same_folder_are_refused(made):
    with pytest.raises(InputError, match=r"size '48x24' not '32x16'"):
        synthesise(made, **(SMALL | {"size": "32x16"}))


def test_a_strange_folder_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        synthesise(tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", "48"), ("size", "8x4"), ("size", "48x24x3"), ("workers", -1), ("device", "gpu")],
)
def test_a_bad_number_is_refused_before_anything_is_written(tmp_path, name, value):
    with pytest.raises(InputError, match=name):
        synthesise(tmp_path / "e", **(SMALL | {name: value}))
    assert not (tmp_path / "e").exists()


def test_a_missing_image_is_noticed_by_check(made, tmp_path):
    assert not check(made).problems
    out = tmp_path / "f"
    synthesise(out, **SMALL)
    next(iter(sorted(out.rglob("*.jpg")))).unlink()
    assert any("cam1" in problem for problem in check(out).problems)


@pytest.mark.parametrize(
    ("layout", "suffix"), [("sysu", ".jpg"), ("regdb", ".bmp"), ("llcm", ".jpg")]
)
def test_every_layout_opens_as_a_benchmark(tmp_path, layout, suffix):
    out = tmp_path / layout
    synthesise(out, layout=layout, **(SMALL | {"images": 1}))
    benchmark = open_benchmark(out, layout)
    for side in (benchmark.train, benchmark.test):
        assert {record.modality for record in side} == set(Modality)
        assert all(record.path.suffix == suffix for record in side)
    assert Image.open(benchmark.test[0].path).size == (24, 48)
    assert benchmark.protocols
