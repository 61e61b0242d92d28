"""A served gallery of forty drawn people: a client in this process, and what lies behind it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bright import CALIBRATION, EACH, HOME, PEOPLE, BrightEmbedder, TestClient, drawn, fill

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
