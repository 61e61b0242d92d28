"""A large gallery keeps codes beside its database: exact, wiped, checked and kept up to date."""

import contextlib
import os
import shutil

import numpy as np
import pytest
from people import MODEL, SIDES, entries, two_clouds, vectors

from visir.core.run import DamageWarning
from visir.core.types import Modality
from visir.gallery.scan import coarse
from visir.gallery.scan import matrix as scan_module
from visir.gallery.scan.blocks import Blocks
from visir.gallery.scan.kernels import coded_bounds
from visir.gallery.scan.matrix import Scan
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter

pytestmark = pytest.mark.slow

COUNT, LARGE = 4000, 1000
PARTS = {
    "all": (Filter(), lambda n: n >= 0),
    "infrared": (Filter(modality=Modality.INFRARED), lambda n: n % 2 == 1),
    "a camera": (Filter(cameras=("cam2",)), lambda n: n % 4 == 2),
    "a time": (Filter(since=1100, until=1180), lambda n: (n >= 100) & (n <= 180) & (n % 10 != 9)),
    "a tag": (Filter(tags=("gate",)), lambda n: n % 3 == 0),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(scan_module, "SMALL", 500)


def filled(folder, count=COUNT, start=0):
    gallery = SqliteStore(folder, create=True, large=LARGE)
    gallery.add(MODEL, entries(count, start), vectors(count, seed=start))
    gallery.settle()
    return gallery


def best(rows, query, k, kept):
    """Ids of the k best of the rows that are kept."""
    scores = np.where(kept, rows.astype(float) @ query.astype(float), -2)
    ids = np.arange(1, len(rows) + 1)
    return ids[np.lexsort((ids, -scores))[:k]].tolist()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("k", [1, 10, 60])
def test_whole_parts_are_searched_exactly(tmp_path, part, k):
    where, belongs = PARTS[part]
    gallery = filled(tmp_path)
    gallery.remove(list(range(1, COUNT, 7)))
    gallery.add(MODEL, entries(500, COUNT), vectors(500, seed=2))  # behind the sorted rows
    rows = np.concatenate([vectors(COUNT), vectors(500, seed=2)])
    numbers = np.arange(len(rows))
    kept = belongs(numbers) & ~((numbers % 7 == 0) & (numbers < COUNT - 1))
    for query in vectors(5, seed=5):
        found = gallery.nearest(query, k, where, "exact")
        assert found.ids.tolist() == best(rows, query, k, kept)
        assert found.ids.tolist() == gallery.nearest(query, k, where).ids.tolist()
    assert gallery.scan.state["coarse"] and "full" not in gallery.scan.arrays
    assert not list((tmp_path / "scan").glob("*.full"))
    gallery.close()


def test_few_vectors_are_read_and_none_that_a_bound_leaves_out_is_good(tmp_path, monkeypatch):
    gallery, read = filled(tmp_path), []
    source = gallery.scan._source
    gallery.scan._source = lambda ids: read.append(len(ids)) or source(ids)
    queries = vectors(20, seed=7)
    right = [best(vectors(COUNT), query, 20, True) for query in queries]
    assert [gallery.nearest(query, 20).ids.tolist() for query in queries] == right
    assert np.sum(read) / len(queries) < COUNT / 4
    arrays = {name: array.values for name, array in gallery.scan.arrays.items()}
    everyone = np.arange(COUNT)
    basis = gallery.scan.basis
    for query in queries:
        low = query @ basis
        share = float(np.linalg.norm(query - basis @ low))
        length = float(np.linalg.norm(low))
        most = coded_bounds(arrays, everyone, low, length, share)
        exact = gallery.vectors(arrays["ids"]).astype(float) @ query.astype(float)
        assert (most + 1e-5 >= exact).all()
        assert (most - exact).max() < 0.2
    # Bounds that leave out what the codes do would lose rows.
    monkeypatch.setattr(
        coarse,
        "coded_bounds",
        lambda a, r, q, length, share: coded_bounds(a, r, q, -99, -99 * share),
    )
    assert [gallery.nearest(query, 20).ids.tolist() for query in queries] != right
    gallery.close()


@pytest.mark.parametrize(
    ("cosine", "copies"), [(0.95, False), (0.56, False), (-0.3, False), (-0.73, True)]
)
def test_modalities_that_lie_apart_find_each_other(tmp_path, monkeypatch, cosine, copies):
    monkeypatch.setattr("visir.gallery.sqlite_scan.LIKELY_CODES", 3)
    rows, queries = two_clouds(8000, cosine, copies=copies)
    gallery = SqliteStore(tmp_path, create=True, large=LARGE)
    gallery.add(MODEL, entries(8000), rows)
    gallery.settle()
    read, real = [], gallery.scan.best
    monkeypatch.setattr(
        gallery.scan, "best", lambda q, k, rows: read.append(len(rows)) or real(q, k, rows)
    )
    for side in (0, 1):
        part = Filter(modality=SIDES[side])
        hits = {"exact": 0, "approx": 0}
        for query in queries:
            right = best(rows, query, 2, np.arange(8000) % 2 == side)
            for mode in hits:
                hits[mode] += len(np.intersect1d(gallery.nearest(query, 2, part, mode).ids, right))
        assert hits["exact"] == 2 * len(queries)
        assert hits["approx"] >= 0.98 * 2 * len(queries)
    assert np.min(read) < 8000 / 2 / 3  # likely cells are a part of it
    gallery.close()


def codes(folder):
    """The files of codes, and what they hold of image 7 as the scan would write it."""
    (file,) = (folder / "scan").glob("*.code")
    return file.read_bytes()


@pytest.mark.parametrize("where", [None, (SqliteStore, "_wipe"), (Scan, "drop"), (Blocks, "erase")])
def test_the_code_of_a_removed_image_is_overwritten(tmp_path, monkeypatch, recwarn, where):
    """Also if the process is killed on the way: the next one finishes it."""
    with contextlib.closing(filled(tmp_path)) as gallery:
        (row,) = np.flatnonzero(gallery.scan.columns["ids"] == 7)
        code = gallery.scan.arrays["code"].values[row].tobytes()
        size = len(code)
    assert codes(tmp_path)[row * size : (row + 1) * size] == code and code in codes(tmp_path)
    child = os.fork()
    if not child:
        try:
            if where is not None:
                monkeypatch.setattr(*where, lambda *_, **__: os._exit(9))
            SqliteStore(tmp_path, large=LARGE).remove([7])
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (0 if where is None else 9)
    with contextlib.closing(SqliteStore(tmp_path, large=LARGE)) as gallery:
        assert gallery.nearest(vectors(COUNT)[6], 1).ids.tolist() != [7]
        assert gallery.scan.state["dead"] == 1
    assert code not in codes(tmp_path)
    for name in ("scale", "off", "left"):
        (file,) = (tmp_path / "scan").glob(f"*.{name}")
        assert np.fromfile(file, np.float32)[row] == 0
    assert not recwarn.list


@pytest.mark.parametrize("name", ["code", "scale", "off", "left", "basis.npy", "cells.npz"])
@pytest.mark.parametrize("cut", [True, False])
def test_damaged_codes_are_made_anew(tmp_path, name, cut):
    filled(tmp_path).close()
    (file,) = (tmp_path / "scan").glob(f"*.{name}")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content[: len(content) // 2] if cut else content)
    gallery = SqliteStore(tmp_path, large=LARGE)
    told = rf"scan: is damaged \(\d+.{name} (was cut short|does not have its checksum)\)"
    with pytest.warns(DamageWarning, match=told):
        assert gallery.nearest(vectors(COUNT)[750], 1).ids.tolist() == [751]
    assert gallery.scan.state["coarse"]
    gallery.close()


def test_codes_of_another_state_of_the_database_are_not_believed(tmp_path):
    filled(tmp_path).close()
    shutil.copy(tmp_path / "gallery.sqlite", tmp_path / "backup")
    filled(tmp_path, 100, COUNT).close()
    shutil.copy(tmp_path / "backup", tmp_path / "gallery.sqlite")
    gallery = SqliteStore(tmp_path, large=LARGE)
    new = vectors(50, seed=77)
    ids = gallery.add(MODEL, entries(50, 9000), new)
    with pytest.warns(DamageWarning, match="another state of the database"):
        found = [gallery.nearest(query, 1).ids.tolist() for query in new]
    assert found == [[item] for item in ids]
    assert gallery.scan.state["rows"] == COUNT + 50
    gallery.close()


def test_a_gallery_that_grows_gets_codes_and_later_new_directions(tmp_path):
    gallery = filled(tmp_path, 900)
    assert not gallery.scan.state["coarse"]
    for count, start, made_for in ((300, 900, 1200), (3000, 1200, 1200), (900, 4200, 5100)):
        new = vectors(count, seed=start)
        ids = gallery.add(MODEL, entries(count, start), new)
        gallery.settle()
        assert gallery.scan.state["coarse"] == made_for
        assert gallery.nearest(new[5], 1).ids.tolist() == [ids[5]]
        other = SqliteStore(tmp_path, writable=False, large=LARGE)  # as it is on disk
        assert other.nearest(new[6], 1).ids.tolist() == [ids[6]]
        other.close()
    assert gallery.scan.state["rows"] == gallery.scan.state["sorted"] == 5100
    gallery.close()


def test_making_codes_that_was_killed_goes_on_where_it_stopped(tmp_path, monkeypatch):
    gallery = SqliteStore(tmp_path, create=True, large=LARGE)
    gallery.add(MODEL, entries(COUNT), vectors(COUNT))
    gallery.close()
    monkeypatch.setattr("visir.gallery.sqlite_scan._CHUNK", 500)
    append, sizes = Scan.append, []

    def stopped(scan, new, mark):
        sizes.append(len(new.ids))
        if len(sizes) == 4:
            raise KeyboardInterrupt
        append(scan, new, mark)

    monkeypatch.setattr(Scan, "append", stopped)
    gallery = SqliteStore(tmp_path, large=LARGE)
    with pytest.raises(KeyboardInterrupt):
        gallery.settle()
    gallery.close()
    gallery = SqliteStore(tmp_path, large=LARGE)
    gallery.settle()
    assert sum(sizes) == COUNT + 500 and gallery.scan.state["rows"] == COUNT
    query = vectors(1, seed=5)[0]
    assert gallery.nearest(query, 10).ids.tolist() == best(vectors(COUNT), query, 10, True)
    gallery.close()
