"""The file of a gallery image: who sees it, and what is never opened."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from bright import BrightEmbedder, TestClient
from PIL import Image

from visir.core.types import Modality, Span
from visir.gallery.store import model_of
from visir.sources.crop import Entry
from visir.sources.marks import Marks
from visir.web.client import Client
from visir.web.middleware import CSRF
from visir.web.rendering import file_name

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-twenty-letters"
GONE = (
    "image 321: its file is not there any more, or cannot be opened; the thumbnail is all there is "
    "to show"
)


def added(client: TestClient, source: str | Path, **facts: object) -> int:
    """The id of one more image of the gallery."""
    pixels = np.zeros((1, 48, 24, 3), np.uint8)
    entry = Entry(str(source), "gate", Modality.VISIBLE, **facts)
    embedder = BrightEmbedder()
    vectors = embedder.embed_pixels(pixels, Modality.VISIBLE)
    (item,) = client.state.store.add(model_of(embedder), [entry], vectors)
    assert item == 321
    return item


def large(path: Path, level: int = 200) -> Path:
    """An image of 300 x 100 pixels, more than a thumbnail has."""
    exif = Image.Exif()
    exif[0x010E] = "secret"
    Image.new("RGB", (100, 300), (level, 40, 40)).save(path, exif=exif)
    return path


def asked(client: TestClient, item: int):
    return client.post(f"/api/items/{item}/original")


def refused(client: TestClient, source: str | Path, status: int, sentence: str, **facts) -> None:
    answer = asked(client, added(client, source, **facts))
    assert (answer.status_code, answer.json()) == (status, {"error": sentence})
    assert client.get("/api/audit").json()["lines"] == 0


def test_the_file_is_shown_at_its_size_and_the_log_says_so(serve, tmp_path) -> None:
    client = serve()
    item = added(client, large(tmp_path / "a.png"))
    answer = asked(client, item)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.size == (100, 300)
    assert np.abs(np.asarray(picture)[150, 50].astype(int) - (200, 40, 40)).max() < 6
    assert b"secret" not in answer.content
    (line,) = client.get("/api/audit").json()["entries"]
    assert (line["action"], line["what"]) == ("open original", {"item": 321})
    assert asked(client, 99_999).json() == {
        "error": "the gallery has no image 99999; it may be deleted"
    }


def test_a_blurring_server_blurs_it(serve, tmp_path) -> None:
    client = serve(blur=True)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 100, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    answer = asked(client, added(client, tmp_path / "a.png"))
    shown = np.asarray(Image.open(io.BytesIO(answer.content)))
    assert shown[4:16, 4:16].std(axis=(0, 1)).max() < 12
    assert shown[200:220, 4:16].std(axis=(0, 1)).min() > 30


def test_sixteen_bits_are_shown_by_their_camera_s_range(serve, tmp_path) -> None:
    client = serve()
    Image.fromarray(np.full((40, 20), 4000, np.uint16)).save(tmp_path / "a.png")
    item = added(client, tmp_path / "a.png")
    client.state.store.keep_ranges({"visible/gate": Span(0, 8000)})
    shown = np.asarray(Image.open(io.BytesIO(asked(client, item).content)))
    assert abs(int(shown[20, 10, 0]) - 128) <= 1


def test_a_file_that_is_gone_is_said_to_be(serve, tmp_path) -> None:
    refused(serve(), tmp_path / "gone.png", 404, GONE)


def test_a_name_that_is_no_path_here_is_not_opened(serve, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    large(tmp_path / "a.png")
    refused(serve(), "a.png", 404, GONE)


def test_a_link_and_a_folder_of_links_are_not_followed(serve, tmp_path) -> None:
    large(tmp_path / "other.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "other.png")
    refused(serve(), tmp_path / "a.png", 404, GONE)


def test_a_folder_that_is_a_link_now_is_not_followed(serve, tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    large(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "crops").symlink_to(tmp_path / "elsewhere")
    refused(serve(), tmp_path / "crops" / "a.png", 404, GONE)


def test_dots_in_a_path_are_not_followed(serve, tmp_path) -> None:
    large(tmp_path / "a.png")
    (tmp_path / "crops").mkdir()
    refused(serve(), f"{tmp_path}/crops/../a.png", 404, GONE)


def test_a_pipe_is_not_waited_for(serve, tmp_path) -> None:
    os.mkfifo(tmp_path / "a.png")
    refused(serve(), tmp_path / "a.png", 404, GONE)


def test_a_folder_is_no_image(serve, tmp_path) -> None:
    (tmp_path / "a.png").mkdir()
    refused(serve(), tmp_path / "a.png", 404, GONE)


def test_only_images_leave_the_server(serve, tmp_path) -> None:
    (tmp_path / "a.png").write_text("password: 1234")
    refused(
        serve(), tmp_path / "a.png", 422,
        "image 321: not an image that can be read (JPEG, PNG, BMP, WEBP, TIFF, PPM); replace or "
        "remove it",
    )  # fmt: skip


def test_a_part_of_a_file_has_no_original(serve, tmp_path) -> None:
    large(tmp_path / "a.png")
    refused(
        serve(), f"{tmp_path}/a.png::box 3", 422,
        "image 321: was cut out of a video, a frame or a tar file, so it has no file of its own; "
        "its thumbnail is all there is to show",
    )  # fmt: skip


def test_another_image_under_the_same_name_is_not_shown(serve, tmp_path) -> None:
    mark = Marks().of(str(large(tmp_path / "a.png")))
    large(tmp_path / "a.png", 10)
    refused(
        serve(), tmp_path / "a.png", 422,
        "image 321: its file was changed since the image was added, so it is not shown; add it "
        "again with `visir index add --update`",
        mark=mark,
    )  # fmt: skip


def test_a_file_that_was_only_touched_is_shown(serve, tmp_path) -> None:
    client = serve()
    mark = Marks().of(str(large(tmp_path / "a.png")))
    os.utime(tmp_path / "a.png", (1, 1))
    assert asked(client, added(client, tmp_path / "a.png", mark=mark)).status_code == 200


def test_who_may_not_see_thumbnails_sees_no_original(serve, tmp_path) -> None:
    client = serve(TOKEN)
    item = added(client, large(tmp_path / "a.png"))
    assert asked(client, item).status_code == 401
    cookie = {"cookie": f"visir={client.state.rules.sessions.open()}"}
    path = f"/api/items/{item}/original"
    assert client.post(path, headers=cookie).status_code == 403  # from another page
    page = {**cookie, CSRF: client.state.rules.csrf}
    assert client.post(path, headers=page).status_code == 200
    assert client.get(path, headers=cookie).status_code == 405


def test_nothing_is_shown_that_cannot_be_logged(serve, tmp_path, monkeypatch) -> None:
    client = serve()
    item = added(client, large(tmp_path / "a.png"))

    def denied(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(client.state.case_store.audit, "append", denied)
    assert asked(client, item).status_code == 500


def test_the_client_gets_it(serve, tmp_path, monkeypatch) -> None:
    client = serve()
    item = added(client, large(tmp_path / "a.png"))
    with Client("http://127.0.0.1:8000") as program:
        monkeypatch.setattr(program, "_http", client)
        assert Image.open(io.BytesIO(program.original(item))).size == (100, 300)


def test_cards_name_the_file_without_its_folders(serve, tmp_path) -> None:
    for source, name in (
        ("/data/gate/0001.png", "0001.png"),
        ("/data/night.mp4::track 7 @ 3.20s", "night.mp4::track 7 @ 3.20s"),
        ("/data/shard.tar::gate/0001.png", "shard.tar::gate/0001.png"),
        ("a\nb.png", "a\\nb.png"),
        ("", ""),
    ):
        assert file_name(source) == name
    client = serve()
    item = client.get("/api/items/5").json()
    name = Path(item["source"]).name
    wanted = {"items": [6], "asked": {"within": "any", "k": 200}}
    found = client.post("/api/search/items", json=wanted, headers={"accept": "text/html"}).text
    for page in (found, client.get("/gallery").text, client.get("/items/5").text):
        assert f">{name}<" in page
    assert 'aria-label="Original of image 5"' in found
