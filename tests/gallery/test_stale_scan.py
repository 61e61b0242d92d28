"""A scan that is not of its database, or not as it was written, is made anew and says so."""

import json
import os
import shutil
import warnings

import numpy as np
import pytest
from people import MODEL, entries, vectors

from visir.core.run import DamageWarning
from visir.core.types import InputError
from visir.gallery.scan import blocks
from visir.gallery.scan import matrix as scan_module
from visir.gallery.sqlite import SqliteStore


def filled(folder, count=200, start=0):
    gallery = SqliteStore(folder, create=True)
    gallery.add(MODEL, entries(count, start), vectors(count, seed=start))
    gallery.nearest(vectors(1)[0], 1)
    gallery.close()


def own(gallery):
    """How many of 50 new images are their own nearest."""
    new = vectors(50, seed=77)
    ids = gallery.add(MODEL, entries(50, 900), new)
    return sum(gallery.nearest(vector, 1).ids.tolist() == [item]
               for vector, item in zip(new, ids, strict=True))  # fmt: skip


def test_a_database_restored_from_a_backup_gets_a_scan_of_its_own(tmp_path):
    filled(tmp_path / "g")
    shutil.copy(tmp_path / "g/gallery.sqlite", tmp_path / "backup")
    filled(tmp_path / "g", 100, 200)
    shutil.copy(tmp_path / "backup", tmp_path / "g/gallery.sqlite")
    gallery = SqliteStore(tmp_path / "g")
    with pytest.warns(DamageWarning, match="another state of the database.*is made anew from"):
        assert own(gallery) == 50
    assert gallery.count() == 250 and gallery.scan.state["rows"] == 250
    gallery.close()


def test_a_restored_database_that_has_grown_past_its_scan_is_noticed(tmp_path):
    filled(tmp_path / "g")  # version 1
    shutil.copy(tmp_path / "g/gallery.sqlite", tmp_path / "backup")
    filled(tmp_path / "g", 100, 200)  # version 2, also in the scan
    shutil.copy(tmp_path / "backup", tmp_path / "g/gallery.sqlite")
    gallery = SqliteStore(tmp_path / "g")
    for start in (500, 600):  # other images as versions 2 and 3, before the scan is looked at
        ids = gallery.add(MODEL, entries(100, start), vectors(100, seed=start))
    query = vectors(100, seed=600)[4]
    with pytest.warns(DamageWarning, match="another state"):
        assert gallery.nearest(query, 1).ids.tolist() == [ids[4]]
    gallery.close()


def test_a_gallery_begun_anew_in_the_folder_has_nothing_of_the_former(tmp_path):
    filled(tmp_path)
    (tmp_path / "gallery.sqlite").unlink()
    gallery = SqliteStore(tmp_path, create=True)
    with pytest.warns(DamageWarning, match="another state"):
        assert own(gallery) == 50
    assert gallery.count() == 50
    gallery.close()


def test_the_scan_of_another_gallery_is_not_believed(tmp_path):
    filled(tmp_path / "one")
    SqliteStore(tmp_path / "two", create=True).close()
    shutil.copytree(tmp_path / "one/scan", tmp_path / "two/scan")
    gallery = SqliteStore(tmp_path / "two")
    with pytest.warns(DamageWarning, match="another state"):
        assert own(gallery) == 50
    gallery.close()


def test_an_empty_database_is_no_empty_gallery(tmp_path):
    filled(tmp_path)
    (tmp_path / "gallery.sqlite").write_bytes(b"")
    for writable in (False, True):
        with pytest.raises(InputError, match=r"gallery.sqlite: is empty \(0 bytes\).*restore it"):
            SqliteStore(tmp_path, writable=writable)
    with pytest.warns(DamageWarning, match=r"is empty \(0 bytes\), what it held is lost, so a new"):
        gallery = SqliteStore(tmp_path, create=True)
    with pytest.warns(DamageWarning, match="another state"):
        assert own(gallery) == 50
    gallery.close()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("name", ["ids", "times", "cameras", "kinds", "full", "lead", "left",
                                  "basis.npy", "cells.npz"])  # fmt: skip
def test_damage_of_the_same_length_is_noticed(tmp_path, monkeypatch, name):
    monkeypatch.setattr(scan_module, "SMALL", 500)
    gallery = SqliteStore(tmp_path, create=True)
    ids = gallery.add(MODEL, entries(1500), vectors(1500))
    gallery.settle()
    gallery.close()
    (file,) = (tmp_path / "scan").glob(f"*.{name}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)
    gallery = SqliteStore(tmp_path)
    with pytest.warns(DamageWarning, match=rf"scan: is damaged \(1.{name} does not have its"):
        assert gallery.nearest(vectors(1500)[750], 1).ids.tolist() == [ids[750]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gallery.nearest(vectors(1500)[751], 1).ids.tolist() == [ids[751]]
    gallery.close()


def test_a_changed_number_in_the_state_is_noticed(tmp_path):
    filled(tmp_path)
    state = tmp_path / "scan/state.json"
    kept = json.loads(state.read_text())
    state.write_text(json.dumps({**kept, "last": 150}))
    gallery = SqliteStore(tmp_path)
    with pytest.warns(DamageWarning, match="state.json does not have its checksum"):
        gallery.nearest(vectors(1)[0], 1)
    assert np.array_equal(np.sort(gallery.scan.columns["ids"]), np.arange(1, 201))
    gallery.close()


def test_files_cut_short_under_an_open_gallery_do_not_end_it(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_module, "SMALL", 500)
    gallery = SqliteStore(tmp_path, create=True)
    ids = gallery.add(MODEL, entries(1500), vectors(1500))
    gallery.settle()
    gallery.close()
    child = os.fork()
    if not child:
        code = 1
        try:
            with warnings.catch_warnings(record=True) as told:
                gallery = SqliteStore(tmp_path)
                gallery.count()
                gallery._kept.use(MODEL.width, lambda scan: scan)  # open, but little is read
                for file in (tmp_path / "scan").glob("*.*"):
                    os.truncate(file, file.stat().st_size // 3)
                found = gallery.nearest(vectors(1500)[750], 1).ids.tolist()
                code = 0 if found == [ids[750]] and told else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def test_a_search_beside_one_that_changes_files_agrees_with_the_database(tmp_path):
    """What was read before another process erased it is read again, and is not taken for damage."""
    filled(tmp_path)
    reader, writer = SqliteStore(tmp_path), SqliteStore(tmp_path)
    reader.nearest(vectors(1)[0], 1)
    reader.scan.arrays["full"]._there[:] = False  # as a large gallery, which is read when needed
    scanned, state = reader._kept._scanned, {"first": True}

    def late(width, reason=None):
        scan = scanned(width, reason)
        if state.pop("first", None):
            writer.remove([7])  # between the look at the version and the reading of rows
        return scan

    reader._kept._scanned = late
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert reader.nearest(vectors(200)[6], 1).ids.tolist() != [7]
    reader.close()
    writer.close()


def test_rows_are_kept_in_blocks_that_are_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "KEPT", 100_000)
    monkeypatch.setattr(blocks, "BLOCK", 32 * 1024)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5000, 8)).astype(np.float32)
    array = blocks.Blocks(tmp_path / "rows", np.float32, (8,))
    for start in range(0, 5000, 700):
        array.append(rows[start : start + 700], keep=True)
        array.forget()
    assert (tmp_path / "rows").read_bytes() == rows.tobytes()
    again = blocks.Blocks(tmp_path / "rows", np.float32, (8,))
    again.expect(5000, array.sums)
    again.load(np.array([1500, 4999]))
    assert again._there.tolist() == [False, True, False, False, True]
    assert np.array_equal(again.values[[1500, 4999]], rows[[1500, 4999]])
    again.load()
    assert np.array_equal(again.values, rows)
    again.forget()
    assert not again._there.any()
    assert np.array_equal(again.take(np.array([3, 4001])), rows[[3, 4001]])
    (tmp_path / "rows").write_bytes(b"")
    with pytest.raises(blocks.DamagedError, match="rows was cut short"):
        again.load()
