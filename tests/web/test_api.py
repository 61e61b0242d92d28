"""What the API answers, against a gallery of drawn people."""

from __future__ import annotations

import errno
import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from bright import BEGIN, EACH, HOME, PEOPLE, BrightEmbedder, TestClient
from PIL import Image

from visir.core.types import InputError, Modality
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter, model_of
from visir.sources.crop import Entry
from visir.web import audit
from visir.web.app import create_app
from visir.web.case_store import CaseStore
from visir.web.middleware import Rules
from visir.web.remembered import REMEMBERED
from visir.web.service import SearchService
from visir.web.state import AppState

pytestmark = pytest.mark.slow


def search(client, *crops: bytes, accept: str = "*/*", **asked):
    files = [("images", (f"{n}.png", crop)) for n, crop in enumerate(crops)]
    form = {"asked": json.dumps(asked)} if asked else {}
    return client.post("/api/search", files=files, data=form, headers={"accept": accept})


def actions(client) -> list[str]:
    return [entry["action"] for entry in client.get("/api/audit").json()["entries"]]


def test_the_person_is_found_in_the_other_modality(serve, crop) -> None:
    client = serve()
    for pid in range(10):
        found = search(client, crop(pid), k=10).json()
        assert {hit["item"]["modality"] for hit in found["hits"]} == {"visible"}
        assert any(f"person-{pid}" in hit["item"]["tags"] for hit in found["hits"])
        assert found["search"]["queries"][0]["modality"] == "infrared"
        assert found["search"]["queries"][0]["inferred"]
        assert found["search"]["searched"] == PEOPLE * EACH * 2
        assert [hit["rank"] for hit in found["hits"]] == list(range(1, 11))


def test_hits_and_scores_are_those_of_a_plain_loop(serve, crop) -> None:
    client = serve(calibrated=False)
    store, embedder = client.state.store, BrightEmbedder()
    pictures = [np.asarray(Image.open(io.BytesIO(crop(p))).convert("RGB")) for p in (3, 4)]
    mean = embedder.embed(pictures, Modality.INFRARED).astype(np.float64).mean(axis=0)
    ids = [item.id for item in store.select(Filter(modality=Modality.VISIBLE))]
    cosines = {item: float(store.vectors([item])[0] @ mean) for item in ids}
    best = sorted(ids, key=lambda item: (-cosines[item], item))[:7]
    found = search(client, crop(3), crop(4), k=7).json()
    assert [hit["item"]["id"] for hit in found["hits"]] == best
    assert [hit["score"] for hit in found["hits"]] == pytest.approx([cosines[b] for b in best])
    assert found["search"]["threshold"] is None
    assert not found["no_match"] and not found["nobody"]


def test_scores_are_confidences_where_the_run_is_calibrated(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3), k=50).json()
    known = client.state.service.calibration
    for hit in found["hits"]:
        expected = known.confidence(np.float32(hit["cosine"]), found["search"]["searched"])
        assert hit["score"] == pytest.approx(float(expected))
    assert found["search"]["threshold"] == 0.35
    assert not found["no_match"] and not found["nobody"]


def test_somebody_else_is_probably_not_there(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3), tags=["person-20"]).json()
    assert len(found["hits"]) == 2 * EACH
    assert found["no_match"] and found["nobody"]
    page = search(client, crop(3), tags=["person-20"], accept="text/html").text
    assert "Probably no match" in page
    assert "Probably no match" not in search(client, crop(3), accept="text/html").text


def test_the_page_says_what_is_not_calibrated(serve, crop) -> None:
    page = search(serve(calibrated=False), crop(3), accept="text/html").text
    assert "this run is not calibrated" in page
    assert "visir calibrate RUN" in page


def test_every_page_says_what_the_model_has_not_seen(serve) -> None:
    client = serve()
    pages = ["/", "/cases", "/gallery", "/audit", "/nothing"]
    assert not any("synthetic" in client.get(page).text for page in pages)
    client.state.service.embedder.caution = "It has seen synthetic people only <in> one light"
    for page in pages:
        assert "synthetic people only &lt;in&gt; one light." in client.get(page).text, page


def test_filters(serve, crop) -> None:
    client = serve()

    def items(**asked):
        return [hit["item"] for hit in search(client, crop(3), k=200, **asked).json()["hits"]]

    assert {item["camera"] for item in items(cameras=["gate"])} == {"gate"}
    assert {item["camera"] for item in items(cameras=["gate", "yard"], within="any")} == {
        "gate", "yard",
    }  # fmt: skip
    assert {item["modality"] for item in items(within="infrared")} == {"infrared"}
    assert all("even" in item["tags"] for item in items(tags=["even"]))
    assert items(tags=["even", "person-3"]) == []
    assert items(cameras=["no such camera"]) == []
    since, until = "2026-01-01T01:00:00Z", "2026-01-01T02:00:00+00:00"
    between = items(since=since, until=until)
    assert between
    assert all("2026-01-01T01:00:00Z" <= i["time"] <= "2026-01-01T02:00:00Z" for i in between)
    best = search(client, crop(3)).json()["hits"]
    least = best[3]["score"]
    assert [i["id"] for i in items(min_score=least)] == [h["item"]["id"] for h in best[:4]]
    # The query said to be visible is looked for in infrared images.
    assert {item["modality"] for item in items(modality="visible")} == {"infrared"}


def test_a_local_time_without_a_zone_is_the_server_s(serve, crop) -> None:
    client = serve()
    local = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(BEGIN + 60 * 100))
    found = search(client, crop(3), k=200, since=local, within="any").json()
    assert found["search"]["searched"] == client.state.store.count(Filter(since=BEGIN + 6000))


def test_queries_of_both_modalities_are_looked_for_in_both(serve, crop) -> None:
    found = search(serve(), crop(3), crop(3, False), k=100).json()
    assert {hit["item"]["modality"] for hit in found["hits"]} == {"visible", "infrared"}


def test_an_indexed_image_is_never_its_own_hit(serve) -> None:
    client = serve()
    wanted = {"items": [5, 6], "asked": {"within": "any", "k": 200}}
    found = client.post("/api/search/items", json=wanted).json()
    assert not {5, 6} & {hit["item"]["id"] for hit in found["hits"]}
    assert len(found["hits"]) == 200
    assert [query["item"] for query in found["search"]["queries"]] == [5, 6]
    refused = client.post("/api/search/items", json={"items": [99999]})
    assert refused.status_code == 422
    assert refused.json() == {"error": "items: the gallery has no image 99999; it may be deleted"}


def test_refining_draws_on_marks_and_keeps_scores(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3), k=100).json()
    cosines = {hit["item"]["id"]: hit["cosine"] for hit in found["hits"]}
    ids = [hit["item"]["id"] for hit in found["hits"]]
    wanted = {"search": found["search"]["id"], "hits": ids[:1], "misses": ids[1:3]}
    again = client.post("/api/refine", json=wanted).json()
    order = [hit["item"]["id"] for hit in again["hits"]]
    assert not set(ids[1:3]) & set(order)
    assert order != [item for item in ids if item in order]
    assert [hit["mark"] for hit in again["hits"] if hit["item"]["id"] == ids[0]] == ["hit"]
    for hit in again["hits"]:
        if hit["item"]["id"] in cosines:
            assert hit["cosine"] == pytest.approx(cosines[hit["item"]["id"]])
    assert again["search"]["asked"] == found["search"]["asked"]
    other = client.post("/api/refine", json={**wanted, "asked": {"k": 3}}).json()
    assert len(other["hits"]) == 3
    both = client.post("/api/refine", json={**wanted, "misses": ids[:1]})
    assert f"image {ids[0]} is marked both ways" in both.json()["error"]
    unknown = client.post("/api/refine", json={**wanted, "search": "unknown"})
    assert unknown.json() == {"error": "search: is no longer remembered; search again"}


@pytest.mark.parametrize("name", ["k-reciprocal", "random-walk", "camera-graph", "camera-means"])
def test_reranking_reorders_hits_and_keeps_scores(serve, crop, name: str) -> None:
    client = serve()
    plain = search(client, crop(3), k=160).json()
    again = search(client, crop(3), k=160, rerank=name).json()
    scores = [
        {hit["item"]["id"]: hit["score"] for hit in found["hits"]} for found in (plain, again)
    ]
    assert scores[0] == scores[1]
    assert list(scores[0]) != list(scores[1])
    assert again["search"]["asked"]["rerank"] == name
    assert search(client, crop(3), rerank="best").status_code == 422


def test_old_searches_are_forgotten(serve) -> None:
    client = serve()
    service = client.state.service
    images = service.images_of_items([1])
    first = service.search(images, search_asked(), "").search.id
    service.searches.recall(first)
    for _ in range(REMEMBERED):
        service.search(images, search_asked(), "")
    with pytest.raises(InputError, match="no longer remembered"):
        service.searches.recall(first)


def search_asked():
    from visir.web.schemas import SearchRequest

    return SearchRequest(k=1)


def test_two_images_are_compared(serve, crop) -> None:
    client = serve()
    files = [("images", ("a.png", crop(3)))]
    got = client.post("/api/compare", files=files, data={"asked": '{"items": [5], "searched": 9}'})
    told = got.json()
    assert [side["modality"] for side in told["sides"]] == ["infrared", "visible"]
    assert told["sides"][1]["item"]["id"] == 5
    picture = np.asarray(Image.open(io.BytesIO(crop(3))).convert("RGB"))
    vector = BrightEmbedder().embed([picture], Modality.INFRARED)[0]
    assert told["cosine"] == pytest.approx(float(vector @ client.state.store.vectors([5])[0]))
    assert np.shape(told["sides"][0]["map"]) == np.shape(told["sides"][1]["map"]) == (8, 4)
    one = client.post("/api/compare", data={"asked": '{"items": [5, 5], "maps": false}'}).json()
    assert one["cosine"] == pytest.approx(1)
    assert one["sides"][0]["map"] is None
    for asked in ("{}", '{"items": [5]}'):
        refused = client.post("/api/compare", data={"asked": asked})
        assert refused.status_code == 422
        assert "give two images to compare" in refused.json()["error"]
    page = client.post(
        "/api/compare", files=files, data={"asked": '{"items": [5]}'},
        headers={"accept": "text/html"},
    ).text  # fmt: skip
    assert page.count("data:image/png;base64,") == page.count("data:image/jpeg;base64,") == 2


def test_items_and_thumbnails(serve) -> None:
    client = serve()
    item = client.get("/api/items/5").json()
    kept = client.state.store.get([5])[5]
    assert (item["camera"], item["source"]) == (kept.camera, kept.source)
    answer = client.get("/api/items/5/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    assert Image.open(io.BytesIO(answer.content)).size == (24, 48)
    for path in ("/api/items/99999", "/api/items/99999/thumbnail"):
        assert client.get(path).status_code == 404
        assert list(client.get(path).json()) == ["error"]


def test_nothing_is_answered_that_cannot_be_logged(serve, crop, monkeypatch) -> None:
    client = serve()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(client.state.case_store.audit, "append", full)
    for answer in (search(client, crop(3)), client.delete("/api/items/5")):
        assert answer.status_code == 507
        assert answer.json() == {"error": "the server's disk is full; free space there"}
    assert 5 in client.state.store.get([5])


def test_only_a_full_disk_is_said_to_be_full(serve, monkeypatch) -> None:
    client = serve()

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(client.state.case_store.audit, "append", denied)
    answer = client.delete("/api/items/5")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "the server cannot read or write a file (Permission denied); check its disk"
    }


def test_a_damaged_thumbnail_is_named(serve, crop, monkeypatch) -> None:
    client = serve()
    store, whole = client.state.store, client.state.store.thumbnail(5)
    for jpeg in (b"", b"no picture", whole[:300], whole[:20] + bytes(len(whole))):
        monkeypatch.setattr(store, "thumbnail", lambda item, jpeg=jpeg: jpeg)
        answers = [
            client.get("/api/items/5/thumbnail"),
            client.post("/api/compare", data={"asked": '{"items": [5, 6]}'}),
        ]
        for answer in answers:
            assert answer.status_code == 422
            assert answer.json() == {
                "error": "image 5: its stored picture is damaged; remove the image and add it again"
            }


def test_the_log_tells_who_did_what_and_is_whole(serve, crop, tmp_path: Path) -> None:
    client = serve()
    client.headers["X-Visir-Operator"] = "Ada%0A%00 "
    found = search(client, crop(3), k=2).json()
    client.post("/api/compare", data={"asked": '{"items": [5, 6], "maps": false}'})
    page = client.get("/api/audit").json()
    assert (page["lines"], page["broken"]) == (2, None)
    compared, searched = page["entries"]
    assert (compared["action"], compared["by"]) == ("compare", "Ada")
    assert searched["what"]["found"] == [hit["item"]["id"] for hit in found["hits"]]
    assert searched["what"]["queries"] == [found["search"]["queries"][0]["sha256"]]
    path = tmp_path / "desk" / "audit.jsonl"
    assert page["head"] == audit.verify(path).head
    path.write_bytes(path.read_bytes().replace(b'"k": 2', b'"k": 3'))
    assert client.get("/api/audit").json()["broken"] == 2
    assert "Line 2 does not follow" in client.get("/audit").text


def test_uploads_leave_no_trace_on_disk(serve, crop, tmp_path: Path) -> None:
    client = serve()
    picture = crop(3)
    search(client, picture)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if picture[100:200] in path.read_bytes()]
    assert {path.name for path in (tmp_path / "desk").iterdir()} == {"audit.jsonl", "cases", "lock"}


def test_an_empty_gallery_answers_too(tmp_path: Path, crop) -> None:
    store = SqliteStore(tmp_path / "g", create=True)
    state = AppState(
        SearchService(BrightEmbedder(), store, None),
        CaseStore(tmp_path / "d"),
        Rules("127.0.0.1", None),
        False,
    )
    client = TestClient(create_app(state), base_url=HOME, raise_server_exceptions=False)
    assert search(client, crop(3)).json()["hits"] == []
    assert "Nothing found" in search(client, crop(3), accept="text/html").text
    for path in ("/", "/gallery", "/api/gallery"):
        assert client.get(path).status_code == 200
    entry = Entry("a", "gate", Modality.VISIBLE)
    pixels = np.zeros((48, 24, 3), np.uint8)
    vectors = BrightEmbedder().embed([pixels], Modality.VISIBLE)
    store.add(model_of(BrightEmbedder()), [entry], vectors)
    told = client.post("/api/compare", data={"asked": '{"items": [1, 1]}'}).json()
    assert [side["map"] for side in told["sides"]] == [None, None]
    state.case_store.close()


def test_a_gallery_of_another_model_is_refused(filled: Path) -> None:
    class Other(BrightEmbedder):
        fingerprint = "c" * 64

    store = SqliteStore(filled)
    with pytest.raises(InputError, match="holds embeddings of another model"):
        SearchService(Other(), store, None)
    store.close()


def test_pages_are_shown(serve) -> None:
    client = serve()
    for path in ("/", "/?item=5&item=6", "/cases", "/gallery", "/gallery?camera=yard&after=9",
                 "/items/5", "/audit"):  # fmt: skip
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/html")
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", answer.text)
        assert not re.search(r"(?:src|href)=\"https?:", answer.text)


def test_what_is_not_there_is_a_readable_page_or_json(serve) -> None:
    client = serve()
    for path in ("/nothing", "/items/99999", "/cases/7", "/items/x", "/docs", "/redoc"):
        answer = client.get(path)
        assert answer.status_code in (404, 422)
        assert "That did not work" in answer.text
    for path in ("/api/nothing", "/api/items/x", "/api/cases/0"):
        answer = client.get(path)
        assert answer.status_code in (404, 422)
        assert list(answer.json()) == ["error"]
    assert client.get("/api/search").status_code == 405


def test_a_fault_of_the_server_s_own_shows_no_traceback(serve, monkeypatch) -> None:
    client = serve()
    monkeypatch.setattr(client.state.store, "thumbnail", lambda item: 1 / 0)
    answer = client.get("/api/items/5/thumbnail")
    assert answer.status_code == 500
    assert answer.json() == {"error": "something went wrong on the server; its log says what"}


def test_the_schema_describes_every_answer(serve) -> None:
    schema = serve().get("/openapi.json").json()
    assert len(schema["paths"]) == 17
    for path, methods in schema["paths"].items():
        for method, about in methods.items():
            assert about["summary"], path
            done = [code for code in about["responses"] if code.startswith("2")]
            assert len(done) == 1, (method, path)
            body = about["responses"][done[0]]
            assert done == ["204"] or body["content"], (method, path)
            refused = about["responses"]["422"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": "#/components/schemas/Problem"}
