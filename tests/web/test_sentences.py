"""Lines of the audit log as sentences."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from test_api import search
from test_cases import keep

from visir.web.schemas import AuditEntry
from visir.web.sentences import days, sentence

pytestmark = pytest.mark.slow

HASH = "a" * 64


def line(action: str, by: str = "anna", time: str = "2026-01-01T10:31:05.123+00:00", **what):
    return AuditEntry(7, time, action, by, "127.0.0.1", what, HASH)


def test_every_kind_of_line_has_a_sentence() -> None:
    found = list(range(24))
    for action, what, told in (
        ("search", {"queries": [HASH], "modalities": ["visible"], "found": found},
         "anna searched with one visible image, 24 hits"),
        ("search", {"queries": [HASH, HASH, 5], "modalities": ["infrared"] * 3, "found": [1],
                    "asked": {"cameras": ["gate", "hall"], "since": "2026-01-01T00:00:00Z"}},
         "anna searched with 2 infrared images and image 5 of the gallery (cameras gate, hall; "
         "since 2026-01-01T00:00:00Z), 1 hit"),
        ("search", {"queries": [HASH, HASH], "modalities": ["infrared", "visible"], "found": [],
                    "asked": {"tags": ["red"]}},
         "anna searched with one infrared image and one visible image (tags red), 0 hits"),
        ("refine", {"queries": [HASH], "modalities": ["visible"], "found": found, "hits": [4, 5],
                    "misses": [9]},
         "anna refined a search with one visible image by 2 marked right and 1 marked wrong, "
         "24 hits"),
        ("compare", {"items": [5], "images": [HASH]}, "anna compared an image with image 5"),
        ("compare", {"items": [5, 6], "images": []}, "anna compared image 5 with image 6"),
        ("compare", {"items": [], "images": [HASH] * 2}, "anna compared two images"),
        ("open original", {"item": 5}, "anna opened the original of image 5"),
        ("open case", {"case": 3, "name": "Night"}, 'anna opened case 3 "Night"'),
        ("delete case", {"case": 3, "name": "Night", "kept": 1},
         'anna deleted case 3 "Night" with 1 image'),
        ("delete stray file", {"file": "x.txt"}, "anna deleted the file x.txt from the cases"),
        ("keep", {"case": 3, "items": [5, 6], "queries": 0}, "anna kept 2 hits in case 3"),
        ("keep", {"case": 3, "items": [5], "queries": 1},
         "anna kept 1 hit and 1 query image in case 3"),
        ("note", {"case": 3, "hit": 2}, "anna wrote a note on no. 2 of case 3"),
        ("drop", {"case": 3, "hit": 2, "item": 5}, "anna took no. 2 out of case 3"),
        ("export", {"case": 3, "name": "Night", "kept": 2},
         'anna exported case 3 "Night" with 2 images'),
        ("delete image", {"item": 5, "camera": "gate", "source": "/d/a.png"},
         "anna deleted image 5 of camera gate from the gallery: /d/a.png"),
        ("log in", {}, "anna logged in"),
        ("log out", {}, "anna logged out"),
        ("login refused", {"times": 1}, "A wrong token was sent"),
        ("login refused", {"times": 1200}, "A wrong token was sent 1,200 times"),
        ("expire", {"images": 3}, "Deleted after the retention period: 3 images"),
        ("expiry refused", {"why": "the clock"}, "No image was deleted by its age: the clock"),
        ("log shortened", {"through": 900}, "The log was shortened: lines up to 900 were deleted"),
        ("damaged line", {"text": "{x"}, "This line is damaged: {x"),
        ("something else", {"a": 1}, "anna: something else"),
    ):  # fmt: skip
        assert sentence(line(action, **what)) == told


def test_who_gave_no_name_is_somebody() -> None:
    assert sentence(line("log in", by="")) == "Somebody logged in"


def test_lines_of_older_versions_have_sentences() -> None:
    told = sentence(line("search", queries=[HASH, HASH], found=[1, 2]))
    assert told == "anna searched with 2 images, 2 hits"
    assert sentence(line("compare", images=[])) == "anna compared two images"


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, [None], {"cameras": 7}, -1, True, 1.5])
def test_odd_values_break_no_sentence(value: object) -> None:
    keys = ("queries", "modalities", "asked", "found", "hits", "misses", "items", "images", "case",
            "name", "kept", "file", "hit", "item", "camera", "source", "times", "why", "through",
            "text")  # fmt: skip
    for action in ("search", "refine", "compare", "open original", "open case", "delete case",
                   "delete stray file", "keep", "note", "drop", "export", "delete image",
                   "login refused", "expire", "expiry refused", "log shortened",
                   "damaged line"):  # fmt: skip
        assert sentence(line(action, **dict.fromkeys(keys, value)))
    assert sentence(line("note", case="a\nb")) == "anna wrote a note on no. ? of case a\\nb"


def test_lines_stand_under_their_day() -> None:
    def local(text: str) -> datetime:
        return datetime.fromisoformat(text).astimezone()

    times = ("2026-01-03T10:00:00+00:00", "2026-01-01T12:30:00+00:00", "2026-01-01T12:00:00+00:00")
    found = days((*(line("log in", time=time) for time in times), line("damaged line", time="")))
    assert [day.date for day in found] == [
        *(local(time).strftime("%Y-%m-%d") for time in times[:2]), ""
    ]  # fmt: skip
    assert [told.clock for told in found[1].lines] == [
        local(time).strftime("%H:%M:%S") for time in times[1:]
    ]
    assert found[2].lines[0].clock == ""


def test_the_page_shows_sentences_and_what_lines_hold(serve, crop) -> None:
    client = serve()
    client.headers["X-Visir-Operator"] = "anna%3Cb%3E"
    keep(client, crop)
    page = client.get("/audit").text
    assert "anna&lt;b&gt; searched with one infrared image (cameras gate, hall), 24 hits." in page
    assert "anna&lt;b&gt; opened case 1 &#34;Night &lt;3&gt;&#34;." in page
    assert "anna&lt;b&gt; kept 2 hits in case 1." in page
    found = search(client, crop(3)).json()
    line = client.get("/api/audit").json()["entries"][0]
    assert line["what"]["modalities"] == ["infrared"]
    assert found["search"]["id"] in client.get("/audit").text
    assert len(re.findall(r"<details>", client.get("/audit").text)) == 4
