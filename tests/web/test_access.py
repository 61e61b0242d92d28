"""Who is let in: sessions, wrong tokens, and what a proxy in front may say."""

from __future__ import annotations

import re

import pytest

from visir.core.types import InputError
from visir.web import sessions
from visir.web.middleware import CSRF, Rules
from visir.web.proxies import placed, read_proxies, read_root
from visir.web.sessions import Sessions, Throttle

TOKEN = "a-token-of-twenty-letters"
HERE = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}


class Clock:
    """A clock that is set by hand, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# ---- sessions


def test_a_session_ends_without_requests_and_after_a_day_s_work() -> None:
    clock = Clock()
    known = Sessions(clock)
    first, second = known.open(), known.open()
    assert len(first) == 43  # 256 bits
    assert first != second
    for _ in range(23):  # a request every half an hour, for 11 hours and a half
        clock.now += 30 * 60
        assert known.knows(first)
    assert not known.knows(second)
    clock.now += 30 * 60
    assert known.knows(first)  # 12 hours
    clock.now += 1
    assert not known.knows(first)
    assert not known.knows("")
    assert not known.knows("\udcff")


def test_a_session_that_is_closed_is_unknown_and_so_are_all_after_a_restart() -> None:
    known = Sessions()
    opened = known.open()
    assert not Sessions().knows(opened)
    assert known.close(opened)
    assert not known.knows(opened)
    assert not known.close(opened)


def test_sessions_have_a_most(monkeypatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS", 2)
    known = Sessions()
    opened = [known.open() for _ in range(3)]
    assert [known.knows(one) for one in opened] == [False, True, True]


@pytest.mark.slow
def test_the_cookie_is_secure_where_a_named_proxy_says_https(serve) -> None:
    client = serve(TOKEN, proxies=read_proxies(["127.0.0.1"]), root="/find")
    headers = {**HERE, CSRF: client.state.rules.csrf}
    plain = client.post("/api/login", json={"token": TOKEN}, headers=headers)
    cookie = plain.headers["set-cookie"]
    assert re.fullmatch(
        r"visir=[\w-]{43}; HttpOnly; Path=/find; SameSite=strict", cookie, re.ASCII
    ), cookie
    headers["x-forwarded-proto"] = "https"
    https = client.post("/api/login", json={"token": TOKEN}, headers=headers)
    assert https.headers["set-cookie"].endswith("; Secure")
    assert https.headers["set-cookie"].split(";")[0] != cookie.split(";")[0]


# ---- wrong tokens


def test_an_address_that_sends_wrong_tokens_waits_longer_each_time() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    for _ in range(5):
        assert throttle.attempt("10.0.0.1", lambda: False).wait == 0
    waits = []
    for _ in range(8):
        told = throttle.attempt("10.0.0.1", lambda: True)  # not looked at
        assert not told.right
        waits.append(told.wait)
        clock.now += told.wait
        assert throttle.attempt("10.0.0.1", lambda: False).wait == 0
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    assert throttle.attempt("10.0.0.2", lambda: True).right
    clock.now += 60
    assert throttle.attempt("10.0.0.1", lambda: True).right
    assert throttle.attempt("10.0.0.1", lambda: False).wait == 0  # it begins anew


def test_all_addresses_of_a_customer_s_network_are_one() -> None:
    throttle = Throttle(Clock())
    for last in range(5):
        throttle.attempt(f"2001:db8::{last}", lambda: False)
    assert throttle.attempt("2001:db8::ffff", lambda: True).wait == 1
    assert throttle.attempt("2001:db8:0:1::1", lambda: True).right


def test_all_together_have_a_most_a_minute_and_few_lines_of_the_log() -> None:
    clock = Clock()
    throttle = Throttle(clock)
    told = [throttle.attempt(f"10.0.1.{n}", lambda: False) for n in range(150)]
    assert sum(one.wait == 0 for one in told) == 100
    assert [one.failures for one in told] == [1] * 10 + [0] * 140
    assert told[-1].wait == 60
    clock.now += 61
    assert throttle.attempt("10.0.2.1", lambda: False).failures == 91  # 90 had no line
    assert throttle.attempt("10.0.2.2", lambda: True).right


@pytest.mark.slow
def test_wrong_tokens_are_slowed_down_at_the_login_and_at_the_api(serve, monkeypatch) -> None:
    client = serve(TOKEN)
    monkeypatch.setattr(client.state.rules.throttle, "_clock", Clock())  # no time passes
    client.state.rules.sessions.open()
    page = {**HERE, CSRF: client.state.rules.csrf}
    for _ in range(3):
        wrong = client.post("/api/login", json={"token": "wrong"}, headers=page)
        assert wrong.status_code == 401
    for _ in range(2):
        assert client.get("/api/gallery", headers={"authorization": "Bearer x"}).status_code == 401
    right = {"authorization": f"Bearer {TOKEN}"}
    for answer in (
        client.get("/api/gallery", headers=right),
        client.post("/api/login", json={"token": TOKEN}, headers=page),
    ):
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {"error": "too many wrong tokens; try again in 1 second"}
    cookie = {"cookie": f"visir={client.state.rules.sessions.open()}"}
    log = client.get("/api/audit", headers=cookie).json()
    assert [(line["action"], line["what"], line["remote"]) for line in log["entries"]] == [
        ("login refused", {"times": 1}, "127.0.0.1")
    ] * 5


# ---- proxies


def seen(peer: str, *forwarded: str, proxies: tuple[str, ...] = ("10.0.0.0/30", "::1")) -> str:
    """The address a request is said to come from."""
    headers = [(b"x-forwarded-for", text.encode()) for text in forwarded]
    scope = {"type": "http", "path": "/", "raw_path": b"/", "headers": headers}
    found = placed({**scope, "client": (peer, 4711)}, "", read_proxies(proxies))
    return found["client"][0]


def test_only_a_named_proxy_is_believed_and_only_an_address() -> None:
    assert seen("192.0.2.7", "203.0.113.5") == "192.0.2.7"
    assert seen("127.0.0.1", "203.0.113.5", proxies=()) == "127.0.0.1"
    assert seen("10.0.0.2", "203.0.113.5") == "203.0.113.5"
    assert seen("::ffff:10.0.0.2", "203.0.113.5") == "203.0.113.5"
    assert seen("::1", "[2001:db8::9]:443") == "2001:db8::9"
    assert seen("10.0.0.2", "203.0.113.5:80") == "203.0.113.5"
    # What a client wrote itself stands before what the proxies added.
    assert seen("10.0.0.2", "198.51.100.1, 203.0.113.5, 10.0.0.1") == "203.0.113.5"
    assert seen("10.0.0.2", "198.51.100.1", "203.0.113.5") == "203.0.113.5"
    for text in ("", "unknown", "<b>Ada</b>", "203.0.113.5 admin", "203.0.113.300", "_hidden"):
        assert seen("10.0.0.2", text) == "10.0.0.2", text
    assert seen("10.0.0.2", "nobody, 10.0.0.1") == "10.0.0.1"


@pytest.mark.slow
def test_the_log_has_the_address_of_a_client_behind_a_named_proxy(serve) -> None:
    client = serve(proxies=read_proxies(["127.0.0.1"]))
    for text in ("203.0.113.5", "free text"):
        client.post("/api/cases", json={"name": "x"}, headers={"x-forwarded-for": text})
    lines = client.get("/api/audit").json()["entries"]
    assert [line["remote"] for line in lines] == ["127.0.0.1", "203.0.113.5"]


@pytest.mark.slow
def test_without_a_named_proxy_nobody_is_believed(serve) -> None:
    client = serve(TOKEN)
    headers = {**HERE, CSRF: client.state.rules.csrf, "x-forwarded-for": "203.0.113.5"}
    headers["x-forwarded-proto"] = "https"
    answer = client.post("/api/login", json={"token": TOKEN}, headers=headers)
    assert "Secure" not in answer.headers["set-cookie"]
    assert client.get("/api/audit").json()["entries"][0]["remote"] == "127.0.0.1"


def test_proxies_and_roots_that_are_none_are_refused() -> None:
    for name in ("proxy.example", "10.0.0.300", "10.0.0.1/8", ""):
        with pytest.raises(InputError, match=f"trusted-proxy: '{name}' is no address; give one as"):
            read_proxies([name])
    for path in ("visir", "/api", "/static/x", "/a b", "/..", "/a/../b", "/é", "//a"):
        with pytest.raises(InputError, match=f"root-path: '{path}' cannot be used; give a path"):
            read_root(path)
    assert [read_root(path) for path in ("", "/", "/find", "/a/b.c/")] == [
        "",
        "",
        "/find",
        "/a/b.c",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("passed_on", ["", "/find/us"])
def test_everything_works_below_a_path(serve, passed_on: str) -> None:
    client = serve(TOKEN, root="/find/us")
    answer = client.get(f"{passed_on}/cases")
    assert (answer.status_code, answer.headers["location"]) == (303, "/find/us/login")
    headers = {**HERE, CSRF: client.state.rules.csrf}
    done = client.post(f"{passed_on}/api/login", json={"token": TOKEN}, headers=headers)
    client.cookies.clear()
    opened = {"cookie": done.headers["set-cookie"].split(";")[0]}
    for path in ("/", "/?item=5", "/cases", "/gallery", "/items/5", "/audit", "/nothing"):
        page = client.get(f"{passed_on}{path}", headers=opened)
        assert page.status_code == (404 if path == "/nothing" else 200)
        links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
        assert links
        assert all(link.startswith("/find/us/") for link in links), links
    for path in ("/static/base.css", "/static/search.js", "/api/items/5/thumbnail"):
        answer = client.get(f"{passed_on}{path}", headers=opened)
        assert answer.status_code == 200
        assert '"/static' not in answer.text
    found = client.post(
        f"{passed_on}/api/search/items", json={"items": [5]},
        headers={**opened, **headers, "accept": "text/html"},
    )  # fmt: skip
    assert 'src="/find/us/api/items/' in found.text
    assert client.get(f"{passed_on}/api/nothing", headers=opened).json() == {
        "error": "there is no such page"
    }
    assert client.get(f"{passed_on}/openapi.json", headers=opened).json()["servers"] == [
        {"url": "/find/us"}
    ]


@pytest.mark.slow
def test_a_name_of_a_proxy_is_a_name_of_the_server(serve) -> None:
    client = serve(names=("desk.example.org",))
    for host, status in (("desk.example.org", 200), ("DESK.example.org:443", 200), ("x.org", 400)):
        assert client.get("/api/gallery", headers={"host": host}).status_code == status
    assert Rules("127.0.0.1", None).names == ()
