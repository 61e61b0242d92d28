"""A served gallery of forty drawn people: a client in this process, and what lies behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from bright import (
    CALIBRATION,
    EACH,
    HOME,
    PEOPLE,
    BrightEmbedder,
    TestClient,
    drawn,
    fill,
    listening,
)
from browsing import PERSON
from chromium import chromium
from playwright.sync_api import Page

from visir.gallery.sqlite import SqliteStore
from visir.web.app import create_app
from visir.web.case_store import CaseStore
from visir.web.middleware import Rules
from visir.web.service import SearchService
from visir.web.state import AppState


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery folder that is only copied."""
    root = tmp_path_factory.mktemp("filled")
    fill(root / "gallery", root / "images", PEOPLE, EACH).close()
    return root / "gallery"


Serve = Callable[..., TestClient]


@pytest.fixture
def serve(filled: Path, tmp_path: Path) -> Iterator[Serve]:
    """Make a client of a server with its own gallery and desk; `client.state` lies behind it."""
    opened = []

    def serving(
        token: str | None = None,
        blur: bool = False,
        calibrated: bool = True,
        home: str = HOME,
        **rules: object,
    ) -> TestClient:
        shutil.copytree(filled, tmp_path / "gallery")
        store = SqliteStore(tmp_path / "gallery")
        service = SearchService(BrightEmbedder(), store, CALIBRATION if calibrated else None)
        known = Rules("127.0.0.1", token, **rules)
        state = AppState(service, CaseStore(tmp_path / "desk"), known, blur)
        opened.append(state)
        client = TestClient(
            create_app(state),
            base_url=home,
            raise_server_exceptions=False,
            follow_redirects=False,
            client=("127.0.0.1", 50_000),
        )
        client.state = state
        return client

    yield serving
    for state in opened:
        state.case_store.close()
        state.service.close()
        state.store.close()


@pytest.fixture(scope="session")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., bytes]:
    """The file of an image of a person that is in no gallery."""
    folder = tmp_path_factory.mktemp("crops")

    def crop(pid: int, infrared: bool = True) -> bytes:
        return drawn(folder, pid, infrared, 99).read_bytes()

    return crop


@pytest.fixture(scope="module")
def crowd(once, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A server of 250 people, 8 images of each, and a browser."""
    root = tmp_path_factory.mktemp("crowd")
    made = once("crowd", lambda to: fill(to / "gallery", to / "images", 250, 2).close())
    store = SqliteStore(shutil.copytree(made / "gallery", root / "gallery"))
    assert store.count() == 2000
    service = SearchService(BrightEmbedder(), store, CALIBRATION)
    state = AppState(service, CaseStore(root / "desk"), Rules("127.0.0.1", None), False)
    query = drawn(root / "queries", PERSON, True, 99)
    with listening(create_app(state)) as url, chromium() as browser:
        yield SimpleNamespace(browser=browser, url=url, state=state, query=query, root=root)
    state.case_store.close()
    store.close()


@pytest.fixture
def page(crowd: SimpleNamespace) -> Iterator[Page]:
    """A page; when it is closed nothing may have left this machine or gone wrong in it."""
    context = crowd.browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: said.type in ("error", "warning") and wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(40_000)
    yield page
    context.close()
    assert asked
    away = [url for url in asked if not url.startswith((crowd.url, "data:", "blob:"))]
    assert away == []
    assert wrong == []
