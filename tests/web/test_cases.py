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


# ---- files among the cases that are damaged, or none


def test_one_damaged_or_stray_file_hides_no_case(serve, tmp_path) -> None:
    client = serve()
    for name in ("first", "second", "third"):
        client.post("/api/cases", json={"name": name})
    folder = tmp_path / "desk" / "cases"
    (folder / "2.json").write_text('{"id": 2, "na')
    (folder / "7.json").write_bytes((folder / "1.json").read_bytes())
    strays = ["007.json", "a\nb.json", "notes.txt", "x.json", "\u0663.json", "9" * 30 + ".json"]
    for name in strays:
        (folder / name).write_text("{}")
    (folder / "8.json").mkdir()
    listed = client.get("/api/cases").json()
    assert [(line["id"], line["name"]) for line in listed[:5]] == [
        (8, "8.json"), (7, "7.json"), (3, "third"), (2, "2.json"), (1, "first"),
    ]  # fmt: skip
    assert [line["problem"] for line in listed[:4]] == [
        "case 8: its file cannot be read (Is a directory); restore 8.json from a backup, or delete "
        "the case",
        "case 7: 7.json holds case 1; restore it from a backup, or delete it",
        None,
        "case 2: its file cannot be read (is damaged); restore 2.json from a backup, or delete "
        "the case",
    ]
    shown = sorted(line["file"] for line in listed[5:])
    assert shown == sorted([*strays[:1], "a\\nb.json", *strays[2:]])
    page = client.get("/cases").text
    assert all(f"Delete {name}" in page for name in ("2.json", "notes.txt", "a\\nb.json"))
    assert client.get("/cases/3").status_code == 200
    assert client.get("/cases/2").status_code == 422

    for name in shown:
        assert client.delete("/api/cases", params={"file": name}).status_code == 204
        assert client.delete("/api/cases", params={"file": name}).status_code == 404
    for number in (2, 7):
        assert client.delete(f"/api/cases/{number}").status_code == 204
    folder_one = client.delete("/api/cases/8")
    assert "8.json: cannot be deleted (Is a directory); delete it by hand" in folder_one.text
    left = {path.name for path in folder.iterdir()}
    assert left == {"1.json", "3.json", "8.json", "last"}
    assert actions(client)[2:4] == ["delete case", "delete stray file"]


def test_what_is_no_stray_file_is_not_deleted(serve, tmp_path) -> None:
    client = serve()
    client.post("/api/cases", json={"name": "x"})
    for name in ("1.json", "last", "../audit.jsonl", "..", "/etc/passwd", ""):
        assert client.delete("/api/cases", params={"file": name}).status_code == 404
    assert client.get("/api/cases/1").status_code == 200


def test_a_counter_that_is_old_or_damaged_makes_no_case_overwrite_another(serve, tmp_path) -> None:
    client = serve()
    for _ in range(3):
        client.post("/api/cases", json={"name": "x"})
    counter = tmp_path / "desk" / "cases" / "last"
    for text, number in (("1\n", 4), ("", 5), ("many", 6), ("-7", 7), ("9" * 40, 8)):
        counter.write_text(text)
        assert client.post("/api/cases", json={"name": "x"}).json()["id"] == number
        assert client.get("/api/cases").json()[0]["id"] == number
    counter.unlink()
    assert client.post("/api/cases", json={"name": "x"}).json()["id"] == 9
