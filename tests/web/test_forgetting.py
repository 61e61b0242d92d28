"""What a server forgets, hour after hour, and what it does when its clock is set."""

from __future__ import annotations

import pytest
from bright import BEGIN, EACH, PEOPLE
from test_api import actions

from visir.web.forgetting import Watch, forget

pytestmark = pytest.mark.slow

DAY = 86_400.0
ALL = PEOPLE * EACH * 4  # images of one night, a minute apart


def test_a_watch_sees_that_a_clock_was_set() -> None:
    clock, steady = [1000.0], [5.0]
    watch = Watch(lambda: clock[0], lambda: steady[0])
    assert watch.now() == (1000, False)  # nothing to compare with
    for passed, counted, right in (
        (3600, 3600, True), (3605, 3600, True), (400 * DAY, 3600, False), (3600, 3600, True),
        (-400 * DAY, 3600, False), (7 * 3600, 3600, False),
    ):  # fmt: skip
        clock[0] += passed
        steady[0] += counted
        assert watch.now() == (clock[0], right)


def test_what_is_old_is_forgotten(serve) -> None:
    client = serve()
    client.state.store.keep_for(30)
    assert client.get("/api/gallery").json()["retention"] == 30
    assert forget(client.state, BEGIN + 30 * DAY + 30) == 1
    assert actions(client) == ["expire"]
    assert client.get("/api/gallery").json()["images"] == ALL - 1
    assert forget(client.state, BEGIN + 30 * DAY + 30) == 0
    assert actions(client) == ["expire"]
    # All of them within an hour, as the clock went on as it must.
    assert forget(client.state, BEGIN + 31 * DAY, steady=True) == ALL - 1


def test_a_clock_set_forward_forgets_nothing_and_says_so(serve) -> None:
    client = serve()
    client.state.store.keep_for(30)
    for steady in (False, True):  # an hour later the clock is still wrong, though it goes on
        assert forget(client.state, BEGIN + 4000 * DAY, steady) == 0
    assert client.get("/api/gallery").json()["images"] == ALL
    (line,) = client.get("/api/audit").json()["entries"]
    assert line["action"] == "expiry refused"
    assert "320 of 320 images are older than 30 days" in line["what"]["why"]
    said = client.get("/api/gallery").json()["doubt"]
    assert said == line["what"]["why"]
    assert "which shows 2036-12-14, so none was deleted" in client.get("/gallery").text
    assert forget(client.state, BEGIN + DAY) == 0  # the clock is right again
    assert client.get("/api/gallery").json()["doubt"] is None
    assert "so none was deleted" not in client.get("/gallery").text
