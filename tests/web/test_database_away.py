"""A server whose gallery is in PostgreSQL, while the database is stopped and started again."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from bright import BrightEmbedder, TestClient, drawn

from visir.core.types import Modality
from visir.gallery.open import open_gallery
from visir.gallery.store import model_of
from visir.sources.crop import Entry
from visir.web.app import create_app
from visir.web.case_store import CaseStore
from visir.web.forgetting import forget
from visir.web.middleware import Rules
from visir.web.service import SearchService
from visir.web.state import AppState

pytestmark = pytest.mark.slow

SENTENCE = "the gallery's database does not answer; try again soon, and if that lasts, start it"


@pytest.fixture
def client(stoppable: Any, tmp_path: Any) -> Iterator[TestClient]:
    """A server of twelve people in two modalities."""
    with psycopg.connect(stoppable.address, autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS vector")
    store, embedder = open_gallery(stoppable.address, create=True), BrightEmbedder()
    for kind in Modality:
        paths = [drawn(tmp_path / "i", pid, kind is Modality.INFRARED, 0) for pid in range(12)]
        entries = [Entry(str(path), "gate", kind, 1.8e9, (), b"jpeg") for path in paths]
        store.add(model_of(embedder), entries, embedder.embed(paths, kind))
    store.keep_for(1000)
    service = SearchService(embedder, store, None)
    state = AppState(service, CaseStore(tmp_path / "desk"), Rules("127.0.0.1", None), False)
    with TestClient(
        create_app(state), base_url="http://127.0.0.1:8000", raise_server_exceptions=False,
        client=("127.0.0.1", 50_000),
    ) as client:  # fmt: skip
        client.state = state
        yield client
    state.case_store.close()
    service.close()
    store.close()


def search(client: TestClient, data: bytes) -> Any:
    return client.post("/api/search", files=[("images", ("x", io.BytesIO(data)))])


def until(answers: Callable[[], bool]) -> None:
    for _ in range(100):
        if answers():
            return
        time.sleep(0.1)
    raise AssertionError("it does not come back")


def test_it_says_503_while_the_database_is_gone_and_answers_again_after(
    client: TestClient, stoppable: Any, tmp_path: Any
) -> None:
    crop = drawn(tmp_path / "q", 3, True, 99).read_bytes()
    first = search(client, crop)
    assert first.status_code == 200 and len(first.json()["hits"]) == 12
    stoppable.stop()
    for ask in (
        lambda: search(client, crop),
        lambda: client.get("/api/items/1"),
        lambda: client.get("/api/items/1/thumbnail"),
        lambda: client.delete("/api/items/1"),
        lambda: client.post("/api/search/items", json={"items": [1]}),
    ):
        answer = ask()
        assert (answer.status_code, answer.json()) == (503, {"error": SENTENCE})
        assert int(answer.headers["retry-after"]) > 0
    page = client.get("/items/1")
    assert page.status_code == 503 and SENTENCE[1:] in page.text.replace("&#39;", "'")
    assert client.get("/cases").status_code == 200  # it needs no database
    assert client.get("/static/base.css").status_code == 200
    stoppable.start()
    until(lambda: search(client, crop).status_code == 200)
    assert search(client, crop).json()["hits"] == first.json()["hits"]
    assert client.get("/items/1").status_code == 200  # nothing was deleted
    assert forget(client.state, 1.8e9) == 0


def test_a_restart_between_two_requests_is_not_noticed(
    client: TestClient, stoppable: Any, tmp_path: Any
) -> None:
    crop = drawn(tmp_path / "q", 3, True, 99).read_bytes()
    assert search(client, crop).status_code == 200
    stoppable.stop()
    stoppable.start()
    assert search(client, crop).status_code == 200
