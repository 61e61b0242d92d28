"""A database finds the best images, also when its two modalities lie apart."""

import re
import warnings

import numpy as np
import psycopg
import pytest
from people import MODEL, SIDES, WIDTH, entries, two_clouds, vectors

import visir.gallery.postgres as postgres_module
import visir.gallery.postgres_leads as leads_module
from visir.gallery.open import open_gallery
from visir.gallery.postgres import FormerGalleryWarning
from visir.gallery.postgres_tables import packed, unpacked
from visir.gallery.store import Filter, ModelId

pytestmark = pytest.mark.slow

COUNT = 2000
VISIBLE, INFRARED = SIDES
PARTS = {
    "everything": (Filter(), lambda e: True),
    "visible": (Filter(modality=VISIBLE), lambda e: e.modality is VISIBLE),
    "infrared": (Filter(modality=INFRARED), lambda e: e.modality is INFRARED),
    "a camera": (Filter(cameras=("cam1",)), lambda e: e.camera == "cam1"),
    "a camera of infrared": (
        Filter(cameras=("cam1", "cam2"), modality=INFRARED),
        lambda e: e.camera in ("cam1", "cam2") and e.modality is INFRARED,
    ),
    "a time": (
        Filter(modality=VISIBLE, since=1100, until=1598),
        lambda e: e.modality is VISIBLE and e.time and 1100 <= e.time <= 1598,
    ),
    "a tag": (
        Filter(modality=INFRARED, tags=("gate",)),
        lambda e: e.modality is INFRARED and "gate" in e.tags,
    ),
    "before": (Filter(before=1200), lambda e: e.time and e.time < 1200),
}


@pytest.fixture(autouse=True)
def low(monkeypatch):
    """Leads from a few images on, and few bounds read at first."""
    monkeypatch.setattr(postgres_module, "SMALL", 100)
    monkeypatch.setattr(leads_module, "_FEWEST", 16)


def best_of(rows, query, k, belongs):
    """Ids of the k best, a plain loop; ids begin at 1."""
    held = [n for n, entry in enumerate(entries(len(rows))) if belongs(entry)]
    scores = [(-float(rows[n].astype(float) @ query.astype(float)), n + 1) for n in held]
    return [item for _, item in sorted(scores)[:k]]


def right(gallery, rows, query, k, part):
    where, belongs = PARTS[part]
    return gallery.nearest(query, k, where).ids.tolist() == best_of(rows, query, k, belongs)


def opened(address, rows):
    """A gallery of these vectors, settled."""
    gallery = open_gallery(address, create=True)
    gallery.add(MODEL, entries(len(rows)), rows)
    gallery.settle()
    return gallery


def plan(gallery, where, count=64):
    """How PostgreSQL reads the bounds of a part."""
    query = leads_module.bounds_query(gallery._basis(gallery.db), vectors(1)[0], count, where)
    with gallery.db.transaction():
        gallery.db.execute("SET LOCAL enable_seqscan = off")
        rows = gallery.db.execute(f"EXPLAIN (COSTS OFF) {query[0]}", query[1]).fetchall()
    return "\n".join(row[0] for row in rows)


# findings/far-cloud.sh
@pytest.mark.parametrize(
    ("cosine", "copies"), [(0.95, False), (0.56, False), (-0.3, False), (-0.73, True)]
)
def test_every_part_is_found_from_either_modality(schema, cosine, copies):
    rows, queries = two_clouds(COUNT, cosine, copies=copies)
    means = [rows[side::2].mean(axis=0) for side in (0, 1)]
    lengths = np.linalg.norm(means, axis=1).prod()
    assert abs(means[0] @ means[1] / lengths - cosine) < 0.15  # people share some of the plane
    gallery = opened(schema, rows)
    for part in PARTS:
        for query in queries[:4]:  # two of each modality
            for k in (5, 24, 200):
                assert right(gallery, rows, query, k, part), (part, k)
    gallery.close()


def test_a_part_with_fewer_images_than_asked_for_is_found_whole(schema):
    rows, queries = two_clouds(COUNT, -0.7, copies=True)
    gallery = opened(schema, rows)
    where = Filter(modality=INFRARED, since=1000, until=1000 + 622)
    assert gallery.count(where) == 249  # of 311 infrared images, every fifth has no time
    for query in queries[:4]:
        assert len(gallery.nearest(query, 800, where).ids) == 249
        assert len(gallery.nearest(query, 248, where).ids) == 248
    assert len(gallery.nearest(queries[0], 3 * COUNT).ids) == COUNT
    assert len(gallery.nearest(queries[0], 5, Filter(cameras=("cam9",))).ids) == 0
    gallery.close()


def test_the_index_alone_is_read_and_few_whole_vectors(schema, monkeypatch):
    rows, queries = two_clouds(COUNT, -0.3)
    gallery = opened(schema, rows)
    for where, condition in (
        (Filter(), ""),
        (Filter(modality=INFRARED), "modality = 'infrared'"),
        (Filter(cameras=("cam1",)), "camera = ANY"),
        (Filter(modality=INFRARED, cameras=("cam1", "cam3")), "camera = ANY"),
        (Filter(modality=INFRARED, since=1100), '"time" >='),
    ):
        read = plan(gallery, where)
        assert "Index Only Scan using visir_leads" in read
        assert condition in "".join(re.findall("Index Cond: .*", read))
    assert "visir_time" in plan(gallery, Filter(since=1100, until=1105))  # few rows: any index
    assert "visir_tags" in plan(gallery, Filter(tags=("gate", "unseen")))
    compared, whole = [], leads_module._compare

    def counted(db, query, ids, known):
        compared.append(len(ids))
        whole(db, query, ids, known)

    monkeypatch.setattr(leads_module, "_compare", counted)
    for query in queries:
        assert right(gallery, rows, query, 5, "infrared")
    assert sum(compared) / len(queries) < COUNT / 2 / 10
    # Bounds that are too low lose images.
    with gallery.db.transaction():
        gallery.db.execute("UPDATE visir_items SET aside = aside - 9 WHERE id % 5 = 0")
    assert not all(right(gallery, rows, query, 24, "infrared") for query in queries)
    gallery.close()


@pytest.fixture
def former(schema):
    """A gallery as an earlier version made it: no leads, and a graph index over both modalities."""
    rows, _ = two_clouds(COUNT, -0.7)
    gallery = open_gallery(schema, create=True)
    gallery.add(MODEL, entries(COUNT), rows)
    for statement in (
        "ALTER TABLE visir_items DROP COLUMN basis, DROP COLUMN lead, DROP COLUMN aside",
        f"CREATE INDEX visir_nearest ON visir_items USING hnsw "
        f"((vector::halfvec({WIDTH})) halfvec_ip_ops)",
    ):
        gallery.db.execute(statement)
    gallery.close()
    return schema


def test_an_earlier_versions_gallery_is_right_and_gets_the_new_index(former):
    rows, queries = two_clouds(COUNT, -0.7)
    with pytest.warns(FormerGalleryWarning, match="index is of an earlier version.*index add"):
        gallery = open_gallery(former)
    assert all(right(gallery, rows, query, 24, "infrared") for query in queries[:4])
    gallery.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gallery = open_gallery(former, create=True)
        assert all(right(gallery, rows, query, 24, "visible") for query in queries[:4])
        assert gallery.add(MODEL, entries(2), rows[:2]) == [None, None]
        gallery.settle()
        gallery.close()
        gallery = open_gallery(former)
    indices = gallery.db.execute(
        "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()"
    )
    names = {name for (name,) in indices}
    assert "visir_leads" in names and "visir_nearest" not in names
    for part in PARTS:
        assert all(right(gallery, rows, query, 24, part) for query in queries[:4])
    gallery.close()


def test_images_without_a_lead_or_with_an_earlier_one_are_found(schema):
    rows, queries = two_clouds(COUNT, -0.7)
    gallery = opened(schema, rows)
    for change in ("basis = NULL, lead = NULL, aside = NULL", "basis = 0, lead = '[1,2]'"):
        gallery.db.execute(f"UPDATE visir_items SET {change} WHERE id % 7 = 3")
        for part in ("everything", "infrared", "a camera"):
            assert all(right(gallery, rows, query, 24, part) for query in queries[:6])
    gallery.remove([COUNT])
    gallery.settle()  # gives them leads again
    bases = gallery.db.execute("SELECT DISTINCT basis FROM visir_items").fetchall()
    assert bases == [(1,)]
    gallery.close()


def test_later_images_get_leads_at_once_and_a_new_basis_when_it_no_longer_fits(schema):
    rows, queries = two_clouds(COUNT, -0.7)
    given = entries(COUNT)
    gallery = open_gallery(schema, create=True)
    order = [*range(0, COUNT, 2), *range(1, COUNT, 2)]  # first all visible images
    ids = gallery.add(MODEL, [given[n] for n in order[:990]], rows[order[:990]])
    gallery.settle()
    ids += gallery.add(MODEL, [given[n] for n in order[990:1000]], rows[order[990:1000]])
    one = "SELECT count(*) FROM visir_items WHERE basis = 1"
    assert gallery.db.execute(one).fetchone() == (1000,)
    gallery.settle()
    assert gallery._basis(gallery.db).number == 1
    ids += gallery.add(MODEL, [given[n] for n in order[1000:]], rows[order[1000:]])

    def found(query):
        where, belongs = PARTS["infrared"]
        real = [order[item - ids[0]] + 1 for item in gallery.nearest(query, 5, where).ids]
        return real == best_of(rows, query, 5, belongs)

    assert ids == list(range(ids[0], ids[0] + COUNT))
    assert all(found(query) for query in queries)
    gallery.settle()  # leads of visible images leave out most of the infrared ones
    assert gallery._basis(gallery.db).number == 2
    assert gallery.db.execute("SELECT DISTINCT basis FROM visir_items").fetchall() == [(2,)]
    assert all(found(query) for query in queries)
    gallery.close()


def test_galleries_in_two_schemas_of_one_search_path_do_not_touch_each_other(former):
    """The schema of the second gallery comes first, that of the first gallery behind it."""
    rows, queries = two_clouds(COUNT, 0.56)
    own, _, rest = former.rpartition("%3D")[2].partition(",")
    second = f"{former.rpartition('%3D')[0]}%3D{own}_b,{own},{rest}"
    with psycopg.connect(former, autocommit=True) as db:
        db.execute(f"CREATE SCHEMA {own}_b")
    gallery = opened(second, rows[:300])
    assert gallery.count() == 300
    for query in queries[:4]:
        assert right(gallery, rows[:300], query, 5, "infrared")
    gallery.close()
    with pytest.warns(FormerGalleryWarning):
        gallery = open_gallery(former)
    assert gallery.count() == COUNT
    gallery.close()
    opened(former, rows[:2]).close()
    opened(second, rows[:400]).close()
    for address in (former, second):
        gallery = open_gallery(address)
        assert "Index Only Scan using visir_leads" in plan(gallery, Filter(modality=INFRARED))
        gallery.close()


def test_wide_vectors_fit_into_the_index(schema, monkeypatch):
    """An entry of an index has at most 2,704 bytes."""
    wide = 3000
    monkeypatch.setattr(leads_module, "directions", lambda sample: np.eye(wide, 1500, dtype="f4"))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(150, wide)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    gallery = open_gallery(schema, create=True)
    gallery.add(ModelId("c" * 64, "cmag", wide, (64, 32), True), entries(150), rows)
    gallery.settle()
    assert gallery._basis(gallery.db).matrix.shape == (wide, 512)
    assert gallery.nearest(rows[40], 5).ids.tolist() == best_of(rows, rows[40], 5, lambda e: True)
    gallery.close()


def test_vectors_as_pgvector_sends_them():
    """By pgvector's vector_send: dimensions, an unused number, then big-endian values."""
    assert packed(np.float32([[1, -2]]), ">f4") == [bytes.fromhex("00020000 3f800000 c0000000")]
    assert packed(np.float16([[1, -2]]), ">f2") == [bytes.fromhex("00020000 3c00 c000")]
    assert unpacked([bytes.fromhex("00020000 3f800000 c0000000")], 2).tolist() == [[1, -2]]
    assert unpacked([], 3).shape == (0, 3)
