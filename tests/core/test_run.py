"""Atomic writes, and the run folder."""

import errno

import pytest

from visir.core.run import Run, atomic_write, sweep, write_text
from visir.core.types import InputError


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    write_text(path, "before")
    with (
        pytest.raises(InputError, match=r"a\.txt: writing failed \(No space left"),
        atomic_write(path) as file,
    ):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "before"
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]


def test_any_other_end_leaves_the_former_file_too(tmp_path):
    write_text(tmp_path / "a", "before")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [entry.read_text() for entry in tmp_path.iterdir()] == ["before"]


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_sweeping_takes_leftovers_only_from_where_it_is_told(tmp_path):
    (tmp_path / "below").mkdir()
    for name in (".a.1.part", "a.part", ".a", "below/.b.part"):
        (tmp_path / name).touch()
    sweep(tmp_path, below=False)
    assert {p.name for p in tmp_path.rglob("*")} == {"a.part", ".a", "below", ".b.part"}
    sweep(tmp_path)
    assert {p.name for p in tmp_path.rglob("*")} == {"a.part", ".a", "below"}


def test_metrics_broken_in_the_middle_are_refused(tmp_path):
    run = Run(tmp_path)
    run.metrics.write_text('{"epoch": 0}\n{"epo\n{"epoch": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2 is not JSON"):
        run.read_metrics()
