"""Damaged exports, broken images and missing packages are refused by name."""

import json
import shutil
import sys
from pathlib import Path

import pytest

import visir.export
from visir.core.types import InputError, Modality
from visir.embedding import onnx as runtime
from visir.export import export

pytestmark = pytest.mark.slow


def swap(folder: Path) -> None:
    vis, ir = folder / "visible.onnx", folder / "infrared.onnx"
    vis.rename(folder / "a")
    ir.rename(vis)
    (folder / "a").rename(ir)


def rewrite(folder: Path, **values) -> None:
    path = folder / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "export.json").unlink(), r"export\.json: no such file; give"),
        (
            lambda folder: (folder / "export.json").write_text("{"),
            r"export\.json: the file is damaged",
        ),
        (
            lambda folder: (folder / "export.json").write_text("[1]"),
            r"export\.json: the file is damaged",
        ),
        (lambda folder: rewrite(folder, files={}), r"export\.json: the file is damaged"),
        (lambda folder: rewrite(folder, later=1), r"export\.json: the file is damaged"),
        (
            lambda folder: rewrite(folder, format=2),
            r"has format 2, but this version of visir reads format 1",
        ),
        (lambda folder: (folder / "infrared.onnx").unlink(), r"infrared\.onnx: no such file"),
        (lambda folder: (folder / "weights.bin").unlink(), r"weights\.bin: no such file"),
        (
            lambda folder: flip_bit(folder / "weights.bin"),
            r"weights\.bin: is not the file that was",
        ),
        (swap, r"infrared\.onnx: is not the file that was exported"),
    ],
)
def test_damaged_exports_are_refused(damage, said, resnet, tmp_path):
    shutil.copytree(resnet.out, tmp_path / "out")
    runtime.load(tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(InputError, match=said):
        runtime.load(tmp_path / "out")


def test_a_broken_image_is_named(resnet, tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(InputError, match=r"a\.jpg: the file is empty"):
        runtime.load(resnet.out).embed([tmp_path / "a.jpg"], Modality.VISIBLE)


def test_missing_packages_are_named(resnet, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"ONNX Runtime is not installed; .*visir\[export\]"):
        runtime.load(resnet.out)
    monkeypatch.setattr(visir.export, "find_spec", lambda name: None if name == "onnx" else name)
    with pytest.raises(InputError, match=r"export: onnx is not installed; .*visir\[export\]"):
        export(resnet.run, tmp_path / "out")
