"""Lists of ids: read line by line, removed in steps, and refused with a line's number."""

import tracemalloc

import pytest
from people import MODEL, entries, vectors

import visir.gallery.sqlite_scan as scan_module
from visir import cli
from visir.core.types import InputError
from visir.gallery.id_list import STEP, count_listed, in_steps, listed, selected
from visir.gallery.sqlite import UNWIPED, SqliteStore
from visir.gallery.store import EVERYTHING, Filter

COUNT = 60


@pytest.fixture
def filled(tmp_path):
    gallery = SqliteStore(tmp_path / "site", create=True)
    gallery.add(MODEL, entries(COUNT), vectors(COUNT))
    gallery.settle()
    yield gallery
    gallery.close()


def left(store):
    return [item.id for item in store.select(EVERYTHING)]


def test_a_list_is_read_as_editors_write_it(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_bytes(b"\xef\xbb\xbf3\r\n\r\n  17 \n3\n9223372036854775807")
    assert list(listed(file)) == [3, 17, 3, 2**63 - 1]
    assert count_listed(file) == 4
    file.write_bytes(b"")
    assert count_listed(file) == 0


@pytest.mark.parametrize(
    "line",
    ["x", "1.5", "-3", "0", "1 2", "1,2", "9223372036854775808", "\u0663", " " * 98 + "12",
     "7" * 300, "crops/1.jpg"],
)  # fmt: skip
def test_a_line_that_is_no_id_is_named_and_nothing_is_removed(line, filled, tmp_path, capsys):
    file = tmp_path / "ids.txt"
    file.write_text(f"1\n\n2\n{line}\n4\n", encoding="utf-8")
    command = ["index", "remove", str(filled.folder), "--id-list", str(file)]
    assert cli.main(command) == 2
    said = capsys.readouterr().err
    assert f"{file}: line 4 is" in said and "write in each line one id of an image" in said
    assert len(said) < 500 + len(str(file))
    assert left(filled) == list(range(1, COUNT + 1))


def test_a_list_that_is_not_there_is_named(filled, tmp_path, capsys):
    command = ["index", "remove", str(filled.folder), "--id-list", str(tmp_path / "none")]
    assert cli.main(command) == 2
    assert "none: cannot be read (No such file or directory); give" in capsys.readouterr().err


def test_ids_a_list_and_a_filter_are_removed_together(filled, tmp_path, capsys):
    file = tmp_path / "ids.txt"
    file.write_text("5\n6\n5\n999\n")
    command = ["index", "remove", str(filled.folder), "--ids", "1", "--camera", "cam3",
               "--id-list", str(file)]  # fmt: skip
    assert cli.main(command) == 0
    kept = [n for n in range(1, COUNT + 1) if n not in (1, 5, 6) and n % 4]
    assert left(filled) == kept
    assert f"{COUNT - len(kept)} images removed" in capsys.readouterr().out


def test_steps_hold_all_ids_once():
    assert list(in_steps(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(in_steps(range(6), 3)) == [[0, 1, 2], [3, 4, 5]]
    assert list(in_steps(())) == []


@pytest.mark.slow
def test_a_long_list_is_never_in_memory_whole(store, tmp_path):
    lines = 400_000
    store.add(MODEL, entries(COUNT), vectors(COUNT))
    file = tmp_path / "ids.txt"
    file.write_text("".join(f"{n}\n" for n in range(lines, 0, -1)))  # those there come last
    tracemalloc.start()
    try:
        assert store.remove(listed(file)) == COUNT
        streamed = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert store.remove(list(listed(file))) == 0
        whole = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert streamed < 4 * 2**20 < whole
    assert store.count() == 0


def test_a_part_is_read_in_pages_while_it_is_removed(store, monkeypatch):
    monkeypatch.setattr("visir.gallery.id_list.STEP", 7)
    store.add(MODEL, entries(COUNT), vectors(COUNT))
    where = Filter(cameras=("cam1",))
    expected = [item.id for item in store.select(where)]
    assert list(selected(store, where)) == expected
    asked, select = [], store.select

    def counted(*arguments):
        found = select(*arguments)
        asked.append(len(found))
        return found

    monkeypatch.setattr(store, "select", counted)
    assert store.remove(selected(store, where)) == len(expected)
    assert max(asked) == 7
    assert store.count(where) == 0 and store.count() == COUNT - len(expected)


def test_a_removal_that_ends_midway_keeps_whole_steps_and_is_finished_at_the_next(store):
    count = STEP + 100
    store.add(MODEL, entries(count), vectors(count))

    def ending():
        yield from range(1, STEP + 50)
        raise InputError("line 9")

    with pytest.raises(InputError, match="line 9"):
        store.remove(ending())
    assert store.count() == 100  # the first step is kept, the second was not begun
    assert store.remove(range(1, STEP + 50)) == 49
    assert store.setting(UNWIPED) is None


def test_what_was_removed_is_erased_in_parts(filled, monkeypatch):
    monkeypatch.setattr(scan_module, "_GONE", 4)
    row = vectors(COUNT)[10]
    secret = row.astype("f2").tobytes()
    files = [file for file in filled.folder.rglob("*") if file.is_file()]
    assert any(secret in file.read_bytes() for file in files)
    assert filled.remove(range(1, 31)) == 30
    for file in filled.folder.rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes()
            assert row.tobytes() not in file.read_bytes()
    assert filled.nearest(row, COUNT).ids.min() == 31
    assert filled.setting(UNWIPED) is None
