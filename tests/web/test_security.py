"""What a server must not do, whoever asks."""

from __future__ import annotations

import io
import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from bright import HOME, PEOPLE
from PIL import Image
from test_parts import BAD

from visir.web import middleware as guard
from visir.web.bodies import TEXTS, UPLOADS
from visir.web.middleware import CSRF

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-letters"
HERE = {"origin": HOME, "sec-fetch-site": "same-origin"}
TRAVERSAL = (
    "../../etc/passwd", "..%2f..%2fetc%2fpasswd", "....//....//etc/passwd", "/etc/passwd",
    "file:///etc/passwd", "..\\..\\windows\\win.ini", "%2e%2e/%2e%2e/pyproject.toml",
    "1/../../../gallery.sqlite", "1%00.json", "\x00", "'; DROP TABLE items; --", "{{7*7}}",
    "<script>alert(1)</script>", "$(id)", "\U0001f600", "-1", "1e9", "99999999999999999999",
)  # fmt: skip
PLACES = (
    "/api/items/{}", "/api/items/{}/thumbnail", "/api/remarks?item={}", "/?search={}",
    "/items/{}", "/cases/{}", "/api/cases/{}",
    "/static/{}", "/{}", "/?item={}", "/gallery?camera={}", "/gallery?after={}",
    "/audit?before={}", "/api/audit?before={}&count={}",
)  # fmt: skip
SECRETS = ("root:", "[build-system]", "SQLite format", "Traceback", "uid=")


def stray(folder: Path) -> list[Path]:
    """Files that are neither the desk's nor the gallery's."""
    ours = (folder / "desk", folder / "gallery")
    return [path for path in folder.rglob("*") if not any(map(path.is_relative_to, ours))]


# ---- the token


@pytest.mark.parametrize("path", ["/api/gallery", "/api/items/1/thumbnail", "/openapi.json"])
def test_without_the_token_the_api_says_nothing(serve, path: str) -> None:
    client = serve(TOKEN)
    for headers in (
        {}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "},
        {"authorization": TOKEN}, {"cookie": "visir=wrong"}, {"cookie": f"visir={TOKEN}"},
        {"authorization": b"Bearer \xff"},
    ):  # fmt: skip
        answer = client.get(path, headers=headers)
        assert answer.status_code == 401
        assert list(answer.json()) == ["error"]
        assert answer.headers["www-authenticate"] == "Bearer"
    assert client.get(path, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_pages_lead_to_the_login_and_a_cookie_opens_them(serve) -> None:
    client = serve(TOKEN)
    for path in ("/", "/cases", "/items/1", "/audit", "/nothing"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    page = client.get("/login")
    assert page.status_code == client.get("/static/base.css").status_code == 200
    headers = {**HERE, CSRF: client.state.rules.csrf}
    wrong = client.post("/api/login", json={"token": "wrong"}, headers=headers)
    assert wrong.status_code == 401
    done = client.post("/api/login", json={"token": TOKEN}, headers=headers)
    cookie = done.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert client.get("/").status_code == 200
    out = client.post("/api/logout", headers=headers)
    assert out.status_code == 204
    assert client.get("/").status_code == 303
    kept = {"cookie": cookie.partition(";")[0]}
    assert client.get("/", headers=kept).status_code == 303  # a copy of it opens nothing either
    log = client.get("/api/audit", headers={"authorization": f"Bearer {TOKEN}"}).json()
    assert [entry["action"] for entry in log["entries"]] == ["log out", "log in", "login refused"]


def test_a_token_is_compared_in_constant_time(serve, monkeypatch) -> None:
    client, compared = serve(TOKEN), []
    plain = guard.hmac.compare_digest
    monkeypatch.setattr(
        guard.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or plain(a, b)
    )
    client.get("/api/gallery", headers={"authorization": f"Bearer {TOKEN[:-1]}"})
    assert (TOKEN[:-1].encode(), TOKEN.encode()) in compared


# ---- other sites


def test_requests_from_elsewhere_change_nothing(serve) -> None:
    client = serve()
    elsewhere = (
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://["}, {"origin": "http://127.0.0.1:8001"},
        {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"}, {"cookie": "visir=x"}, {CSRF: "guessed"},
        {**HERE, CSRF: "guessed"}, HERE,  # from here, but not by the page's script
    )  # fmt: skip
    requests = (
        ("DELETE", "/api/items/5"), ("POST", "/api/cases"), ("POST", "/api/search/items"),
        ("POST", "/api/search"), ("DELETE", "/api/cases/1"), ("POST", "/api/logout"),
    )  # fmt: skip
    for headers in elsewhere:
        for method, path in requests:
            answer = client.request(method, path, json={"name": "x"}, headers=headers)
            assert answer.status_code == 403, (headers, path)
            assert list(answer.json()) == ["error"]
    assert 5 in client.state.store.get([5])
    assert client.get("/api/audit").json()["lines"] == 0


def test_the_page_s_own_requests_and_programs_pass(serve) -> None:
    client = serve()
    page = {**HERE, CSRF: client.state.rules.csrf}
    assert client.post("/api/cases", json={"name": "x"}, headers=page).status_code == 201
    assert client.post("/api/cases", json={"name": "x"}).status_code == 201
    assert client.state.rules.csrf in client.get("/").text


def test_with_a_token_a_program_needs_it_and_a_page_both(serve) -> None:
    client = serve(TOKEN)
    cookie = {"cookie": f"visir={client.state.rules.sessions.open()}"}
    csrf = {CSRF: client.state.rules.csrf}
    new = {"name": "x"}
    assert client.post("/api/cases", json=new, headers=csrf).status_code == 401
    assert client.post("/api/cases", json=new, headers=cookie).status_code == 403
    assert client.post("/api/cases", json=new, headers={**cookie, **csrf}).status_code == 201
    bearer = {"authorization": f"Bearer {TOKEN}", "origin": "https://tools.example"}
    assert client.post("/api/cases", json=new, headers=bearer).status_code == 201


def test_other_names_than_its_own_are_refused(serve) -> None:
    client = serve()
    right = ("127.0.0.1:8000", "localhost", "[::1]:8000", "192.168.1.7:9", "LOCALHOST")
    wrong = (
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8000", "evil@127.0.0.1",
        "", "[", "127.0.0.1/x", "evil.example#127.0.0.1",
    )  # fmt: skip
    for host in (*right, *wrong):
        answer = client.get("/api/gallery", headers={"host": host})
        assert answer.status_code == (200 if host in right else 400), host


def test_every_answer_has_the_headers_that_protect_it(serve) -> None:
    client = serve()
    for path in ("/", "/api/gallery", "/nothing", "/api/nothing", "/static/base.css", "/audit"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
    assert client.get("/", headers={"host": "evil.example"}).headers["x-frame-options"] == "DENY"


# ---- sizes and load


def endless(size: int) -> Iterator[bytes]:
    yield b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
    for _ in range(size // 65_536 + 1):
        yield b"\x00" * 65_536


def test_too_long_a_body_is_refused_before_it_is_read(serve) -> None:
    client = serve(TOKEN)
    headers = {"content-type": "multipart/form-data; boundary=x"}
    told = client.post("/api/search", content=b"", headers={**headers, "content-length": "9" * 12})
    assert told.status_code == 413  # before anybody asked for the token
    bearer = {**headers, "authorization": f"Bearer {TOKEN}"}
    told = client.post("/api/search", content=endless(UPLOADS), headers=bearer)
    assert told.status_code == 413
    assert "more than 32 MB were sent at once" in told.json()["error"]
    text = client.post(
        "/api/cases", content=b" " * (TEXTS + 1), headers={"authorization": f"Bearer {TOKEN}"}
    )
    assert text.status_code == 413
    odd = client.post("/api/cases", content=b"", headers={"content-length": "x"})
    assert odd.status_code == 413


def test_too_many_requests_at_once_are_asked_to_wait(serve, monkeypatch) -> None:
    client = serve()
    monkeypatch.setattr(guard, "AT_ONCE", 0)
    answer = client.post("/api/search/items", json={"items": [1]})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "2"
    assert client.get("/api/gallery").status_code == 200
    monkeypatch.setattr(guard, "AT_ONCE", 1)
    for _ in range(3):  # a place is given back each time
        assert client.post("/api/search/items", json={"items": [1]}).status_code == 200


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24, 48), (90, 120, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def test_nine_images_are_too_many(serve) -> None:
    client = serve()
    files = [("images", ("a.png", picture()))]
    assert client.post("/api/search", files=files * 8).status_code == 200
    refused = client.post("/api/search", files=files * 9)
    assert refused.status_code == 422
    assert "at most 8 items" in refused.json()["error"]
    assert client.post("/api/search", data={"asked": "{}"}).status_code == 422


@pytest.mark.parametrize("path", ["/api/search", "/api/compare"])
def test_what_is_not_just_an_image_is_refused(serve, path: str) -> None:
    client = serve()
    form = {"asked": '{"items": [1]}'} if path.endswith("compare") else {}
    for kind, (data, said) in BAD.items():
        answer = client.post(path, files=[("images", ("../../x.png", data))], data=form)
        assert answer.status_code == 422, kind
        assert said in answer.json()["error"]
        assert "x.png" not in answer.text


# ---- whatever is sent


def test_no_parameter_opens_a_path(serve, tmp_path: Path) -> None:
    client = serve()
    answers = []
    for text in TRAVERSAL:
        quoted = text.encode("utf-8", "surrogatepass").hex()
        quoted = "".join(f"%{quoted[i : i + 2]}" for i in range(0, len(quoted), 2))
        for path in PLACES:
            answers.append(client.get(path.replace("{}", quoted)))
        asked = {"cameras": [text], "tags": [text], "since": text}
        answers.append(client.post("/api/search/items", json={"items": [1], "asked": asked}))
        answers.append(client.post("/api/search/items", json={"items": [text]}))
        answers.append(client.post("/api/refine", json={"search": text}))
        answers.append(client.post("/api/cases", json={"name": text}))
        answers.append(client.delete(f"/api/items/{quoted}"))
        answers.append(client.post(f"/api/items/{quoted}/original"))
        answers.append(client.delete(f"/api/cases/{quoted}"))
    for answer in answers:
        assert answer.status_code < 500
        assert not any(secret in answer.text for secret in SECRETS)
        assert "<script>alert(1)" not in answer.text or "json" in answer.headers["content-type"]
    assert stray(tmp_path) == []
    assert len(client.state.store.get(list(range(1, 400)))) == PEOPLE * 8


def test_deep_and_odd_json_is_refused(serve) -> None:
    client = serve()
    headers = {"content-type": "application/json"}
    for text in ("[" * 100_000, '{"items":' * 20_000, '{"items": [NaN]}', '{"items": [1e400]}',
                 '{"items": [1], "asked": {"since": "0001-01-01T00:00:00"}}',
                 '{"items": [1], "asked": {"until": 1e300}}',
                 '{"items": [1], "asked": {"surprise": 1}}'):  # fmt: skip
        answer = client.post("/api/search/items", content=text, headers=headers)
        assert answer.status_code in (400, 422), text[:60]
        assert list(answer.json()) == ["error"]
    for text in ("[" * 100_000, '{"k": 0}', '{"k": 201}', '{"min_score": "NaN"}'):
        files = [("images", ("a.png", picture()))]
        answer = client.post("/api/search", files=files, data={"asked": text})
        assert answer.status_code == 422, text[:60]


def bodies(count: int, seed: int) -> Iterator[tuple[str, str, bytes]]:
    """Good requests, each spoilt somewhere: bytes changed, cut out, doubled, or grown."""
    rng = random.Random(seed)
    form = (
        b'--x\r\nContent-Disposition: form-data; name="asked"\r\n\r\n{"k": 5}\r\n--x\r\nContent-'
        b'Disposition: form-data; name="images"; filename="a.png"\r\nContent-Type: image/png\r\n'
        b"\r\n" + picture() + b"\r\n--x--\r\n"
    )
    kept = form.replace(b'"asked"', b'"kept"').replace(b'{"k": 5}', b'{"search":"x","items":[1]}')
    multipart, plain = "multipart/form-data; boundary=x", "application/json"
    items = json.dumps({"items": [1, 2], "asked": {"k": 3, "since": "2026-01-01T00:00:00"}})
    refine = json.dumps({"search": "x", "hits": [1], "misses": [2], "asked": {"tags": ["a"]}})
    good = [
        ("/api/search", multipart, form),
        ("/api/compare", multipart, form.replace(b'{"k": 5}', b'{"items": [1]}')),
        ("/api/cases/1/hits", multipart, kept),
        ("/api/search/items", plain, items.encode()),
        ("/api/refine", plain, refine.encode()),
        ("/api/cases", plain, b'{"name": "night"}'),
        ("/api/login", plain, b'{"token": "night"}'),
    ]
    odd = (b"\xff", b"\x00", b'"', b"{", b"NaN", b"1e999", b"\\ud800", b"null", b"-", b"\r\n--x")
    for _ in range(count):
        path, kind, body = rng.choice(good)
        for _ in range(rng.randint(1, 4)):
            at, to = sorted(rng.randrange(len(body) + 1) for _ in range(2))
            body = rng.choice(
                [
                    body[:at] + body[to:],
                    body[:at] + rng.choice(odd) + body[at:],
                    body[:at] + rng.randbytes(rng.randint(1, 9)) + body[at + 5 :],
                    body[:to] + body[at:],
                ]
            )
        yield path, rng.choice([kind, kind, kind, multipart, plain, ""]), body


def test_two_thousand_spoilt_requests_do_no_harm(serve, tmp_path: Path) -> None:
    client = serve()
    seen = set()
    for path, kind, body in bodies(2000, seed=0):
        answer = client.post(path, content=body, headers={"content-type": kind} if kind else {})
        seen.add(answer.status_code)
        assert answer.status_code < 500, (path, kind, body)
        if answer.status_code >= 400:
            assert list(answer.json()) == ["error"]
            assert "\n" not in answer.json()["error"]
    assert {200, 201, 400, 422} <= seen
    assert client.post("/api/search", files=[("images", ("a", picture()))]).status_code == 200
    assert stray(tmp_path) == []
    assert client.get("/api/audit").json()["broken"] is None
    assert len(client.state.store.get(list(range(1, 400)))) == PEOPLE * 8


def ask_as_its_schema_says(client, operation) -> None:
    """Some requests an operation's schema allows, and some it does not."""

    @hypothesis.settings(
        max_examples=12, derandomize=True, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(case=operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        sent = case.as_transport_kwargs(base_url=HOME)
        sent["files"] = as_sent(sent.get("files"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = client.request(**{name: sent[name] for name in sent.keys() & TAKEN})
        assert answer.status_code < 500
        assert str(answer.status_code) in operation.definition.raw["responses"]

    ask()


def as_sent(part: object) -> object:
    """Parts of a form as httpx takes them: text, bytes, and tuples and lists of them."""
    if isinstance(part, (list, tuple)):
        return type(part)(map(as_sent, part))
    return part if part is None or isinstance(part, (str, bytes, dict)) else str(part)


TAKEN = {"method", "url", "params", "headers", "cookies", "json", "data", "files", "content"}


def test_requests_made_from_the_schema_get_answers_the_schema_has(serve, tmp_path: Path) -> None:
    client = serve()
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:
        ask_as_its_schema_says(client, operation)
    assert stray(tmp_path) == []
    assert client.get("/api/gallery").status_code == 200
