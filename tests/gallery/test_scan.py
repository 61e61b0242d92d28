"""The scan of a gallery: exact by its bounds, sorted into cells, made anew where it is damaged."""

import shutil

import numpy as np
import pytest
from people import MODEL, SIDES, entries, vectors

from visir.core.types import Modality
from visir.gallery.scan import matrix as scan_module
from visir.gallery.scan.kernels import bounds
from visir.gallery.scan.matrix import ERROR, Scan
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter

pytestmark = pytest.mark.slow

COUNT = 4000
INFRARED = Filter(modality=Modality.INFRARED)


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """A gallery large enough for leads and cells, because the limit is lowered; some removed."""
    patch = pytest.MonkeyPatch()
    patch.setattr(scan_module, "SMALL", 1000)
    gallery = SqliteStore(tmp_path_factory.mktemp("gallery"), create=True)
    gallery.add(MODEL, entries(COUNT), vectors(COUNT))
    gallery.remove(list(range(1, COUNT, 7)))
    gallery.settle()
    gallery.add(MODEL, entries(500, COUNT), vectors(500, seed=2))  # behind the sorted rows
    yield gallery
    gallery.close()
    patch.undo()


def truth(query, k, infrared_only=False):
    """Ids of the best, over what was not removed."""
    everything = np.concatenate([vectors(COUNT), vectors(500, seed=2)])
    ids = np.arange(1, len(everything) + 1)
    gone = (ids < COUNT) & (ids % 7 == 1)
    gone |= infrared_only & (ids % 2 == 1)
    scores = np.where(gone, -2, everything.astype(float) @ query.astype(float))
    return ids[np.lexsort((ids, -scores))[:k]]


@pytest.mark.parametrize("k", [1, 10, 100])
def test_whole_looks_are_exact(settled, k):
    assert settled.scan is not None and settled.scan.basis is not None
    for query in vectors(10, seed=5):
        assert settled.nearest(query, k, Filter(), "exact").ids.tolist() == truth(query, k).tolist()
        found = settled.nearest(query, k, INFRARED, "exact").ids
        assert found.tolist() == truth(query, k, infrared_only=True).tolist()


def test_leads_leave_out_most_rows_and_never_a_good_one(settled, monkeypatch):
    read = []

    def counted(matrix, rows, *arguments):
        read.append((matrix.shape[1], len(rows)))
        return bounds(matrix, rows, *arguments)

    monkeypatch.setattr(scan_module, "bounds", counted)
    query = vectors(1, seed=6)[0]
    assert settled.nearest(query, 5, Filter(), "exact").ids.tolist() == truth(query, 5).tolist()
    whole = sum(rows for width, rows in read if width == MODEL.width)
    assert read[0][0] < MODEL.width and whole < read[0][1] / 4
    # A bound that is too low by what the leads leave out would lose rows.
    monkeypatch.setattr(
        scan_module, "bounds", lambda m, r, q, left, share: bounds(m, r, q, left, -8 * share)
    )
    wrong = [settled.nearest(q, 20, Filter(), "exact").ids.tolist() != truth(q, 20).tolist()
             for q in vectors(20, seed=7)]  # fmt: skip
    assert any(wrong)


def test_likely_cells_find_nearly_all(settled, monkeypatch):
    monkeypatch.setattr("visir.gallery.sqlite_scan.LIKELY", 3)
    settled.nearest(vectors(1)[0], 1)
    scan, read = settled.scan, []
    low = vectors(1, seed=8)[0] @ scan.basis
    rows = scan.cells.likely(low, 2, 100)
    assert 100 <= len(rows) < scan.state["sorted"] / 4
    assert (scan.columns["kinds"][rows] == 2).all()
    best = scan.best
    monkeypatch.setattr(scan, "best", lambda q, k, rows: read.append(len(rows)) or best(q, k, rows))
    hits = [
        len(np.intersect1d(settled.nearest(query, 1, part, "approx").ids, truth(query, 1, ir)))
        for query in vectors(40, seed=8)
        for part, ir in ((Filter(), False), (INFRARED, True))
    ]
    assert max(read) < scan.state["rows"] / 2  # the late rows among them
    assert np.mean(hits) >= 0.98


def test_products_in_half_precision_stay_within_the_error():
    rows, query = vectors(3000, width=64), vectors(1, seed=3, width=64)[0]
    chosen = np.arange(0, 3000, 3)
    found = bounds(rows.astype(np.float16), chosen, query, np.ones(3000, np.float32), 0.25)
    off = np.abs(found - 0.25 - rows[chosen].astype(float) @ query.astype(float))
    assert off.max() < ERROR
    assert off.max() > 1e-6  # half precision it is


def test_readers_see_what_another_process_adds_and_removes(tmp_path):
    writer = SqliteStore(tmp_path, create=True)
    writer.add(MODEL, entries(50), vectors(50))
    reader = SqliteStore(tmp_path)
    query = vectors(50)[7]
    assert reader.nearest(query, 1).ids.tolist() == [8]
    writer.remove([8])
    assert reader.nearest(query, 1).ids.tolist() != [8]
    (new,) = writer.add(MODEL, entries(1, 99), query[None])
    assert reader.nearest(query, 1).ids.tolist() == [new]
    for gallery in (writer, reader):
        gallery.close()


@pytest.mark.parametrize("damage", ["gone", "state", "short", "basis"])
def test_a_damaged_scan_is_made_anew(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(scan_module, "SMALL", 1000)
    gallery = SqliteStore(tmp_path, create=True)
    gallery.add(MODEL, entries(COUNT), vectors(COUNT))
    gallery.remove([5])
    gallery.settle()
    expected = gallery.nearest(vectors(1, seed=4)[0], 10).ids.tolist()
    gallery.close()
    folder = tmp_path / "scan"
    if damage == "gone":
        shutil.rmtree(folder)
    elif damage == "state":
        (folder / "state.json").write_text("{")
    else:
        name = "full" if damage == "short" else "basis.npy"
        (file,) = folder.glob(f"*.{name}")
        file.write_bytes(file.read_bytes()[:1000])
    gallery = SqliteStore(tmp_path)
    assert gallery.nearest(vectors(1, seed=4)[0], 10).ids.tolist() == expected
    gallery.close()


def test_removal_leaves_no_trace_in_any_file(tmp_path):
    gallery = SqliteStore(tmp_path, create=True)
    gallery.add(MODEL, entries(50), vectors(50))
    gallery.nearest(vectors(1)[0], 1)
    traces = [vectors(50)[6].tobytes(), vectors(50)[6].astype(np.float16).tobytes(), b"jpeg 6"]
    traces[2] = b"crops/6.jpg"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert all(any(trace in file.read_bytes() for file in files) for trace in traces)
    gallery.remove([7])
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not any(trace in file.read_bytes() for file in files for trace in traces)
    gallery.close()


def test_settling_follows_growth_and_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(scan_module, "SMALL", 1000)
    gallery = SqliteStore(tmp_path, create=True)
    gallery.add(MODEL, entries(900), vectors(900))
    gallery.settle()
    assert gallery.scan.state["generation"] == 0
    gallery.add(MODEL, entries(1100, 900), vectors(1100, seed=1))
    gallery.settle()
    assert (gallery.scan.state["generation"], gallery.scan.state["sorted"]) == (1, 2000)
    gallery.add(MODEL, entries(500, 2000), vectors(500, seed=2))
    gallery.settle()
    assert gallery.scan.state["generation"] == 1
    gallery.remove(list(range(1, 1000)))
    gallery.settle()
    assert (gallery.scan.state["generation"], gallery.scan.state["rows"]) == (2, 1501)
    assert len({file.name.split(".")[0] for file in (tmp_path / "scan").glob("2.*")}) == 1
    assert not list((tmp_path / "scan").glob("1.*"))
    kinds = gallery.scan.columns["kinds"]
    assert sorted(np.unique(kinds)) == [1, 2] and len(SIDES) == 2
    gallery.close()


def test_a_new_scan_knows_nothing(tmp_path):
    fresh = Scan(tmp_path / "scan", 8)
    assert fresh.state["rows"] == 0 and len(fresh.columns["ids"]) == 0
    assert not (tmp_path / "scan").exists()


# findings/copied-database.sh
def test_the_file_of_a_closed_gallery_holds_everything(tmp_path):
    gallery = SqliteStore(tmp_path / "a", create=True)
    gallery.add(MODEL, entries(30), vectors(30))
    gallery.close()
    (tmp_path / "b").mkdir()
    shutil.copy(tmp_path / "a" / "gallery.sqlite", tmp_path / "b")
    copy = SqliteStore(tmp_path / "b")
    assert copy.count() == 30
    assert copy.nearest(vectors(30)[7], 1).ids.tolist() == [8]
    copy.close()
