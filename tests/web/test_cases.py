"""Cases: what is kept, what leaves with them, and what stays behind."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from bright import EACH, PEOPLE, BrightEmbedder
from PIL import Image
from test_api import actions, search

pytestmark = pytest.mark.slow


def keep(client, crop, images: bool = False, note: str = "") -> dict:
    """Two hits of a search in a new case, with their query image or without."""
    found = search(client, crop(3), cameras=["gate", "hall"]).json()
    number = client.post("/api/cases", json={"name": "Night <3>"}).json()["id"]
    ids = [hit["item"]["id"] for hit in found["hits"][:2]]
    kept = json.dumps({"search": found["search"]["id"], "items": ids, "note": note})
    files = [("images", ("a.png", crop(3)))] if images else None
    answer = client.post(f"/api/cases/{number}/hits", data={"kept": kept}, files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_case_from_opening_to_deleting(serve, crop) -> None:
    client = serve()
    case = keep(client, crop, note="same jacket")
    number = case["id"]
    path = f"/api/cases/{number}"
    assert [hit["note"] for hit in case["kept"]] == ["same jacket"] * 2
    assert case["searches"][0]["queries"][0]["picture"] is None
    listed = client.get("/api/cases").json()
    assert [(line["name"], line["kept"]) for line in listed] == [("Night <3>", 2)]
    client.patch(f"{path}/hits/2", json={"note": "other shoes"})
    left = client.delete(f"{path}/hits/1").json()
    assert [(hit["number"], hit["note"]) for hit in left["kept"]] == [(2, "other shoes")]
    assert client.delete(f"{path}/hits/1").status_code == 404
    assert client.patch(f"{path}/hits/1", json={"note": ""}).status_code == 404
    assert client.delete(f"{path}/hits/2").json()["searches"] == []
    assert client.delete(path).status_code == 204
    for method in ("get", "delete"):
        assert getattr(client, method)(path).status_code == 404
    assert client.post(f"{path}/export").status_code == 404
    assert actions(client) == [
        "delete case", "drop", "drop", "note", "keep", "open case", "search",
    ]  # fmt: skip


def test_a_case_has_a_name(serve) -> None:
    client = serve()
    for name in ("", "  ", "a\nb", "x" * 121):
        refused = client.post("/api/cases", json={"name": name})
        assert refused.status_code == 422
        assert refused.json()["error"].startswith("name: ")
    assert client.post("/api/cases", json={"name": " night "}).json()["name"] == "night"


def test_only_hits_and_query_images_of_the_search_are_kept(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3), k=2).json()["search"]["id"]
    client.post("/api/cases", json={"name": "x"})
    other = json.dumps({"search": found, "items": [319]})
    refused = client.post("/api/cases/1/hits", data={"kept": other})
    assert refused.json() == {"error": "items: image 319 is not among the hits of this search"}
    files = [("images", ("a.png", crop(4)))]
    refused = client.post("/api/cases/1/hits", data={"kept": other}, files=files)
    assert "not a query image of this search" in refused.json()["error"]


def test_an_export_holds_everything_and_asks_for_nothing(serve, crop) -> None:
    client = serve()
    client.headers["X-Visir-Operator"] = "Ada%20L%C3%B6we"
    case = keep(client, crop, images=True, note="same <b>jacket</b>")
    answer = client.post(f"/api/cases/{case['id']}/export")
    assert answer.headers["content-disposition"] == 'attachment; filename="case-1.html"'
    page = answer.text
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    assert "<script" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!data:)", page)
    assert page.count("data:image/jpeg;base64,") == 3
    log = client.state.case_store.audit
    search_told = case["searches"][0]
    for told in (
        BrightEmbedder.fingerprint, "adca", client.state.store.name, "version 2", "Ada Löwe",
        search_told["queries"][0]["sha256"], "cameras gate, hall", "visir 0.1.0",
        "same &lt;b&gt;jacket&lt;/b&gt;", "Night &lt;3&gt;", f"Line {log.lines} ", log.head,
    ):  # fmt: skip
        assert told in page, told
    assert "<b>jacket" not in page


def test_deleting_an_image_is_logged_and_cases_keep_theirs(serve, crop) -> None:
    client = serve()
    case = keep(client, crop)
    item = case["kept"][0]["item"]["id"]
    assert client.delete(f"/api/items/{item}").status_code == 204
    assert client.delete(f"/api/items/{item}").status_code == 404
    assert client.state.store.thumbnail(item) is None
    assert client.get("/api/gallery").json()["images"] == PEOPLE * EACH * 4 - 1
    assert client.get(f"/api/cases/{case['id']}").json()["kept"][0]["picture"]
    assert actions(client)[0] == "delete image"


def test_blurred_pictures_leave_the_server_blurred(serve, crop) -> None:
    client = serve(blur=True)

    def blocks(jpeg: bytes) -> bool:
        head = np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), np.int16)[:4, :4]
        return int(head.max() - head.min()) < 12

    def data(text: str) -> list[bytes]:
        return [base64.b64decode(x) for x in re.findall(r"image/jpeg;base64,([^\"]+)", text)]

    assert blocks(client.get("/api/items/5/thumbnail").content)
    number = keep(client, crop, images=True)["id"]
    page = client.post(
        "/api/compare", files=[("images", ("a.png", crop(3)))], data={"asked": '{"items": [5]}'},
        headers={"accept": "text/html"},
    ).text  # fmt: skip
    case = client.get(f"/api/cases/{number}").json()
    pictures = [case["kept"][0]["picture"], case["searches"][0]["queries"][0]["picture"]]
    shown = [*data(page), *data(client.post(f"/api/cases/{number}/export").text)]
    shown += [*data(client.get(f"/cases/{number}").text), *map(base64.b64decode, pictures)]
    assert len(shown) >= 8
    assert all(map(blocks, shown))
