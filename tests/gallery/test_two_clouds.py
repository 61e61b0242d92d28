"""A folder finds images of the other modality as well as of the query's own, however far apart."""

import numpy as np
import pytest
from people import MODEL, SIDES, entries, two_clouds

import visir.gallery.scan.matrix as scan_module
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter

pytestmark = pytest.mark.slow

COUNT = 8000


@pytest.mark.parametrize(
    ("cosine", "copies"), [(0.95, False), (0.56, False), (-0.3, False), (-0.73, True)]
)
def test_exact_and_likely_cells_find_the_best(tmp_path, monkeypatch, cosine, copies):
    monkeypatch.setattr(scan_module, "SMALL", 1000)
    monkeypatch.setattr("visir.gallery.sqlite_scan.LIKELY", 3)
    rows, queries = two_clouds(COUNT, cosine, copies=copies)
    gallery = SqliteStore(tmp_path, create=True)
    gallery.add(MODEL, entries(COUNT), rows)
    gallery.settle()
    read, best = [], gallery.scan.best
    monkeypatch.setattr(
        gallery.scan, "best", lambda q, k, rows: read.append(len(rows)) or best(q, k, rows)
    )
    for side in (0, 1):
        part, ids = Filter(modality=SIDES[side]), np.arange(side, COUNT, 2)
        hits = {"exact": 0, "approx": 0}
        for query in queries:
            scores = rows[ids].astype(float) @ query.astype(float)
            right = ids[np.argsort(-scores, kind="stable")[:2]] + 1
            for mode in hits:
                found = gallery.nearest(query, 2, part, mode).ids
                assert len(found) == 2
                hits[mode] += len(np.intersect1d(found, right))
        assert hits["exact"] == 2 * len(queries)
        assert hits["approx"] >= 0.98 * 2 * len(queries)
    # Likely cells are few of them.
    assert sorted(set(read))[-1] == COUNT / 2 and np.median(read) < COUNT / 2
    assert np.sort(read)[: len(read) // 2].max() < COUNT / 2 / 4
    gallery.close()
