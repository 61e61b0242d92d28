"""Starting a server, and asking a real one with the Python client."""

from __future__ import annotations

import http.client
import io
import json
import socket
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
import threadpoolctl
from bright import CALIBRATION, EACH, PEOPLE, BrightEmbedder, listening
from PIL import Image

import visir.embedding.pytorch
from visir import cli
from visir.core.types import InputError
from visir.gallery.sqlite import SqliteStore
from visir.web import client
from visir.web import serve as serving
from visir.web.client import Client

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-letters"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose embedder knows clothes by their brightness."""
    monkeypatch.setattr(visir.embedding.pytorch, "load", lambda run, device: BrightEmbedder())
    (tmp_path / "run").mkdir()
    CALIBRATION.save(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list:
    """Servers that were to be run."""
    found = []

    def remember(server, sockets) -> None:
        found.extend([server.config.app, sockets[0].getsockname()])

    monkeypatch.setattr("uvicorn.Server.run", remember)
    return found


def test_on_this_machine_the_address_is_all_that_is_said(run, filled, started, tmp_path) -> None:
    said: list[str] = []
    serving.serve(run, str(filled), port=0, desk=tmp_path / "desk", say=said.append)
    guard, address = started
    assert said == [f"http://127.0.0.1:{address[1]}/"]
    assert guard.rules.token is None
    state = guard.app.state.visir
    assert state.service.threshold == CALIBRATION.threshold
    assert not state.blur


def test_products_of_numpy_have_one_thread_while_it_serves(
    run, filled, tmp_path, monkeypatch
) -> None:
    found: list[int] = []

    def threads() -> list[int]:
        info = threadpoolctl.threadpool_info()
        return [one["num_threads"] for one in info if one["user_api"] == "blas"]

    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: found.extend(threads()))
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        assert 2 in threads()
        serving.serve(run, str(filled), port=0, desk=tmp_path / "desk")
        assert found and set(found) == {1}
        assert 2 in threads()


def test_elsewhere_a_token_is_made_and_printed_once(run, filled, started, tmp_path) -> None:
    said: list[str] = []
    serving.serve(run, str(filled), host="0.0.0.0", port=0, desk=tmp_path / "desk", say=said.append)
    assert [line.split(":")[0] for line in said] == ["http", "token"]
    assert said[1] == f"token: {started[0].rules.token}"
    assert len(started[0].rules.token) >= 32


def test_a_token_file_is_taken_and_not_printed(run, filled, started, tmp_path) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    said: list[str] = []
    serving.serve(
        run,
        str(filled),
        host="0.0.0.0",
        port=0,
        desk=tmp_path / "d",
        token_file=tmp_path / "token",
        say=said.append,
    )
    assert started[0].rules.token == TOKEN
    assert len(said) == 1
    assert TOKEN not in said[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("short", "one word of 16 letters and figures or more"),
        ("two words of enough letters", "one word of 16 letters"),
        (None, "cannot be read; give a text file with the token in it"),
    ],
)
def test_a_weak_token_is_refused(run, filled, tmp_path, text, said) -> None:
    if text is not None:
        (tmp_path / "token").write_text(text)
    with pytest.raises(InputError, match=said):
        serving.serve(run, str(filled), token_file=tmp_path / "token", desk=tmp_path / "d")


def test_what_cannot_be_served_is_refused(run, filled, started, tmp_path, monkeypatch) -> None:
    with pytest.raises(InputError, match="holds no gallery"):
        serving.serve(run, str(tmp_path))
    with pytest.raises(
        InputError, match="retention: 0 days would delete every image; give more than 0"
    ):
        serving.serve(run, str(filled), retention=0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port} "):
            serving.serve(run, str(filled), port=port, desk=tmp_path / "d")
    monkeypatch.setattr(serving, "NEEDED", ("a_package_nobody_has",))
    with pytest.raises(InputError, match=r'not installed.*pip install "visir\[serve\]"'):
        serving.serve(run, str(filled))


def test_the_retention_given_becomes_the_gallery_s(run, filled, started, tmp_path) -> None:
    serving.serve(run, str(filled), port=0, desk=tmp_path / "d", retention=90)
    store = SqliteStore(filled)
    assert store.stats().retention == 90
    store.keep_for(None)
    store.close()


def test_the_desk_is_the_owner_s_alone(serve, tmp_path: Path) -> None:
    serve().post("/api/cases", json={"name": "x"})
    for path, mode in ((tmp_path / "desk", 0o700), (tmp_path / "desk" / "audit.jsonl", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_the_verb_takes_what_the_function_takes(monkeypatch) -> None:
    from visir.commands import serve as commands

    given = []
    monkeypatch.setattr(serving, "serve", lambda *a, **k: given.append((a, k)))
    assert cli.main(["serve", "run", "--gallery", "g", "--port", "1", "--blur"]) == 0
    assert given == [
        (
            (Path("run"), "g"),
            {
                "host": "127.0.0.1",
                "port": 1,
                "desk": None,
                "token_file": None,
                "runtime": "torch",
                "blur": True,
                "retention": None,
                "trusted_proxy": (),
                "root_path": "",
                "server_name": (),
                "device": "auto",
                "say": commands._print_now,
            },
        ),
    ]


# ---- the client, and a real server


def test_the_client_does_what_the_api_does(serve, crop, tmp_path: Path) -> None:
    served = serve(TOKEN)
    (tmp_path / "crop.png").write_bytes(crop(3))
    picture = Image.open(io.BytesIO(crop(3)))
    with listening(served.app) as url, Client(url, TOKEN, operator="Zoë") as asked:
        stats = asked.stats()
        assert stats.images == PEOPLE * EACH * 4
        found = asked.search(
            [tmp_path / "crop.png", crop(3), picture],
            k=10,
            cameras=["gate"],
            until=datetime(2027, 1, 1, tzinfo=UTC),
        )
        assert len(found.hits) == 10
        assert any("person-3" in hit.item.tags for hit in found.hits)
        assert {query.sha256 for query in found.search.queries[:2]} == {
            found.search.queries[0].sha256
        }
        best, second = (hit.item.id for hit in found.hits[:2])
        again = asked.refine(found, hits=[best], misses=[second])
        assert second not in [hit.item.id for hit in again.hits]
        by_item = asked.search_items([best], k=3, since=datetime(2026, 1, 1, tzinfo=UTC))
        assert by_item.hits[0].item.modality == "infrared"
        told = asked.compare(best, crop(3))
        assert told.sides[1].item is not None
        assert told.sides[1].item.id == best
        assert asked.compare(best, second, maps=False).sides[0].map is None
        assert asked.item(best).id == best
        assert Image.open(io.BytesIO(asked.thumbnail(best))).size == (24, 48)
        with pytest.raises(InputError, match="the gallery has no image 99999"):
            asked.item(99_999)
        with pytest.raises(InputError, match="image 1: not an image"):
            asked.search([b"text"])
        with pytest.raises(InputError, match=r"none\.png: cannot be read"):
            asked.search([tmp_path / "none.png"])
        with Client(url) as stranger, pytest.raises(InputError, match="a token is needed"):
            stranger.stats()
    log = served.state.case_store.audit
    assert "Zo\\u00eb" in log.path.read_text()


def test_the_client_names_a_server_that_is_not_there(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:{port}: cannot be reached .*visir serve"):
        Client(f"http://127.0.0.1:{port}").stats()
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(InputError, match=r'httpx is not installed.*"visir\[serve\]"'):
        Client("http://127.0.0.1")


def test_the_client_names_a_server_that_is_another(monkeypatch) -> None:
    async def other(scope, receive, send) -> None:
        if scope["type"] == "lifespan":
            return
        await send({"type": "http.response.start", "status": other.status, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

    other.status = 200
    with listening(other) as url, Client(url) as asked:
        with pytest.raises(InputError, match="its answer does not fit this version of visir"):
            asked.stats()
        other.status = 418
        with pytest.raises(InputError, match="answered with status 418, which"):
            asked.stats()
    assert client.__doc__


def test_a_real_server_breaks_off_what_is_too_long(serve) -> None:
    served = serve()
    with listening(served.app) as url:
        host = url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.putrequest("POST", "/api/cases")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        for _ in range(5):  # 320 kB, unannounced
            connection.send(chunk)
        answer = connection.getresponse()
        assert answer.status == 413
        assert "more than 256 kB" in json.loads(answer.read())["error"]
        connection.close()
        with Client(url) as asked:
            assert asked.stats().images == PEOPLE * EACH * 4
