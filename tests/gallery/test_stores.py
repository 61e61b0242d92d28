"""A folder and a database keep the same promises."""

import inspect

import numpy as np
import pytest
from people import MODEL, SIDES, entries, vectors

import visir.gallery.postgres
import visir.gallery.scan.matrix
import visir.gallery.sqlite
import visir.gallery.store
from visir.core.types import InputError, Modality
from visir.gallery.open import is_gallery, open_gallery
from visir.gallery.plain_folder import FolderStore
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter, ModelId, Store

pytestmark = pytest.mark.slow

COUNT = 300
PARTS = {
    "everything": (Filter(), lambda e: True),
    "a modality": (Filter(modality=Modality.INFRARED), lambda e: e.modality is Modality.INFRARED),
    "cameras": (Filter(cameras=("cam1", "cam2")), lambda e: e.camera in ("cam1", "cam2")),
    "a time": (Filter(since=1040, until=1120), lambda e: e.time and 1040 <= e.time <= 1120),
    "a tag": (Filter(tags=("gate",)), lambda e: "gate" in e.tags),
    "all of it": (
        Filter(cameras=("cam0",), modality=Modality.VISIBLE, since=1010, tags=("gate",)),
        lambda e: e.camera == "cam0" and e.time and e.time >= 1010 and "gate" in e.tags,
    ),
    "nothing": (Filter(cameras=("cam9",)), lambda e: False),
}


@pytest.fixture
def filled(store):
    store.ids = store.add(MODEL, entries(COUNT), vectors(COUNT))
    return store


def test_a_tag_given_twice_is_kept_once(store):
    one = entries(1)[0]._replace(tags=("gate", "rain", "gate"))
    (item,) = store.add(MODEL, [one], vectors(1))
    assert sorted(store.get([item])[item].tags) == ["gate", "rain"]


def brute_force(held, query, k):
    """(id, cosine) of the best, a plain loop."""
    scores = [(-float(np.dot(v.astype(float), query.astype(float))), item) for item, v in held]
    return [(item, -score) for score, item in sorted(scores)[:k]]


@pytest.mark.parametrize("part", PARTS)
def test_nearest_select_and_count_agree_with_a_plain_loop(filled, part):
    where, belongs = PARTS[part]
    rows = list(zip(filled.ids, entries(COUNT), vectors(COUNT), strict=True))
    held = [(item, vector) for item, entry, vector in rows if belongs(entry)]
    assert filled.count(where) == len(held)
    assert [item.id for item in filled.select(where)] == [item for item, _ in held]
    for query in vectors(5, seed=9):
        found = filled.nearest(query, 7, where)
        expected = brute_force(held, query, 7)
        assert found.ids.tolist() == [item for item, _ in expected]
        np.testing.assert_allclose(found.scores, [score for _, score in expected], atol=2e-6)


def test_what_went_in_comes_out(filled):
    stored = filled.get([filled.ids[9], filled.ids[3], 10**9])
    assert set(stored) == {filled.ids[9], filled.ids[3]}
    nine, three = stored[filled.ids[9]], stored[filled.ids[3]]
    assert (nine.source, nine.camera, nine.modality) == ("crops/9.jpg", "cam1", SIDES[1])
    assert (nine.time, nine.tags, three.time) == (None, ("gate",), 1003.0)
    assert filled.thumbnail(filled.ids[9]) == b"jpeg 9"
    assert filled.thumbnail(filled.ids[2]) is None
    ids = [filled.ids[4], 10**9, filled.ids[0]]
    expected = vectors(COUNT)[[4, 1, 0]]
    expected[1] = 0
    assert (filled.vectors(ids) == expected).all()
    assert filled.model() == MODEL
    assert [item.id for item in filled.select(Filter(), limit=2, after=filled.ids[5])] == [
        filled.ids[6], filled.ids[7],
    ]  # fmt: skip


def test_sources_below_a_folder_and_marks_of_files(store):
    names = ["a/b/1.jpg", "a/b::x", "a/bc/2.jpg", "a/b0.jpg", "a/b/c/ü.jpg", "a/B/3.jpg"]
    kept = [entry._replace(source=name) for entry, name in zip(entries(6), names, strict=True)]
    kept[0] = kept[0]._replace(mark="5-7-abc")
    ids = store.add(MODEL, kept, vectors(6))
    assert store.below("a/b") == {names[row]: ids[row] for row in (0, 1, 4)}
    assert store.below("a/b%") == {}
    assert store.marks([*ids, 10**9]) == {ids[0]: "5-7-abc"}
    store.remove([ids[0]])
    assert store.marks(ids) == {}


def test_a_source_is_kept_once_and_ids_are_never_given_again(filled):
    again = filled.add(MODEL, [*entries(2), *entries(2, COUNT), *entries(1, COUNT)],
                       vectors(5, seed=3))  # fmt: skip
    assert again[:2] == [None, None] and again[4] is None
    assert filled.count() == COUNT + 2
    assert (filled.vectors([filled.ids[0]])[0] == vectors(COUNT)[0]).all()
    assert filled.remove([again[3], 10**9]) == 1
    (new,) = filled.add(MODEL, entries(1, COUNT + 7), vectors(1, seed=4))
    assert new > again[3]


def test_what_is_removed_is_not_found_and_its_vector_is_gone(filled):
    query = vectors(COUNT)[20]
    assert filled.nearest(query, 1).ids[0] == filled.ids[20]
    assert filled.remove(filled.ids[20:40]) == 20
    assert not set(filled.nearest(query, COUNT).ids.tolist()) & set(filled.ids[20:40])
    assert filled.count() == COUNT - 20
    assert not filled.vectors([filled.ids[20]]).any()
    assert filled.thumbnail(filled.ids[21]) is None


def test_the_version_grows_with_every_change_and_stats_count(filled):
    before = filled.stats()
    assert before.images == COUNT
    assert before.by_camera == {f"cam{n}": COUNT // 4 for n in range(4)}
    assert before.by_modality == {"visible": COUNT // 2, "infrared": COUNT // 2}
    assert (before.earliest, before.latest) == (1000.0, 1298.0)
    filled.remove([filled.ids[0]])
    between = filled.stats().version
    filled.add(MODEL, entries(1, COUNT), vectors(1))
    assert before.version < between < filled.stats().version
    filled.add(MODEL, entries(1, COUNT), vectors(1))  # is there already
    assert filled.stats().version == filled.stats().version


def test_retention_forgets_what_is_older(filled, monkeypatch):
    monkeypatch.setattr(visir.gallery.store, "FIRST_TIME", 0)  # these images are of 1970
    day = 86_400
    assert filled.expire(1e12) == 0
    filled.keep_for(2)
    assert filled.stats().retention == 2
    timed = [e.time for e in entries(COUNT) if e.time is not None]
    assert filled.expire(1100 + 2 * day) == sum(time < 1100 for time in timed)
    # Those of unknown time count from when they were added, which is long after.
    assert filled.count() == sum(time >= 1100 for time in timed) + COUNT // 10


def test_another_models_vectors_are_refused(filled):
    other = MODEL._replace(fingerprint="b" * 64)
    with pytest.raises(InputError, match="holds embeddings of another model"):
        filled.add(other, entries(1, COUNT), vectors(1))
    with pytest.raises(InputError, match="with mirror images"):
        filled.add(MODEL._replace(flip=False), entries(1, COUNT), vectors(1))
    with pytest.raises(InputError, match="not of length 1"):
        filled.add(MODEL, entries(1, COUNT), 2 * vectors(1))
    with pytest.raises(InputError, match=r"shape \(2, 48\).*1 images"):
        filled.add(MODEL, entries(1, COUNT), vectors(2))
    assert filled.count() == COUNT


@pytest.mark.parametrize(
    ("said", "strange"),
    [
        ("time: 1180591620717411303424 is not a time", {"time": 2**70}),
        ("tags: 201 were given; give 200 at most", {"tags": tuple(map(str, range(201)))}),
        ("a name is not UTF-8", {"camera": "caf\udce9"}),
    ],
)
def test_what_a_filter_could_not_find_is_not_added(store, said, strange):
    with pytest.raises(InputError, match=rf"crops/0\.jpg: {said}"):
        store.add(MODEL, [entries(1)[0]._replace(**strange)], vectors(1))
    assert store.count() == 0


def test_a_look_that_cannot_be_done_is_refused(filled):
    for k in (0, -1):
        with pytest.raises(InputError, match=f"k: {k} images cannot be listed; give 1 or more"):
            filled.nearest(vectors(1)[0], k)
    with pytest.raises(InputError, match="mode 'exakt' is unknown; use auto, exact, approx"):
        filled.nearest(vectors(1)[0], 1, mode="exakt")


def test_an_empty_gallery_answers(store):
    assert store.model() is None
    assert len(store.nearest(vectors(1)[0], 5).ids) == 0
    assert store.stats().images == 0


def test_many_writers_of_a_database_lose_nothing(schema):
    from concurrent.futures import ThreadPoolExecutor

    def write(worker):
        gallery = open_gallery(schema, create=True)
        for start in range(0, 60, 20):  # every source is offered by two workers
            first = 60 * (worker // 2) + start
            gallery.add(MODEL, entries(20, first), vectors(20, seed=first))
        gallery.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    gallery = open_gallery(schema)
    assert sorted(item.source for item in gallery.select(Filter())) == sorted(
        entry.source for entry in entries(120)
    )
    gallery.close()


def test_opening_says_what_is_wrong(tmp_path, schema):
    with pytest.raises(InputError, match="holds no gallery; make one with"):
        open_gallery(tmp_path)
    with pytest.raises(InputError, match="holds no gallery; make one with"):
        open_gallery(schema)
    with pytest.raises(InputError, match=r"cannot be opened \(.*check the address") as raised:
        open_gallery("postgresql://someone:secret@127.0.0.1:1/none")
    assert "secret" not in str(raised.value)
    (tmp_path / "gallery.sqlite").write_bytes(b"no database at all" * 100)
    assert is_gallery(tmp_path) and is_gallery("postgresql://x") and not is_gallery(tmp_path / "x")
    with pytest.raises(InputError, match="is not a database; restore it from a backup"):
        open_gallery(tmp_path)


def test_a_gallery_of_another_format_is_refused(tmp_path):
    gallery = SqliteStore(tmp_path, create=True)
    gallery.db.run("UPDATE meta SET value = '7' WHERE key = 'format'")
    gallery.close()
    with pytest.raises(InputError, match="format 7, and this version of visir reads format 1"):
        SqliteStore(tmp_path)


def test_a_model_keeps_its_size_as_numbers(store):
    store.add(ModelId("c" * 64, "hct", 8, (288, 144), False), entries(1), np.eye(8)[:1])
    assert store.model().size == (288, 144)


def test_a_store_without_one_of_its_operations_cannot_be_made():
    operations = sorted(Store.__abstractmethods__)
    assert len(operations) == 18
    for name in operations:
        rest = {other: lambda self: None for other in operations if other != name}
        with pytest.raises(TypeError, match=f"abstract method '?{name}'?"):
            type("Forgetful", (Store,), rest)()
    assert type("Whole", (Store,), dict.fromkeys(operations, lambda self: None))()


@pytest.mark.parametrize("kind", [FolderStore, SqliteStore, visir.gallery.postgres.PostgresStore])
def test_every_store_has_the_same_signatures(kind):
    for name in Store.__abstractmethods__:
        ours = list(inspect.signature(getattr(kind, name)).parameters)
        assert ours == list(inspect.signature(getattr(Store, name)).parameters), name


def test_a_replaced_image_is_there_before_and_after(store):
    (old,) = store.add(MODEL, entries(1), vectors(1))
    (new,) = store.add(MODEL, entries(1), vectors(1, seed=1), replaced=[old])
    assert [item.id for item in store.select(Filter())] == [new]
    assert new > old
    assert store.nearest(vectors(1, seed=1)[0], 1).ids.tolist() == [new]
    np.testing.assert_array_equal(store.vectors([old, new])[0], np.zeros(48))


def test_a_replacement_that_fails_leaves_the_old_image(store, monkeypatch):
    (old,) = store.add(MODEL, entries(1), vectors(1))

    def fail(*_):
        raise RuntimeError("killed")

    monkeypatch.setattr(f"{type(store).__module__}.insert", fail)
    with pytest.raises(RuntimeError, match="killed"):
        store.add(MODEL, entries(1), vectors(1, seed=1), replaced=[old])
    assert [item.id for item in store.select(Filter())] == [old]
    np.testing.assert_allclose(store.vectors([old]), vectors(1), atol=1e-6)
