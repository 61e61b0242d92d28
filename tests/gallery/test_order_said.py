"""A search says what its hits are ordered by, and judges by the best score of all images."""

import json

import numpy as np
import pytest
from fake_run import PixelEmbedder, draw_person
from people import MODEL, WIDTH, entries, vectors
from PIL import Image

import visir.embedding.pytorch
from visir import cli
from visir.core.types import Modality
from visir.evaluation.confidence import Calibration
from visir.evaluation.rerank import RERANKERS
from visir.gallery.contact_sheet import LINE
from visir.gallery.feedback import Feedback
from visir.gallery.ordering import Ordering
from visir.gallery.query import Query, SearchOptions
from visir.gallery.results import SearchResult
from visir.gallery.searching import search
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter
from visir.sources.crop import Entry

CURVE = Calibration(40, -0.5, -30, 0.5, 0.1, 0.8, "labels", 9, 99, "f" * 64)
ASKED = Query(vectors(1, seed=6)[0], Modality.INFRARED)
MEANS = ", with the means of the gallery's cameras"
HOW = {"k-reciprocal": "", "random-walk": "", "camera-graph": MEANS, "camera-means": MEANS}
NOT_SCORES = "the order is not that of the scores."


@pytest.fixture
def crowd(tmp_path):
    """Sixty images of forty people, thirty of them visible."""
    store = SqliteStore(tmp_path / "crowd", create=True)
    store.add(MODEL, entries(60), vectors(60))
    yield store
    store.close()


def best_cosine() -> float:
    """Of the visible images of the crowd, by a plain loop."""
    return max(float(row @ ASKED.vector) for row in vectors(60)[::2])


def test_plain_hits_are_in_the_order_of_their_scores_and_nothing_is_said(crowd):
    ranked = search(crowd, [ASKED], SearchOptions(5))
    assert ranked.ordering == Ordering() and ranked.ordering.sentence == ""
    assert ranked.best == ranked.hits[0].score == pytest.approx(best_cosine(), abs=1e-6)
    result = SearchResult((ranked,))
    assert NOT_SCORES not in result.table()
    (plain,) = result.as_json()["queries"]
    assert (plain["re_ranking"], plain["camera_means"]) == ("none", None)
    assert plain["marked"] == {"matches": 0, "non_matches": 0}


@pytest.mark.parametrize("name", RERANKERS)
def test_table_and_json_name_the_re_ranking_and_the_best_score(crowd, name):
    ranked = search(crowd, [ASKED], SearchOptions(30, rerank=name))
    scores = [hit.score for hit in ranked.hits]
    assert scores != sorted(scores, reverse=True)
    best = best_cosine()
    assert ranked.best == max(scores) == pytest.approx(best, abs=1e-6)
    said = f"Re-ranked by {name}{HOW[name]}: {NOT_SCORES}"
    table = SearchResult((ranked,)).table().partition("\n\n")[0].splitlines()
    assert table[-1] == f"{said} Best score of the 30 images searched: {best:.3f}."
    (plain,) = SearchResult((ranked,)).as_json()["queries"]
    assert (plain["re_ranking"], plain["best_score"]) == (name, ranked.best)
    assert plain["camera_means"] is (True if HOW[name] else None)


def test_the_best_score_and_the_verdict_are_not_those_of_the_hits_listed(crowd):
    """One hit is listed, and re-ranking put another image before the most similar one."""
    ranked = search(crowd, [ASKED], SearchOptions(1, rerank="k-reciprocal"))
    (hit,) = ranked.hits
    assert hit.cosine < ranked.best - 0.01
    between = (hit.cosine + ranked.best) / 2
    curve = Calibration(40, 0, -40 * between, 0.5, 0.1, 0.8, "labels", 9, 99, "f" * 64)
    judged = search(crowd, [ASKED], SearchOptions(1, rerank="k-reciprocal"), curve)
    assert judged.hits[0].confidence < 0.5 < judged.best
    assert judged.best == pytest.approx(float(curve.confidence(ranked.best, 30)))
    assert judged.no_match is False
    table = SearchResult((judged,)).table()
    assert table.endswith(f"Best score of the 30 images searched: {judged.best:.0%}.")


def test_a_camera_graph_says_that_it_lacked_the_means(tmp_path):
    store = SqliteStore(tmp_path / "few", create=True)
    store.add(MODEL, entries(14), vectors(14))  # seven of each modality; a mean needs eight
    ranked = search(store, [ASKED], SearchOptions(9, rerank="camera-graph"))
    lack = ", without the means of the gallery's cameras (too few images)"
    assert ranked.ordering == Ordering("camera-graph", False)
    assert f"Re-ranked by camera-graph{lack}: {NOT_SCORES}" in SearchResult((ranked,)).table()
    assert SearchResult((ranked,)).as_json()["queries"][0]["camera_means"] is False
    store.close()


def test_a_search_without_a_hit_has_no_order_and_says_its_best_score(crowd):
    ranked = search(crowd, [ASKED], SearchOptions(5, min_score=1.0, rerank="k-reciprocal"))
    assert ranked.hits == () and ranked.best == pytest.approx(best_cosine(), abs=1e-6)
    assert NOT_SCORES not in SearchResult((ranked,)).table()
    empty = search(crowd, [ASKED], SearchOptions(5, Filter(cameras=("nowhere",))), CURVE)
    assert (empty.best, empty.no_match) == (None, True)


@pytest.fixture
def drawn_away(tmp_path):
    """Image 1 is near to the query, cosine 0.9; images 2 to 4 are near each other, cosine 0.1."""
    rows = np.zeros((4, WIDTH), np.float32)
    rows[0, :2] = 0.9, np.sqrt(0.19)
    rows[1:, 0] = 0.1
    rows[1:, 2] = np.sqrt(0.99)
    store = SqliteStore(tmp_path / "away", create=True)
    seen = [Entry(f"{n}.png", "gate", Modality.VISIBLE) for n in range(4)]
    store.add(MODEL, seen, rows)
    yield store
    store.close()


def refined(store, k: int, feedback: Feedback):
    asked = Query(np.eye(WIDTH, dtype=np.float32)[0], Modality.INFRARED)
    return search(store, [asked], SearchOptions(k), CURVE, feedback)


@pytest.mark.parametrize("k", [1, 4])
def test_the_verdict_of_a_refined_search_is_that_of_the_query_images(drawn_away, k):
    """Marks draw the order to images that are unlike the query; its best score is image 1's."""
    ranked = refined(drawn_away, k, Feedback((2, 3, 4)))
    assert ranked.hits[0].item.id in (2, 3, 4)
    assert ranked.hits[0].cosine == pytest.approx(0.1, abs=1e-6)
    assert ranked.best == pytest.approx(float(CURVE.confidence(0.9, 4)), abs=1e-5)
    assert ranked.no_match is False
    table = SearchResult((ranked,)).table()
    best = f"Best score of the 4 images searched: {ranked.best:.0%}."
    assert f"Refined by 3 hits and 0 marked wrong: {NOT_SCORES} {best}" in table
    assert "Probably no match" not in table


def test_an_image_marked_as_wrong_is_not_the_best_match(drawn_away):
    ranked = refined(drawn_away, 1, Feedback((2,), (1,)))
    assert ranked.best == pytest.approx(float(CURVE.confidence(0.1, 4)), abs=1e-5)
    assert ranked.no_match is True
    assert SearchResult((ranked,)).as_json()["queries"][0]["marked"] == {
        "matches": 1,
        "non_matches": 1,
    }


def test_both_corrections_are_one_sentence():
    both = Ordering("random-walk", None, 1, 2).sentence
    assert both == f"Refined by 1 hit and 2 marked wrong; re-ranked by random-walk: {NOT_SCORES}"


def test_the_command_says_it_in_every_output(tmp_path, monkeypatch, capsys):
    fake = PixelEmbedder()
    monkeypatch.setattr(visir.embedding.pytorch, "load", lambda path, device="cpu": fake)
    for pid in range(4):
        for view in range(3):
            draw_person(tmp_path / "crops/visible/door" / f"{pid}-{view}.png", pid, False, view)
    query = tmp_path / "query.png"
    draw_person(query, 1, True, 9)
    words = ["search", str(tmp_path), str(query), "--gallery", str(tmp_path / "crops"), "-k", "3"]
    words += ["--modality", "infrared", "--out", str(tmp_path / "found")]
    assert cli.main(words) == 0
    assert NOT_SCORES not in capsys.readouterr().out
    plain = SearchSheet(tmp_path)
    words += ["--rerank", "k-reciprocal"]
    assert cli.main(words) == 0
    assert f"Re-ranked by k-reciprocal: {NOT_SCORES} Best score of" in capsys.readouterr().out
    again = SearchSheet(tmp_path)
    assert (plain.re_ranking, again.re_ranking) == ("none", "k-reciprocal")
    assert again.height == plain.height + 2 * LINE  # below the query
    assert cli.main([*words, "--json"]) == 0
    (said,) = json.loads(capsys.readouterr().out)["queries"]
    assert said["re_ranking"] == "k-reciprocal"
    assert said["best_score"] >= max(hit["cosine"] for hit in said["hits"])


class SearchSheet:
    """What a search wrote into the folder."""

    def __init__(self, folder) -> None:
        found = json.loads((folder / "found" / "search.json").read_text())
        self.re_ranking = found["queries"][0]["re_ranking"]
        with Image.open(folder / "found" / "search.png") as picture:
            self.height = picture.height
