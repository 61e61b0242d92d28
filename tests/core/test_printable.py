"""Messages that quote names with line breaks and other control characters."""

from __future__ import annotations

from visir import cli
from visir.core.names import printable
from visir.core.types import InputError


def test_a_name_is_written_on_one_line() -> None:
    assert printable("a\nb\r\x1b[2J\x00") == r"a\nb\r\x1b[2J\x00"
    assert printable("\udcff.jpg") == r"\udcff.jpg"
    assert printable("Straße 7, ✓") == "Straße 7, ✓"
    assert str(InputError("a\nb: no such file")) == r"a\nb: no such file"


def test_the_program_prints_names_on_one_line(tmp_path, capsys) -> None:
    assert cli.main(["index", "stats", str(tmp_path / "a\nvisir: done")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert r"a\nvisir: done" in said


def test_a_message_with_an_endless_name_is_short():
    error = InputError(f"a.csv: row 1 names {'x' * 10**6!r}; correct it")
    assert len(str(error)) < 2100
    assert str(error).startswith("a.csv: row 1 names 'xxx")
    assert str(error).endswith("xxx'; correct it")
    assert str(InputError("a" * 2000)) == "a" * 2000
