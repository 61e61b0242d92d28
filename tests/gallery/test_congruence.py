"""Every operation answers alike on every store, and as a plain loop does.

The stores are a plain folder in memory, SQLite and PostgreSQL. They hold the same images, added in
the order of their paths, so ids agree too.
"""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from fake_run import PixelEmbedder, draw_person
from plain_search import belongs, ranked

from visir.core.types import InputError, Modality
from visir.evaluation.confidence import Calibration
from visir.gallery import compare as pairs
from visir.gallery.add import add
from visir.gallery.feedback import NON_MATCH_WEIGHT, Feedback
from visir.gallery.open import open_gallery
from visir.gallery.plain_folder import FolderStore
from visir.gallery.query import SearchOptions, queries_of_files, queries_of_items
from visir.gallery.searching import search, search_files
from visir.gallery.store import EVERYTHING, Filter, model_of
from visir.sources.crop import Entry

pytestmark = pytest.mark.slow

CURVE = Calibration(40, -0.5, -30, 0.5, 0.1, 0.8, "labels", 9, 99, "f" * 64)
STERN = Calibration(40, -0.5, -60, 0.5, 0.1, 0.8, "labels", 9, 99, "f" * 64)
INFRARED, VISIBLE = Modality.INFRARED, Modality.VISIBLE
DAY = 1_769_904_000.0  # 2026-02-01, UTC
FILTERS = {
    "everything": EVERYTHING,
    "a modality": Filter(modality=INFRARED),
    "cameras": Filter(cameras=("door", "night")),
    "since": Filter(since=DAY + 3600),
    "until": Filter(until=DAY + 3600),
    "a time": Filter(since=DAY + 1800, until=DAY + 9000),
    "before": Filter(before=DAY + 3600),
    "a tag": Filter(tags=("gate",)),
    "several": Filter(cameras=("door", "yard"), modality=VISIBLE, since=DAY),
    "nothing": Filter(cameras=("nowhere",)),
}
OPTIONS = {
    "plain": SearchOptions(7),
    "one hit": SearchOptions(1),
    "more than there are": SearchOptions(100),
    "both modalities": SearchOptions(9, same_modality=True),
    "own modality": SearchOptions(9, Filter(modality=INFRARED)),
    "a camera": SearchOptions(9, Filter(cameras=("yard",))),
    "a time": SearchOptions(9, Filter(since=DAY + 1800)),
    "a tag": SearchOptions(9, Filter(tags=("gate",))),
    "a minimum": SearchOptions(30, min_score=0.2),
    "exact": SearchOptions(7, mode="exact"),
    "approximate": SearchOptions(7, mode="approx"),
    "k-reciprocal": SearchOptions(9, rerank="k-reciprocal"),
    "random walk": SearchOptions(9, rerank="random-walk"),
    "camera graph": SearchOptions(9, rerank="camera-graph"),
    "camera means": SearchOptions(9, rerank="camera-means"),
    "all of it": SearchOptions(
        5, Filter(cameras=("door", "yard"), until=DAY + 9000), min_score=0.1, rerank="random-walk"
    ),
}


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Six people in three cameras; a name says the time of two images of three."""
    root = tmp_path_factory.mktemp("congruence") / "crops"
    for pid in range(6):
        for view in range(3):
            for number, folder in enumerate(("visible/door", "visible/yard", "infrared/night")):
                stamp = "" if view == 2 else f"-20260201_{pid % 3:02d}{30 * view:02d}00"
                path = root / folder / f"{pid}-{view}{stamp}.png"
                draw_person(path, pid, number == 2, 10 * number + view)
                os.utime(path, (DAY, DAY))
    return root


@pytest.fixture(scope="module")
def embedder():
    return PixelEmbedder()


@pytest.fixture(scope="module")
def address(server):
    """A new schema in the database; a worker may come back to this module and set it up again."""
    import psycopg

    name = f"congruence_{uuid4().hex}"
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        db.execute(f"CREATE SCHEMA {name}")
    return f"{server.get_uri()}&options=-csearch_path%3D{name},public"


@pytest.fixture(scope="module")
def stores(crops, embedder, address, tmp_path_factory):
    """The same images three times."""
    folder = tmp_path_factory.mktemp("stores")
    found = {"folder": FolderStore(crops, embedder, folder / "run.safetensors")}
    for name, where in (("sqlite", str(folder / "gallery")), ("postgresql", address)):
        found[name] = open_gallery(where, create=True)
        assert add(found[name], embedder, [crops]).added == 54
    yield found
    for store in found.values():
        store.close()


@pytest.fixture(params=["folder", "sqlite", "postgresql"])
def store(request, stores):
    return stores[request.param]


@pytest.fixture(scope="module")
def images(crops, embedder):
    """What every store should hold: (id, path, camera, modality, time, vector)."""
    found = []
    for number, path in enumerate(sorted(crops.rglob("*.png")), start=1):
        camera = path.parent.name
        modality = INFRARED if camera == "night" else VISIBLE
        stamp = path.stem.partition("-2026")[2]
        time = DAY + 3600 * int(stamp[5:7]) + 60 * int(stamp[7:9]) if stamp else None
        vector = embedder.embed([path], modality)[0]
        found.append((number, str(path), camera, modality, time, vector))
    return found


def require_equal(found, expected, calibration=None):
    ids, cosines, scores, searched, best = expected
    assert [hit.item.id for hit in found.hits] == ids
    np.testing.assert_allclose([hit.cosine for hit in found.hits], cosines, atol=1e-6)
    np.testing.assert_allclose([hit.score for hit in found.hits], scores, atol=1e-5)
    assert [hit.rank for hit in found.hits] == list(range(1, len(ids) + 1))
    assert found.searched == searched
    assert found.best == (None if best == -1.0 else pytest.approx(best, abs=1e-5))
    assert found.no_match == (None if calibration is None else best < calibration.threshold)


# ---- what a store holds


def test_select_get_known_and_count(store, images):
    for where in FILTERS.values():
        expected = [image for image in images if belongs(image, where, store.permanent)]
        found = store.select(where)
        assert [item.id for item in found] == [image[0] for image in expected]
        assert [item.source for item in found] == [image[1] for image in expected]
        assert store.count(where) == len(expected)
    assert [item.id for item in store.select(EVERYTHING, 3, 5)] == [6, 7, 8]
    assert store.select(EVERYTHING, 0) == []
    kept = store.get([1, 30, 999])
    assert set(kept) == {1, 30}
    for number in (1, 30):
        item, (_, path, camera, modality, time, _) = kept[number], images[number - 1]
        assert (item.source, item.camera, item.modality, item.time) == (
            path,
            camera,
            modality,
            time,
        )
        assert (item.tags, item.pid) == ((), None)
    assert store.known([images[4][1], "elsewhere.png"]) == {images[4][1]: 5}
    assert store.known([]) == {}


def test_vectors_and_thumbnails(store, stores, images):
    found = store.vectors([7, 999, 2])
    np.testing.assert_array_equal(found[0], images[6][5])
    np.testing.assert_array_equal(found[2], images[1][5])
    assert not found[1].any()
    assert store.vectors([]).shape[0] == 0
    for item in (1, 20, 54):
        assert store.thumbnail(item) == stores["sqlite"].thumbnail(item)
        assert store.thumbnail(item).startswith(b"\xff\xd8")
    assert store.thumbnail(999) is None


@pytest.mark.parametrize("mode", ["exact", "approx", "auto"])
@pytest.mark.parametrize("part", FILTERS)
def test_nearest(store, images, part, mode):
    where = FILTERS[part]
    for number in (3, 25, 50):
        query = images[number - 1][5]
        held = [image for image in images if belongs(image, where, store.permanent)]
        cosines = [float(image[5].astype(float) @ query.astype(float)) for image in held]
        order = sorted(range(len(held)), key=lambda row: (-cosines[row], held[row][0]))[:6]
        found = store.nearest(query, 6, where, mode)
        assert found.ids.tolist() == [held[row][0] for row in order]
        np.testing.assert_allclose(found.scores, [cosines[row] for row in order], atol=1e-6)


def test_stats_model_and_version(store, embedder):
    stats = store.stats()
    assert stats.images == 54
    assert stats.by_camera == {"door": 18, "night": 18, "yard": 18}
    assert stats.by_modality == {"visible": 36, "infrared": 18}
    assert (stats.earliest, stats.latest) == (DAY, DAY + 2 * 3600 + 1800)
    assert stats.retention is None and store.retention() is None
    assert stats.bytes_on_disk > 0
    assert stats.version == store.version()
    assert store.model() == model_of(embedder)
    assert store.expire(1e12) == 0
    store.settle()
    assert store.count() == 54


def test_what_changes_a_store(tmp_path, crops, embedder, schema):
    entry, vector = Entry("new", "door", VISIBLE), np.eye(216, dtype=np.float32)[:1]
    for address in (str(tmp_path / "gallery"), schema):
        store = open_gallery(address, create=True)
        before = store.version()
        (item,) = store.add(model_of(embedder), [entry], vector)
        assert store.add(model_of(embedder), [entry], vector) == [None]
        assert store.version() > before
        store.keep_for(3)
        assert store.stats().retention == 3
        assert store.remove([item, 999]) == 1
        assert store.count() == 0
        store.close()
    folder = FolderStore(crops, embedder, tmp_path / "run.safetensors")
    for change in (
        lambda: folder.add(model_of(embedder), [entry], vector),
        lambda: folder.remove([1]),
        lambda: folder.keep_for(3),
    ):
        with pytest.raises(InputError, match="is a plain folder, which visir only reads"):
            change()
    assert folder.count() == 54


# ---- searches


@pytest.mark.parametrize("calibration", [None, CURVE, STERN], ids=["plain", "calibrated", "stern"])
@pytest.mark.parametrize("name", OPTIONS)
def test_search(store, images, embedder, name, calibration):
    options = OPTIONS[name]
    for number in (3, 21):  # an infrared image and a visible one, both in the gallery
        _, path, camera, modality, _, vector = images[number - 1]
        (found,) = search_files(store, embedder, [Path(path)], options, calibration=calibration)
        expected = ranked(
            images, [vector], vector, options, modality, {number}, calibration=calibration
        )
        require_equal(found, expected, calibration)
        assert (found.modality, found.inferred, found.camera) == (modality, False, camera)
        by_id = search(store, queries_of_items(store, [number]), options, calibration)
        require_equal(by_id, expected, calibration)


def test_a_query_from_elsewhere_and_one_through_a_link(store, images, crops, embedder, tmp_path):
    draw_person(tmp_path / "new.png", 2, True, 77)
    (found,) = search_files(store, embedder, [tmp_path / "new.png"], SearchOptions(5))
    vector = embedder.embed([tmp_path / "new.png"], INFRARED)[0]
    require_equal(found, ranked(images, [vector], vector, SearchOptions(5), INFRARED))
    assert (found.inferred, found.camera, found.pid) == (True, "", None)
    (tmp_path / "link").symlink_to(crops)
    through = tmp_path / "link" / Path(images[2][1]).relative_to(crops)
    options = SearchOptions(100, same_modality=True)
    (found,) = search_files(store, embedder, [through], options)
    assert len(found.hits) == 53 and 3 not in [hit.item.id for hit in found.hits]


@pytest.mark.parametrize("name", ["plain", "a minimum", "random walk"])
def test_several_images_of_one_person(store, images, embedder, name):
    options, numbers = OPTIONS[name], [1, 2, 3]
    paths = [Path(images[number - 1][1]) for number in numbers]
    vectors = [images[number - 1][5] for number in numbers]
    (found,) = search_files(store, embedder, paths, options, together=True)
    mean = np.mean(np.float64(vectors), axis=0)
    require_equal(found, ranked(images, vectors, mean, options, INFRARED, set(numbers)))
    assert found.others == tuple(paths[1:])
    alone = search_files(store, embedder, paths, options)
    assert [one.query for one in alone] == paths


@pytest.mark.parametrize("name", ["plain", "one hit", "both modalities", "k-reciprocal"])
def test_feedback(store, images, embedder, name):
    options, number = OPTIONS[name], 3
    _, path, _, modality, _, vector = images[number - 1]
    matches, wrong = (25, 40), (22,)
    feedback = Feedback(matches, wrong)
    (found,) = search_files(store, embedder, [Path(path)], options, feedback=feedback)
    marked = [images[item - 1][5].astype(float) for item in matches]
    order = np.mean([vector.astype(float), *marked], axis=0)
    order = order - NON_MATCH_WEIGHT * images[wrong[0] - 1][5].astype(float)
    order /= np.linalg.norm(order)
    expected = ranked(images, [vector], order, options, modality, {number, *wrong})
    require_equal(found, expected)
    assert {hit.item.id for hit in found.hits if hit.marked} == set(matches) & set(expected[0])
    with pytest.raises(InputError, match="image 22 is marked both ways"):
        search_files(store, embedder, [Path(path)], options, feedback=Feedback((22,), (22,)))
    with pytest.raises(InputError, match="feedback is about one person, and 2 images"):
        search_files(store, embedder, [Path(path)] * 2, options, feedback=feedback)


def test_hits_know_what_lasts(store, images, embedder):
    (found,) = search_files(store, embedder, [Path(images[2][1])], SearchOptions(4))
    if store.permanent:
        assert [hit.id for hit in found.hits] == [hit.item.id for hit in found.hits]
        assert all(hit.thumbnail for hit in found.hits)
    else:  # ids are of this opening only, and the files are there
        assert {(hit.id, hit.thumbnail) for hit in found.hits} == {(None, None)}


def test_compare(store, images, embedder):
    paths = [Path(images[number - 1][1]) for number in (3, 30)]
    sides = [pairs.Side(q, None) for q in queries_of_files(store, embedder, paths)]
    items = [pairs.Side(q, None) for q in queries_of_items(store, [3, 30])]
    for first, second in (sides, items):
        found = pairs.compare(embedder, first, second, CURVE, searched=36)
        cosine = float(images[2][5].astype(float) @ images[29][5])
        assert found.cosine == pytest.approx(cosine, abs=1e-6)
        confidence = float(CURVE.confidence(np.array([cosine]), 36)[0])
        assert found.confidence == pytest.approx(confidence, abs=1e-5)
        assert found.score == found.confidence
        assert found.maps == (None, None)


def test_bad_searches_are_refused(store, images, embedder):
    path = Path(images[2][1])
    with pytest.raises(InputError, match="items: the gallery has no image 999"):
        queries_of_items(store, [999])
    with pytest.raises(InputError, match="no query image was given"):
        search_files(store, embedder, [], SearchOptions())
    for wrong, message in (
        ({"k": 0}, "k: 0 hits"),
        ({"min_score": 2.0}, "min_score: 2.0 is not between"),
        ({"min_score": float("nan")}, "min_score: nan is not between"),
        (
            {"rerank": "best"},
            "rerank: 'best' is unknown; use none, k-reciprocal, random-walk, camera-graph, "
            "camera-means",
        ),
        ({"mode": "index"}, "mode: 'index' is unknown; use auto, exact, approx"),
    ):
        with pytest.raises(InputError, match=message):
            SearchOptions(**wrong)
    other = PixelEmbedder()
    other.fingerprint = "e" * 64
    with pytest.raises(InputError, match="holds embeddings of another model"):
        search_files(store, other, [path], SearchOptions())
