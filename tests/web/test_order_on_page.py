"""The page and the API say what hits are ordered by, and which score is the best."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
from bright import BrightEmbedder
from PIL import Image
from pydantic import TypeAdapter
from test_api import search

from visir.core.types import Modality
from visir.evaluation.confidence import Calibration
from visir.gallery.store import Filter
from visir.web.rendering import score
from visir.web.schemas import SearchRecord

pytestmark = pytest.mark.slow

PAGE = {"accept": "text/html"}
MEANS = ", with the means of the gallery's cameras"
HOW = {"k-reciprocal": "", "random-walk": "", "camera-graph": MEANS, "camera-means": MEANS}
NOT_SCORES = "the order is not that of the scores."


def text(page: str) -> str:
    """What a page says, on one line."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", "", page)))


def said_best(page: str) -> str:
    return re.search(r"images searched, best score ([^.]+(?:\.\d+)?)\.", text(page))[1]


def cosines(client, crop: bytes, folder) -> np.ndarray:
    """With all visible images, by a plain loop."""
    (folder / "query.png").write_bytes(crop)
    with Image.open(folder / "query.png") as picture:
        query = BrightEmbedder().embed([picture.convert("RGB")], Modality.INFRARED)[0]
    store = client.state.store
    ids = [item.id for item in store.select(Filter(modality=Modality.VISIBLE))]
    return store.vectors(ids) @ query


def test_a_plain_search_says_nothing_of_its_order(serve, crop) -> None:
    client = serve(calibrated=False)
    found = search(client, crop(3)).json()
    assert found["best_score"] == max(hit["score"] for hit in found["hits"])
    assert found["search"]["camera_means"] is None
    assert NOT_SCORES not in text(search(client, crop(3), accept="text/html").text)


@pytest.mark.parametrize("name", HOW)
def test_the_page_names_the_re_ranking_and_the_highest_score(serve, crop, tmp_path, name) -> None:
    client = serve(calibrated=False)
    best = float(cosines(client, crop(3), tmp_path).max())
    found = search(client, crop(3), k=160, rerank=name).json()
    scores = [hit["score"] for hit in found["hits"]]
    assert scores != sorted(scores, reverse=True)
    assert found["best_score"] == max(scores) == pytest.approx(best, abs=1e-6)
    assert found["scale"]["high"] == found["best_score"]
    assert found["search"]["camera_means"] is (True if HOW[name] else None)
    page = search(client, crop(3), accept="text/html", k=160, rerank=name).text
    assert f"Re-ranked by {name}{HOW[name]}: {NOT_SCORES}" in text(page)
    assert said_best(page) == f"{best:.3f}"


def test_the_best_score_is_said_where_its_image_is_not_listed(serve, crop, tmp_path) -> None:
    client = serve(calibrated=False)
    asked = crop(4)
    best = float(cosines(client, asked, tmp_path).max())
    found = search(client, asked, k=1, rerank="camera-graph").json()
    assert found["hits"][0]["score"] < best - 0.005
    between = (found["hits"][0]["score"] + best) / 2
    strict = Calibration(600, 0, -600 * between, 0.5, 0.05, 0.9, "labels", 40, 320, "b" * 64)
    client.state.service.calibration = strict
    judged = search(client, asked, k=1, rerank="camera-graph").json()
    assert judged["hits"][0]["score"] < 0.5 < judged["best_score"]
    assert not judged["no_match"]
    page = search(client, asked, accept="text/html", k=1, rerank="camera-graph").text
    assert said_best(page) == score(judged["best_score"], True)
    assert "Probably no match" not in page


def test_a_refined_page_says_it_and_keeps_the_best_score(serve, crop) -> None:
    client = serve()
    first = search(client, crop(3), k=160).json()
    far = [hit["item"]["id"] for hit in first["hits"][-4:]]
    wanted = {"search": first["search"]["id"], "hits": far}
    wanted["asked"] = {**first["search"]["asked"], "k": 1}
    again = client.post("/api/refine", json=wanted).json()
    assert again["hits"][0]["score"] < 0.5 * first["hits"][0]["score"]
    assert again["best_score"] == pytest.approx(first["hits"][0]["score"], abs=1e-5)
    assert again["no_match"] == first["no_match"]
    page = client.post("/api/refine", json=wanted, headers=PAGE).text
    assert f"Refined by 4 hits and 0 marked wrong: {NOT_SCORES} Scores stay those" in text(page)
    assert said_best(page) == score(first["hits"][0]["score"], True)


def test_a_case_says_the_order_of_its_search(serve, crop) -> None:
    client = serve()
    client.post("/api/cases", json={"name": "x"})
    for how in ({}, {"rerank": "camera-graph"}):
        found = search(client, crop(3), **how).json()
        kept = {"search": found["search"]["id"], "items": [found["hits"][0]["item"]["id"]]}
        client.post("/api/cases/1/hits", data={"kept": json.dumps(kept)})
    page = text(client.get("/cases/1", headers=PAGE).text)
    assert page.count(NOT_SCORES) == 1
    assert f"Re-ranked by camera-graph{MEANS}: {NOT_SCORES}" in page


def test_a_case_of_before_does_not_say_what_is_not_known(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3), rerank="camera-graph").json()["search"]
    del found["camera_means"]
    record = TypeAdapter(SearchRecord).validate_python(found)
    assert record.order == f"Re-ranked by camera-graph: {NOT_SCORES}"
