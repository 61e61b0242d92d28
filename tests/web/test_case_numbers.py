"""No new case takes the number of an old one, whatever happened to the counter."""

import contextlib

import pytest

from visir.core.run import atomic_write
from visir.core.types import InputError
from visir.web.case_store import CaseStore


@pytest.mark.parametrize("counter", ["2\n", "", "0", "-7", "three", "\x00\x00", None])
def test_a_counter_from_a_backup_overwrites_no_case(tmp_path, counter):
    with contextlib.closing(CaseStore(tmp_path)) as store:
        for name in "abc":
            store.open_case(name, "Ada")
        for stray in ("1 (copy).json", "٣.json", "-9.json", "notes.json"):
            (tmp_path / "cases" / stray).write_text("{}")
        file = tmp_path / "cases" / "last"
        if counter is None:
            file.unlink()
        else:
            file.write_text(counter)
        assert store.open_case("new", "Ada").id == 4
        assert [store.case(number).name for number in (1, 2, 3, 4)] == ["a", "b", "c", "new"]
        assert store.open_case("newer", "Ada").id == 5


def test_the_number_of_a_deleted_case_is_not_given_again(tmp_path):
    with contextlib.closing(CaseStore(tmp_path)) as store:
        for name in "abc":
            store.open_case(name, "Ada")
        store.drop_case(3)
        assert store.open_case("new", "Ada").id == 4


def test_a_file_that_must_be_new_replaces_none(tmp_path):
    file = tmp_path / "case"
    with atomic_write(file, new=True) as handle:
        handle.write(b"old")
    said = pytest.raises(InputError, match="case: exists already")
    with said, atomic_write(file, new=True) as handle:
        handle.write(b"new")
    assert file.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
