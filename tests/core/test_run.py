"""Atomic writes, and the run folder."""

import errno

import pytest

from visir.core.run import DamageWarning, Run, atomic_write, sweep, write_text
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


LINE = b'{"kind": "epoch", "epoch": 0}\n'


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"epo\n', b"\n", b"\0" * 30 + b"\n", b"3\n", b"[]\n", b'{"kind": "epoch"}\n',
        b'{"kind": "epoch", "epoch": "0"}\n', b'{"kind": "epoch", "epoch": true}\n',
        b'{"kind": 1, "epoch": 0}\n', b"\xff\xfe{\n", b"[" * 100_000 + b"\n",
    ],
)  # fmt: skip
def test_a_damaged_line_of_the_metrics_is_refused(damaged, tmp_path):
    run = Run(tmp_path)
    run.metrics.write_bytes(LINE + damaged + LINE)
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2 is damaged .*remove the line"):
        run.read_metrics()


@pytest.mark.parametrize("half", [b"{", b'{"kind": "ep', b"\xff"])
def test_half_a_line_at_the_end_is_left_out_and_dropped_by_the_next(half, tmp_path):
    run = Run(tmp_path)
    run.metrics.write_bytes(LINE + half)
    with pytest.warns(DamageWarning, match=r"metrics\.jsonl: half a line at the end .*line 2"):
        assert run.read_metrics() == [{"kind": "epoch", "epoch": 0}]
    run.log({"kind": "scores", "epoch": 7})
    assert run.metrics.read_bytes() == LINE + b'{"kind": "scores", "epoch": 7}\n'


def test_half_a_line_alone_is_dropped_too(tmp_path):
    run = Run(tmp_path)
    run.metrics.write_bytes(b'{"kind')
    run.log({"kind": "scores", "epoch": 7})
    assert run.read_metrics() == [{"kind": "scores", "epoch": 7}]
