"""The ready model behind `visir serve`: started by the command, asked, and stopped."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
import uvicorn

from visir import cli
from visir.synth.write import synthesise
from visir.web.client import Client

pytestmark = pytest.mark.slow


def test_the_ready_model_is_served(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    synthesise(Path("people"), ids=4, train_ids=2, images=1, size="96x48", progress=False)
    assert cli.main(["index", "add", "site", "people", "--run", "builtin"]) == 0
    (query,) = sorted(Path("people/cam3").glob("0002/*.jpg"))
    real, found, pages = uvicorn.Server.run, [], []

    def run(server: uvicorn.Server, sockets: list) -> None:
        thread = threading.Thread(target=real, args=(server, sockets), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
        with urlopen(url) as page, Client(url) as client:
            pages.append(page.read().decode())
            found.append(client.search([query], k=4))
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()

    monkeypatch.setattr(uvicorn.Server, "run", run)
    capsys.readouterr()
    assert cli.main(["serve", "builtin", "--gallery", "site", "--port", "0"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("http://127.0.0.1:")
    caution = "The ready model has seen synthetic people only"
    assert caution in said.err and caution in pages[0]
    best = found[0].hits[0].item
    assert best.modality == "visible" and "/0002/" in best.source
