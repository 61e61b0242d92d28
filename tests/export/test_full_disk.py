"""Writing that fails: one sentence, what was there stays, and two exports do not mix."""

import contextlib
import os
import resource
import shutil

import pytest
from fake_run import make_run, make_sysu

from visir.cli import main
from visir.core.lock import locked
from visir.core.types import InputError
from visir.export import export
from visir.nets.build import build
from visir.nets.weights import save_weights

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def small_files(limit):
    """No file may grow beyond so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_eval_and_report_keep_what_was_there_on_a_full_disk(tmp_path, capsys):
    run = make_run(tmp_path / "run", make_sysu(tmp_path / "data"))
    net = build("micro", (64, 32))
    about = {"net": {**net.described, "image_size": [64, 32]}, "method": "adca"}
    save_weights(run / "model.safetensors", net, about)
    (run / "report.html").write_text("the page of before")
    assert main(["eval", str(run)]) == 0
    before = contents(run)
    for command in ("eval", "report"):
        capsys.readouterr()
        with small_files(100):
            assert main([command, str(run)]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("visir: error: ") and "File too large" in said
        assert contents(run) == before


@pytest.fixture
def out(resnet, tmp_path):
    return shutil.copytree(resnet.out, tmp_path / "out")


def test_an_export_that_finds_no_space_keeps_the_former(resnet, people, out, traced):
    before = contents(out.parent)
    with small_files(100), pytest.raises(InputError, match="File too large"):
        export(resnet.run, out, people)
    assert contents(out.parent) == before


def test_two_exports_to_one_folder_do_not_mix(resnet, people, out, traced):
    before = contents(out)
    said = rf"out.new: process {os.getpid()} on .* exports there; wait for the other export to"
    with locked(out.with_name(".out.new"), "exports", "wait"):
        with pytest.raises(InputError, match=said):
            export(resnet.run, out, people)
        assert contents(out) == before
    export(resnet.run, out, people)
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_an_export_that_was_killed_between_its_renames_is_put_back(resnet, people, out, traced):
    before = contents(out)
    (out.parent / ".out.new").mkdir()
    out.rename(out.parent / ".out.new" / "old")
    with small_files(100), pytest.raises(InputError, match="File too large"):
        export(resnet.run, out, people)
    assert contents(out) == before and not (out.parent / ".out.new").exists()
