"""What the start page lists of searches and cases, and whose."""

from __future__ import annotations

import os
import re

import pytest
from bright import HOME
from test_api import search

from visir.web import case_store
from visir.web.case_store import CaseStore
from visir.web.middleware import COOKIE, CSRF
from visir.web.remembered import REMEMBERED, Searches
from visir.web.sentences import searched

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-letters"
HERE = {"origin": HOME, "sec-fetch-site": "same-origin", "accept": "text/html"}


def listed(page: str) -> list[str]:
    """The searches that a start page lists: what they were."""
    return re.findall(r'<a href="/\?search=[^"]+">([^<]*)</a>', page)


def links(page: str) -> list[str]:
    return re.findall(r'<a href="(/\?search=[^"]+)">', page)


def start(client, **headers: str) -> str:
    return client.get("/", headers={"accept": "text/html", **headers}).text


def user(client) -> dict[str, str]:
    """The headers of a page of somebody who logs in."""
    csrf = {**HERE, CSRF: client.state.rules.csrf}
    done = client.post("/api/login", json={"token": TOKEN}, headers=csrf)
    cookie = done.headers["set-cookie"].partition(";")[0]
    client.cookies.clear()
    assert cookie.startswith(f"{COOKIE}=")
    return {**csrf, "cookie": cookie}


def look_for(client, items: list[int], headers: dict[str, str], **asked: object):
    wanted = {"items": items, "asked": asked}
    answer = client.post("/api/search/items", json=wanted, headers=headers)
    assert answer.status_code == 200
    return answer


def test_the_start_page_lists_searches_of_pages_the_newest_first(serve, crop) -> None:
    client = serve()
    assert listed(start(client)) == []
    search(client, crop(3))  # of a program
    assert listed(start(client)) == []
    search(client, crop(3), accept="text/html")
    look_for(client, [5], {"accept": "text/html"}, k=3, cameras=["yard"])
    assert listed(start(client)) == [
        "Searched with image 5 of the gallery (cameras yard), 3 hits",
        "Searched with one infrared image, 24 hits",
    ]
    for _ in range(9):
        search(client, crop(3), accept="text/html")
    assert len(listed(start(client))) == 6
    assert "Everybody who can open this page sees them" in start(client)


def test_a_user_sees_the_own_searches_until_logging_out(serve) -> None:
    client = serve(TOKEN)
    ada, bob = user(client), user(client)
    look_for(client, [5], ada)
    look_for(client, [6], bob)
    told = "Searched with image {} of the gallery, 24 hits"
    assert listed(start(client, **ada)) == [told.format(5)]
    assert listed(start(client, **bob)) == [told.format(6)]
    (link,) = links(start(client, **ada))
    assert client.get(link, headers=ada).status_code == 200
    refused = client.get(link, headers=bob)
    assert refused.status_code == 422
    assert "Search: is not one of yours; search again." in refused.text
    token = {"authorization": f"Bearer {TOKEN}", "accept": "text/html"}
    assert client.get(link, headers=token).status_code == 422
    assert listed(client.get("/", headers=token).text) == []
    assert client.post("/api/logout", headers=ada).status_code == 204
    assert len(client.state.service.searches._known) == 1  # nothing of it is in memory
    assert listed(start(client, **bob)) == [told.format(6)]
    assert listed(start(client, **user(client))) == []


def test_a_search_is_shown_again_without_what_was_deleted(serve) -> None:
    client = serve()
    page = look_for(client, [5], {"accept": "text/html"}, k=4, min_score=0.0001).text
    shown = re.findall(r'data-item="(\d+)" data-group', page)
    client.delete(f"/api/items/{shown[1]}")
    (link,) = links(start(client))
    again = client.get(link, headers={"accept": "text/html"})
    assert again.status_code == 200
    assert re.findall(r'data-item="(\d+)" data-group', again.text) == [
        item for item in shown if item != shown[1]
    ]
    assert "shown again" in again.text
    assert '"k": 4' in again.text.replace("&#34;", '"')
    assert re.search(r'<li data-item="5"', again.text)
    assert "not kept; give them again" not in again.text
    client.delete("/api/items/5")
    assert "not kept; give them again" in client.get(link, headers={"accept": "text/html"}).text
    gone = client.get("/?search=unknown", headers={"accept": "text/html"})
    assert "Search: is no longer remembered; search again." in gone.text


def test_images_that_were_sent_are_not_kept(serve, crop) -> None:
    client = serve()
    search(client, crop(3), accept="text/html")
    (link,) = links(start(client))
    again = client.get(link, headers={"accept": "text/html"}).text
    assert "The images that were sent are not kept" in again
    (known,) = client.state.service.searches._known.values()
    assert [image.picture for image in known.images] == [None]


def test_no_more_searches_are_remembered_than_said(serve) -> None:
    client = serve()
    response = look_for(client, [5], {}).json()
    known = client.state.service.searches.recall(response["search"]["id"])
    searches = Searches()
    for number in range(REMEMBERED + 10):
        record = known.response.search.__class__(**{**vars(known.response.search), "id": number})
        new = known.response.__class__(**{**vars(known.response), "search": record})
        searches.add(new, known.images, "a" if number % 2 else None)
    assert len(searches._known) == REMEMBERED == 256
    assert [one.search.id for one in searches.of("a", 2)] == [265, 263]
    assert searches.of(None, 2) == searches.of("b", 2) == []
    searches.forget(None)
    assert len(searches._known) == 256
    searches.forget("a")
    assert len(searches._known) == 128


def test_a_refined_search_is_said_to_be_one() -> None:
    what = {"queries": ["a" * 64], "modalities": ["visible"], "found": (1, 2), "hits": (1,)}
    assert searched(what) == (
        "Refined a search with one visible image by 1 marked right and 0 marked wrong, 2 hits"
    )


def test_the_start_page_lists_the_cases_that_were_changed_last(serve, tmp_path) -> None:
    client = serve()
    assert "Recent cases" not in start(client)
    for number in range(1, 9):
        client.post("/api/cases", json={"name": f"case <{number}>"})
        os.utime(tmp_path / "desk" / "cases" / f"{number}.json", (number, number))
    os.utime(tmp_path / "desk" / "cases" / "2.json", (100, 100))
    (tmp_path / "desk" / "cases" / "8.json").write_text("{")
    (tmp_path / "desk" / "cases" / "notes.txt").write_text("")
    names = re.findall(r"case &lt;(\d)&gt;</a>", start(client))
    assert names == ["2", "7", "6", "5", "4"]


def test_cases_that_did_not_change_are_not_read_again(tmp_path, monkeypatch) -> None:
    desk = CaseStore(tmp_path)
    desk.open_case("one", "")
    desk.open_case("two", "")
    assert [case.name for case in desk.summaries()] == ["two", "one"]
    read = []

    def validate(self: CaseStore, number: int):
        read.append(number)
        return whole(self, number)

    whole = CaseStore.case
    monkeypatch.setattr(case_store.CaseStore, "case", validate)
    assert [case.name for case in desk.recent(5)] == ["two", "one"]
    assert read == []
    desk.change(1, lambda case: case.__class__(**{**vars(case), "name": "other"}))
    read.clear()
    assert [case.name for case in desk.recent(5)] == ["other", "two"]
    assert read == [1]
    desk.drop_case(1)
    assert desk.summary(1) is None
    assert [case.name for case in desk.summaries()] == ["two"]
    desk.close()
