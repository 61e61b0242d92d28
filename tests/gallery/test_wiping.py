"""A removed image is in no file, also after a crash and beside a process that still reads it."""

import contextlib
import os
import sqlite3

import numpy as np
import pytest
from people import MODEL, entries, vectors

from visir.gallery.scan import matrix as scan_module
from visir.gallery.scan.blocks import Blocks
from visir.gallery.scan.matrix import Scan
from visir.gallery.sqlite import SqliteStore, UnfinishedWarning
from visir.gallery.sqlite_file import Database

GONE = vectors(60)[6]
TRACES = (GONE.tobytes(), GONE.astype(np.float16).tobytes(), b"crops/6.jpg")


def traces(folder):
    """Which traces of image 7 are in any file."""
    files = [file.read_bytes() for file in folder.rglob("*") if file.is_file()]
    return [place for place, trace in enumerate(TRACES) if any(trace in file for file in files)]


def filled(folder):
    with contextlib.closing(SqliteStore(folder, create=True)) as gallery:
        gallery.add(MODEL, entries(60), vectors(60))
        gallery.settle()
        gallery.nearest(GONE, 1)
    assert traces(folder) == [0, 1, 2]


def killed(folder, monkeypatch, owner, name, before=0):
    """A process that removes image 7 and ends where it calls a function the (before + 1)th time."""
    child = os.fork()
    if not child:
        calls = []
        real = getattr(owner, name)

        def stop(*arguments, **named):
            calls.append(name)
            if len(calls) > before:
                os._exit(9)
            return real(*arguments, **named)

        try:
            monkeypatch.setattr(owner, name, stop)
            SqliteStore(folder).remove([7])
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize(("owner", "name", "before"), [
    (SqliteStore, "_wipe", 0),  # between the commit and everything else
    (Scan, "drop", 0), (Blocks, "erase", 0), (Blocks, "erase", 2), (Scan, "_commit", 1),
    (Database, "wipe", 0),
])  # fmt: skip
@pytest.mark.parametrize("writable", [True, False])
def test_a_removal_that_was_killed_is_finished_at_the_next_opening(
    tmp_path, monkeypatch, recwarn, owner, name, before, writable
):
    filled(tmp_path)
    killed(tmp_path, monkeypatch, owner, name, before)
    with contextlib.closing(SqliteStore(tmp_path, writable=writable)) as gallery:
        assert gallery.count() == 59
        assert traces(tmp_path) == []
        assert gallery.nearest(GONE, 1).ids.tolist() != [7]
        assert (gallery.scan.state["rows"], gallery.scan.state["dead"]) == (60, 1)
    assert not recwarn.list  # nothing is damaged, so nothing is made anew


def test_beside_a_reader_the_rest_is_wiped_once_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("visir.gallery.sqlite_file._WIPING", 0.05)
    filled(tmp_path)
    gallery = SqliteStore(tmp_path)
    reader = sqlite3.connect(tmp_path / "gallery.sqlite", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM items").fetchall()  # it holds a snapshot
    with pytest.warns(UnfinishedWarning, match="another process reads them"):
        assert gallery.remove([7]) == 1
    assert gallery.nearest(GONE, 1).ids.tolist() != [7]
    assert 2 in traces(tmp_path)
    reader.execute("COMMIT")
    reader.close()
    gallery.expire(0)  # what a server does from time to time
    assert traces(tmp_path) == []
    gallery.close()


def test_what_killed_processes_left_in_the_scan_is_removed_too(tmp_path):
    """Rows behind the last one, and files of a sorting that was not finished."""
    filled(tmp_path)
    (tmp_path / "scan/5.full").write_bytes(TRACES[1])
    (tmp_path / "scan/.state.json.abc.part").write_bytes(TRACES[2])
    with (tmp_path / "scan/0.full").open("ab") as file:
        file.write(TRACES[1])
    with contextlib.closing(SqliteStore(tmp_path)) as gallery:
        gallery.remove([7])
        assert traces(tmp_path) == []


@pytest.mark.parametrize("point", [("append", 3), ("append", 30), ("_sort_files", 0),
                                   ("_commit", 0), ("_sweep", 1)])  # fmt: skip
def test_a_settling_that_was_killed_changes_nothing(tmp_path, monkeypatch, recwarn, point):
    name, before = point
    monkeypatch.setattr(scan_module, "SMALL", 500)
    monkeypatch.setattr(scan_module, "_CHUNK", 400)
    with contextlib.closing(SqliteStore(tmp_path, create=True)) as gallery:
        gallery.add(MODEL, entries(2000), vectors(2000))
        gallery.nearest(GONE, 1)
    child = os.fork()
    if not child:
        owner = Blocks if name == "append" else Scan
        real, calls = getattr(owner, name), []

        def stop(*arguments, **named):
            calls.append(name)
            if len(calls) > before:
                os._exit(9)
            return real(*arguments, **named)

        try:
            gallery = SqliteStore(tmp_path)
            gallery.nearest(GONE, 1)
            setattr(owner, name, stop)
            gallery.settle()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with contextlib.closing(SqliteStore(tmp_path)) as gallery:
        for query in vectors(2000)[::400]:
            held = vectors(2000).astype(float) @ query.astype(float)
            ids = gallery.nearest(query, 5).ids
            assert ids.tolist() == (np.lexsort((np.arange(2000), -held))[:5] + 1).tolist()
        gallery.settle()
        assert len({file.name.split(".")[0] for file in (tmp_path / "scan").glob("[0-9]*")}) == 1
        assert gallery.scan.state["sorted"] == 2000
    assert not recwarn.list
