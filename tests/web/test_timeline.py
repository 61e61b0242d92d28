"""The drawing of a case: who was where when."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from test_cases import keep
from test_parts import a_search

from visir.web.schemas import Case, Item, KeptHit
from visir.web.timeline import timeline

pytestmark = pytest.mark.slow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch):
    """Local times are those written here."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def case(*kept: tuple[str, float | None], search: str = "s", **changes) -> Case:
    """A case of hits: camera, and minutes after noon; each of its own image."""
    hits = []
    for number, (camera, minutes) in enumerate(kept, start=1):
        when = None if minutes is None else NOON + timedelta(minutes=minutes)
        side = "infrared" if camera == "yard" else "visible"
        item = Item(100 + number, "x", camera, side, when, (), NOON)
        hits.append(KeptHit(number, item, 1, 0.84, 0.8, "", "Ada", NOON, search, None))
    return replace(Case(1, "x", "", NOON), kept=tuple(hits), searches=(a_search(),), **changes)


def test_a_row_a_camera_in_the_order_they_saw_somebody() -> None:
    plan = timeline(case(("yard", 60), ("gate", 0), ("gate", 30), ("hall", 15)))
    assert [row.camera for row in plan.rows] == ["gate", "hall", "yard"]
    assert [row.y for row in plan.rows] == [34, 78, 122]
    assert (plan.width, plan.height) == (834, 12 + 3 * 44 + 34)
    # From 150 to 790 in 60 minutes.
    assert [[(one.x, one.label) for one in row.markers] for row in plan.rows] == [
        [(150, "2"), (470, "3")], [(310, "4")], [(790, "1")],
    ]  # fmt: skip
    assert [seen.item.id for seen in plan.seen] == [102, 104, 103, 101]
    assert [tick[:2] for tick in plan.ticks] == [
        (150, "12:00"), (310, "12:15"), (470, "12:30"), (630, "12:45"), (790, "13:00"),
    ]  # fmt: skip
    assert [tick.date for tick in plan.ticks] == ["2026-01-01", "", "", "", ""]


def test_marks_that_would_cover_each_other_are_one() -> None:
    # 5 minutes are 53 units, 6 minutes 64.
    plan = timeline(case(("gate", 0), ("gate", 5), ("gate", 6), ("gate", 60), ("yard", 5)))
    assert [(one.x, one.label) for one in plan.rows[0].markers] == [
        (150, "1 +1"), (214, "3"), (790, "4"),
    ]  # fmt: skip
    assert [seen.item.id for seen in plan.rows[0].markers[0].seen] == [101, 102]
    assert [one.width for one in plan.rows[0].markers] == [50, 26, 26]
    assert [one.label for one in plan.rows[1].markers] == ["5"]


def test_an_image_that_two_searches_found_is_there_once() -> None:
    found = case(("gate", 0), ("gate", 60))
    second = replace(found.kept[1], item=found.kept[0].item, search="t", score=0.5)
    searches = (a_search(), replace(a_search("t"), threshold=None))
    plan = timeline(replace(found, kept=(found.kept[0], second), searches=searches))
    (seen,) = plan.seen
    assert [tuple(hit) for hit in seen.hits] == [(1, "search 1, 84 %"), (2, "search 2, 0.500")]
    assert [one.label for one in plan.rows[0].markers] == ["1"]


def test_one_moment_is_in_the_middle() -> None:
    plan = timeline(case(("gate", 0), ("yard", 0)))
    assert [[one.x for one in row.markers] for row in plan.rows] == [[470], [470]]
    assert [tuple(tick) for tick in plan.ticks] == [(470, "12:00", "2026-01-01")]


def test_images_without_a_time_are_in_the_list_only() -> None:
    plan = timeline(case(("gate", None), ("hall", 0)))
    assert [row.camera for row in plan.rows] == ["hall"]
    assert [seen.item.camera for seen in plan.seen] == ["hall", "gate"]
    alone = timeline(case(("gate", None)))
    assert (alone.rows, alone.ticks, len(alone.seen)) == ((), (), 1)
    assert timeline(Case(1, "x", "", NOON)).seen == ()


@pytest.mark.parametrize(
    ("minutes", "texts"),
    [
        (0.1, ["12:00", "12:00:05"]),
        (2, ["12:00", "12:00:30", "12:01", "12:01:30", "12:02"]),
        (7 * 60, ["12:00", "15:00", "18:00"]),
        (36 * 60, ["12:00", "00:00", "12:00", "00:00"]),
    ],
)
def test_ticks_are_round_moments(minutes: float, texts: list[str]) -> None:
    assert [tick.text for tick in timeline(case(("a", 0), ("a", minutes))).ticks] == texts


def test_ticks_name_a_date_where_it_is_another() -> None:
    ticks = timeline(case(("a", 0), ("a", 36 * 60))).ticks
    assert [tick.date for tick in ticks] == ["2026-01-01", "2026-01-02", "", "2026-01-03"]


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_a_clock_that_is_far_off_is_drawn(year: int) -> None:
    found = case(("a", 0), ("b", 10))
    moment = datetime(year, 6, 1, tzinfo=UTC)
    item = replace(found.kept[0].item, time=moment)
    plan = timeline(replace(found, kept=(replace(found.kept[0], item=item), found.kept[1])))
    assert {one.x for row in plan.rows for one in row.markers} == {150, 790}
    assert 1 <= len(plan.ticks) <= 6


def test_all_ticks_lie_between_the_first_and_the_last_moment() -> None:
    for minutes in (0.02, 0.4, 3, 11, 59, 61, 200, 1000, 5000, 50_000, 500_000, 5_000_000):
        ticks = timeline(case(("a", 0.013), ("a", 0.013 + minutes))).ticks
        assert 1 <= len(ticks) <= 6, minutes
        assert all(150 <= tick.x <= 790 for tick in ticks)
        assert all(b.x - a.x >= 60 for a, b in pairwise(ticks))


# ---- on the page and in the export


def test_a_case_shows_it_and_so_does_its_export(serve, crop) -> None:
    client = serve()
    found = keep(client, crop)
    told = [
        f"{datetime.fromisoformat(hit['item']['time']):%Y-%m-%d %H:%M:%S}, camera "
        f"{hit['item']['camera']}, visible: no. {hit['number']} (search 1, "
        for hit in found["kept"]
    ]
    page = client.get("/cases/1").text
    export = client.post("/api/cases/1/export").text
    for text in (page, export):
        assert "Who was where when" in text
        assert text.count("<svg") == 1
        listed = re.findall(r"<li>(\d{4}[^<]*)</li>", text)
        assert len(listed) == 2
        assert sorted(listed) == listed
        assert all(any(one.startswith(start) for one in listed) for start in told)
        assert "Search 1, 2" in text
        assert "no. 2, rank 2" in text
    assert "<details open>" in export
    assert "<details>" in page
    for number in (1, 2):
        client.delete(f"/api/cases/1/hits/{number}")
    assert "Who was where when" not in client.get("/cases/1").text


def test_names_of_cameras_are_escaped_in_the_drawing(serve, crop) -> None:
    client = serve()
    keep(client, crop)
    client.state.case_store.change(1, lambda known: replace(known, kept=tuple(
        replace(hit, item=replace(hit.item, camera="<b>gate & a very long name"))
        for hit in known.kept
    )))  # fmt: skip
    page = client.get("/cases/1").text
    assert "<b>gate" not in page
    assert "&lt;b&gt;gate &amp; a very …" in page
    assert "<title>camera &lt;b&gt;gate &amp; a very long name</title>" in page
