"""Filling an indexed gallery and searching it, with real files and a made-up embedder."""

import json
from pathlib import Path

import numpy as np
import pytest
from fake_run import PixelEmbedder, draw_person
from PIL import Image

import visir.embedding.pytorch
from visir import cli
from visir.commands.compare import compare
from visir.core.times import parse_time
from visir.core.types import InputError, Modality
from visir.embedding.bulk import embed_many
from visir.embedding.explain import occlusion_map
from visir.evaluation.confidence import Calibration
from visir.gallery import add as index
from visir.gallery.query import SearchOptions
from visir.gallery.results import SearchResult
from visir.gallery.searching import search_files
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import EVERYTHING, Filter

CURVE = Calibration(40, -0.5, -30, 0.5, 0.1, 0.8, "labels", 9, 99, "f" * 64)


@pytest.fixture
def embedder(monkeypatch):
    fake = PixelEmbedder()
    monkeypatch.setattr(visir.embedding.pytorch, "load", lambda path, device="cpu": fake)
    return fake


def ask(store, embedder, images, options, **how):
    """The ranked lists of a search with files, as the command line has them."""
    return SearchResult(tuple(search_files(store, embedder, images, options, **how)))


@pytest.fixture
def crops(tmp_path):
    """Five people, three images in each of three cameras."""
    root = tmp_path / "crops"
    for pid in range(5):
        for view in range(3):
            for camera, folder in enumerate(("visible/door", "visible/yard", "infrared/night")):
                draw_person(
                    root / folder / f"{pid}-{view}.png", pid, camera == 2, 10 * camera + view
                )
    return root


@pytest.fixture
def filled(tmp_path, crops, embedder):
    store = SqliteStore(tmp_path / "gallery", create=True)
    assert index.add(store, embedder, [crops])[:3] == (45, 0, ())
    yield store
    store.close()


def test_adding_again_reads_nothing_again(filled, crops, embedder):
    before = embedder.embedded
    draw_person(crops / "infrared" / "night" / "new.png", 9, True, 1)
    assert index.add(filled, embedder, [crops])[:3] == (1, 45, ())
    assert embedder.embedded == before + 1
    stats = filled.stats()
    assert stats.by_camera == {"door": 15, "night": 16, "yard": 15}
    assert filled.thumbnail(1).startswith(b"\xff\xd8")


def test_what_embed_wrote_is_added_without_the_images(tmp_path, crops, embedder):
    embed_many(embedder, [crops], tmp_path / "out", shard_size=10)
    before = embedder.embedded
    store = SqliteStore(tmp_path / "gallery", create=True)
    assert index.add(store, embedder, [tmp_path / "out"]).added == 45
    assert embedder.embedded == before
    assert index.add(store, embedder, [tmp_path / "out"])[:3] == (0, 45, ())
    embedder.fingerprint = "e" * 64
    with pytest.raises(InputError, match="holds embeddings of another model"):
        index.add(store, embedder, [tmp_path / "out"])
    other = SqliteStore(tmp_path / "other", create=True)
    with pytest.raises(InputError, match="was embedded by another model"):
        index.add(other, embedder, [tmp_path / "out"])
    for gallery in (store, other):
        gallery.close()


def brute_force(embedder, store, query, modality, where):
    vector = embedder.embed([query], modality)[0]
    items = [item for item in store.select(where) if Path(item.source) != query]
    scores = [float(embedder.embed([item.source], item.modality)[0] @ vector) for item in items]
    order = sorted(range(len(items)), key=lambda row: (-scores[row], items[row].id))
    return [items[row].id for row in order]


def test_hits_agree_with_brute_force(filled, crops, embedder):
    query = crops / "infrared" / "night" / "3-1.png"
    for wanted, where in (
        (SearchOptions(8), Filter(modality=Modality.VISIBLE)),
        (SearchOptions(8, same_modality=True), EVERYTHING),
        (SearchOptions(8, Filter(cameras=("yard",))), Filter(cameras=("yard",))),
    ):
        (ranked,) = ask(filled, embedder, [query], wanted).lists
        expected = brute_force(embedder, filled, query, Modality.INFRARED, where)[:8]
        assert [hit.id for hit in ranked.hits] == expected
        assert (ranked.modality, ranked.inferred) == (Modality.INFRARED, False)
        assert query not in [hit.path for hit in ranked.hits]
    minimum = ranked.hits[2].score - 1e-6
    (few,) = ask(filled, embedder, [query], SearchOptions(8, where, min_score=minimum)).lists
    assert [hit.id for hit in few.hits] == expected[:3]


def test_images_of_one_person_are_asked_for_together(filled, crops, embedder):
    queries = [crops / "infrared" / "night" / f"2-{view}.png" for view in range(3)]
    (ranked,) = ask(filled, embedder, queries, SearchOptions(4), together=True).lists
    assert ranked.others == tuple(queries[1:])
    mean = embedder.embed(queries, Modality.INFRARED).mean(axis=0)
    found = filled.nearest(mean, 4, Filter(modality=Modality.VISIBLE))
    assert [hit.id for hit in ranked.hits] == found.ids.tolist()
    alone = embedder.embed(queries, Modality.INFRARED) @ filled.vectors([ranked.hits[0].id])[0]
    assert ranked.hits[0].score == pytest.approx(alone.mean(), abs=1e-5)
    mixed = [queries[0], crops / "visible" / "door" / "2-0.png"]
    (both,) = ask(filled, embedder, mixed, SearchOptions(40), together=True).lists
    assert {hit.modality for hit in both.hits} == {Modality.VISIBLE, Modality.INFRARED}
    assert both.searched == 45
    assert not {str(path) for path in mixed} & {hit.item.source for hit in both.hits}


@pytest.mark.parametrize("name", ["k-reciprocal", "random-walk", "camera-graph", "camera-means"])
def test_reranking_reorders_the_best(filled, crops, embedder, name):
    query = crops / "infrared" / "night" / "1-0.png"
    (plain,) = ask(filled, embedder, [query], SearchOptions(30)).lists
    (anew,) = ask(filled, embedder, [query], SearchOptions(30, rerank=name)).lists
    assert {hit.id for hit in anew.hits} == {hit.id for hit in plain.hits}
    assert [hit.id for hit in anew.hits] != [hit.id for hit in plain.hits]
    assert {hit.id: hit.cosine for hit in anew.hits} == {hit.id: hit.cosine for hit in plain.hits}


def test_camera_means_need_images_of_both_modalities(crops, embedder, tmp_path):
    query = crops / "infrared" / "night" / "1-0.png"
    store = SqliteStore(tmp_path / "few", create=True)
    for path in sorted((crops / "infrared" / "night").glob("*.png"))[7:]:
        path.unlink()
    index.add(store, embedder, [crops])
    with pytest.raises(InputError, match="few: has 7 infrared images, and re-ranking by"):
        search_files(store, embedder, [query], SearchOptions(5, rerank="camera-means"))
    (found,) = search_files(store, embedder, [query], SearchOptions(5, rerank="camera-graph"))
    assert len(found.hits) == 5  # without the means
    store.close()


def test_a_calibration_by_strangers_says_nobody_and_no_more(filled, crops, embedder):
    query = crops / "infrared" / "night" / "4-0.png"
    weak = Calibration(40, -0.5, -60, 0.9, 0.1, None, "strangers", 3, 99, "f" * 64)
    (nobody,) = ask(filled, embedder, [query], SearchOptions(3), calibration=weak).lists
    assert nobody.no_match
    assert [hit.confidence for hit in nobody.hits] == [None] * 3
    assert [hit.score for hit in nobody.hits] == [hit.cosine for hit in nobody.hits]
    result = ask(filled, embedder, [query], SearchOptions(3), calibration=weak)
    assert "Probably no match: the best score is no better than of strangers." in result.table()
    easy = Calibration(40, -0.5, 60, 0.9, 0.1, None, "strangers", 3, 99, "f" * 64)
    assert not ask(filled, embedder, [query], SearchOptions(3), calibration=easy).lists[0].no_match


def test_the_table_marks_poor_crops_and_says_what_scores_are(filled, crops, embedder):
    query = crops / "infrared" / "night" / "4-0.png"
    found = ask(filled, embedder, [query], SearchOptions(3))
    first = found.lists[0].hits[0].path
    with Image.open(first) as picture:
        picture.convert("L").point(lambda level: level // 16).save(first)
    lines = found.table().splitlines()
    assert lines[2].endswith(f"{first}  (poor crop: too dark, little contrast, few grey levels)")
    assert "(poor crop: too dark" not in lines[3]
    assert lines[-1] == (
        "Scores are plain cosines, not probabilities: this run is not calibrated. To calibrate it, "
        "run visir calibrate RUN."
    )
    calibrated = ask(filled, embedder, [query], SearchOptions(3), calibration=CURVE).table()
    assert "not calibrated" not in calibrated
    first.unlink()
    assert "poor crop: too dark" not in found.table()


def test_a_calibrated_search_says_when_nobody_matches(filled, crops, embedder):
    query = crops / "infrared" / "night" / "4-0.png"
    result = ask(filled, embedder, [query], SearchOptions(3), calibration=CURVE)
    hits = result.lists[0].hits
    expected = CURVE.confidence(np.array([hit.cosine for hit in hits]), 30)
    assert [hit.confidence for hit in hits] == pytest.approx(expected)
    assert [hit.score for hit in hits] == [hit.confidence for hit in hits]
    assert result.lists[0].no_match == (max(expected) < 0.5)
    sterner = Calibration(40, -0.5, -60, 0.5, 0.1, 0.8, "labels", 9, 99, "f" * 64)
    nobody = ask(filled, embedder, [query], SearchOptions(3), calibration=sterner)
    assert nobody.lists[0].no_match and "Probably no match" in nobody.table()
    assert "Probably no match" not in ask(filled, embedder, [query], SearchOptions(3)).table()
    assert nobody.as_json()["queries"][0]["nobody"] is True
    assert nobody.as_json()["queries"][0]["no_match"] is True
    # More images searched, less sure of the same cosine.
    assert CURVE.confidence(0.8, 10) > CURVE.confidence(0.8, 1000) > CURVE.confidence(0.7, 1000)


def test_the_command_line_from_crops_to_a_found_person(tmp_path, crops, embedder, capsys):
    gallery, run = tmp_path / "a gallery", tmp_path / "run"
    run.mkdir()
    assert cli.main(["index", "add", str(gallery), str(crops), "--run", str(run),
                     "--retention", "30"]) == 0  # fmt: skip
    assert "45 images added, 0 were there, 0 skipped" in capsys.readouterr().out
    query = crops / "infrared" / "night" / "0-0.png"
    CURVE.save(run)
    words = ["search", str(run), str(query), "--gallery", str(gallery), "-k", "3", "--json"]
    assert cli.main([*words, "--camera", "door", "--out", str(tmp_path / "found")]) == 0
    shown = json.loads(capsys.readouterr().out)["queries"][0]
    assert [hit["camera"] for hit in shown["hits"]] == ["door"] * 3
    assert all(0 <= hit["confidence"] <= 1 for hit in shown["hits"])
    assert (tmp_path / "found" / "search.png").is_file()
    assert cli.main(["index", "stats", str(gallery)]) == 0
    assert "45 images, version 1, kept for 30 days" in capsys.readouterr().out
    assert cli.main(["index", "list", str(gallery), "--camera", "yard", "--limit", "4"]) == 0
    assert capsys.readouterr().out.count("yard ") == 4
    assert cli.main(["index", "remove", str(gallery), "--camera", "yard", "--ids", "1"]) == 0
    assert "16 images removed" in capsys.readouterr().out
    assert cli.main(["index", "remove", str(gallery)]) == 2
    assert "no image was selected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("add G crops --run run --retention -1", "retention: -1 days would delete every image"),
        ("add G crops --run run --retention 0", "retention: 0 days would delete every image"),
        ("remove G --older-than -1", "older_than: must be 0 or more days, got -1"),
        ("list G --older-than -0.5", "older_than: must be 0 or more days, got -0.5"),
        ("list G --limit -1", "limit: must be 1 or more images, got -1"),
        ("list G --limit 0", "limit: must be 1 or more images, got 0"),
    ],
)
def test_numbers_that_would_select_everything_are_refused(words, message, filled, capsys):
    words = [filled.name if word == "G" else word for word in words.split()]
    assert cli.main(["index", *words]) == 2
    assert message in capsys.readouterr().err
    assert filled.count() == 45


def test_a_plain_folder_takes_the_same_options(tmp_path, crops, filled, embedder, capsys):
    run = tmp_path / "run"
    run.mkdir()
    CURVE.save(run)
    query = str(crops / "infrared" / "night" / "0-0.png")
    hits = []
    for gallery in (crops, tmp_path / "gallery"):
        words = ["search", str(run), query, "--gallery", str(gallery), "--json"]
        assert cli.main([*words, "--camera", "x"]) == 0
        assert json.loads(capsys.readouterr().out)["queries"][0]["hits"] == []
        match = str(crops / "visible" / "door" / "1-0.png")
        wrong = str(crops / "visible" / "yard" / "0-0.png")
        words += ["--camera", "door", "yard", "-k", "5", "--rerank", "random-walk"]
        assert cli.main([*words, "--match", match, "--not-match", wrong]) == 0
        hits.append(json.loads(capsys.readouterr().out)["queries"][0]["hits"])
    assert [hit["path"] for hit in hits[0]] == [hit["path"] for hit in hits[1]]
    assert wrong not in [hit["path"] for hit in hits[0]]
    for name in ("score", "confidence"):
        np.testing.assert_allclose(
            [hit[name] for hit in hits[0]], [hit[name] for hit in hits[1]], atol=1e-6
        )


def test_a_thumbnail_stands_in_for_an_image_that_is_gone(filled, crops, embedder):
    query = crops / "infrared" / "night" / "0-0.png"
    result = ask(filled, embedder, [query], SearchOptions(2))
    whole = np.asarray(result.contact_sheet())
    result.lists[0].hits[0].path.unlink()
    stand_in = np.asarray(result.contact_sheet())
    assert whole.shape == stand_in.shape and (whole != stand_in).any()
    assert np.abs(whole.astype(int) - stand_in).mean() < 10


def test_two_images_are_compared(tmp_path, crops, embedder):
    images = (crops / "visible" / "door" / "3-0.png", crops / "infrared" / "night" / "3-2.png")
    found = compare(tmp_path, *images, out=tmp_path / "map.png")
    modalities = tuple(side.query.modality for side in found.sides)
    vectors = [
        embedder.embed([path], modality)[0]
        for path, modality in zip(images, modalities, strict=True)
    ]
    assert modalities == (Modality.VISIBLE, Modality.INFRARED)
    assert found.score == pytest.approx(float(vectors[0] @ vectors[1]), abs=1e-6)
    assert "not calibrated" in str(found) and (tmp_path / "map.png").stat().st_size > 1000
    CURVE.save(tmp_path)
    assert "% confidence" in str(compare(tmp_path, *images))


class Corner:
    """An embedder that sees the upper left quarter alone."""

    size, flip, method, width, fingerprint = (16, 8), False, "adca", 2, ""

    def embed(self, images, modality, progress=False):
        bright = np.array([np.asarray(image)[:8, :4].mean() for image in images]) / 255
        rows = np.stack([bright, 1 - bright], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_map_shows_where_the_likeness_comes_from():

    pixels = np.zeros((16, 8, 3), np.uint8)
    pixels[:8, :4] = 255
    parts = occlusion_map(Corner(), Image.fromarray(pixels), Modality.VISIBLE,
                          np.array([1, 0]), (4, 2))  # fmt: skip
    assert parts.shape == (4, 2)
    assert parts[0, 0] > 0.1 and parts[1, 0] > 0.1
    assert np.abs(parts[3]).max() < 1e-6
    with pytest.raises(InputError, match="grid"):
        occlusion_map(Corner(), Image.fromarray(pixels), Modality.VISIBLE, np.ones(2), (0, 2))


def test_a_damaged_or_foreign_calibration_is_refused(tmp_path):
    assert Calibration.of(tmp_path, "f" * 64) is None
    CURVE.save(tmp_path)
    assert Calibration.of(tmp_path, "f" * 64) == CURVE
    with pytest.raises(InputError, match="made for other weights"):
        Calibration.of(tmp_path, "e" * 64)
    (tmp_path / "calibration.json").write_text('{"format": 1, "slope": 3}')
    with pytest.raises(InputError, match=r"calibration.json: cannot be read"):
        Calibration.of(tmp_path, "f" * 64)


def test_times_are_read_and_refused():
    assert parse_time("2026-01-31", "since") == parse_time("2026-01-31T01:00+01:00", "since")
    with pytest.raises(InputError, match="since: 'soon' is not a time"):
        parse_time("soon", "since")


def test_bad_questions_are_refused(filled, crops, embedder):
    query = crops / "infrared" / "night" / "0-0.png"
    with pytest.raises(InputError, match="k: 0 hits"):
        ask(filled, embedder, [query], SearchOptions(0))
    with pytest.raises(InputError, match="no query image"):
        ask(filled, embedder, [], SearchOptions())
    embedder.fingerprint = "0" * 64
    with pytest.raises(InputError, match="another model"):
        ask(filled, embedder, [query], SearchOptions())
