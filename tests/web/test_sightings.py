"""Which hits are put together, what is marked on them, and how their scores are drawn."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from bright import BEGIN, BrightEmbedder, TestClient
from PIL import Image
from test_api import search

from visir.core.types import Modality
from visir.evaluation.confidence import Calibration
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import ModelId, Stored, model_of
from visir.sources.crop import Entry
from visir.web import spread as spreads
from visir.web.client import Client
from visir.web.kept import Kept
from visir.web.rendering import grouped, share
from visir.web.schemas import HitView, Item, Scale
from visir.web.sightings import groups, track_of
from visir.web.spread import Spread, spread_of

pytestmark = pytest.mark.slow

VISIBLE, INFRARED = Modality
ALIKE = {VISIBLE: 0.8, INFRARED: 0.9}


def seen(source: str = "a.png", camera: str = "gate", time: float | None = 0.0, side=VISIBLE):
    return Stored(1, source, camera, side, time, (), 0.0)


def at(*degrees: float) -> np.ndarray:
    """Unit vectors in a plane; the cosine of 30 degrees is 0.87, of 40 it is 0.77."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


# ---- groups


def test_hits_of_one_camera_and_minute_that_are_alike_are_one_group() -> None:
    items = [
        seen(time=100.0),
        seen(time=159.9),  # 59.9 seconds later
        seen(time=160.0),  # a minute later
        seen(time=41.0),  # 59 seconds earlier
        seen(time=100.0, camera="hall"),
        seen(time=100.0, side=INFRARED),  # of the same camera's name
        seen(time=None),
        seen(time=None),
    ]
    assert groups(items, at(*[0] * 8), ALIKE) == [0, 0, 2, 0, 4, 5, 6, 7]


def test_hits_that_are_not_alike_stay_apart_by_the_bound_of_their_modality() -> None:
    vectors = at(0, 30, 40)
    assert groups([seen()] * 3, vectors, ALIKE) == [0, 0, 2]
    assert groups([seen(side=INFRARED)] * 3, vectors, ALIKE) == [0, 1, 1]
    assert groups([seen()] * 3, at(0, 10, 19), {}) == [0, 0, 2]  # 0.95 where nothing is known


def test_a_chain_of_similar_hits_is_not_one_group() -> None:
    assert groups([seen()] * 3, at(0, 30, 60), ALIKE) == [0, 0, 2]
    assert groups([seen(time=t) for t in (0, 50, 100)], at(0, 0, 0), ALIKE) == [0, 0, 2]


def test_a_track_decides_where_both_images_have_one() -> None:
    track = "v.mp4::track {} @ {}s"
    items = [
        seen(track.format(1, 0), time=0.0),
        seen(track.format(1, 200), time=200.0),
        seen(track.format(2, 1), time=1.0),
        seen("w.mp4::track 1 @ 0s", time=0.0),
        seen("crop.png", time=0.0),
    ]
    assert groups(items, at(0, 90, 0, 0, 0), ALIKE) == [0, 0, 2, 3, 0]
    without_times = [item._replace(time=None) for item in items]
    assert groups(without_times, at(0, 90, 0, 0, 0), ALIKE) == [0, 0, 2, 3, 4]


def test_tracks_are_read_from_names() -> None:
    for source, track in (
        ("/d/v.mp4::track 7 @ 3.20s", ("/d/v.mp4::", "7")),
        ("/d/v.mp4::stream 1 track 7 @ frame 80", ("/d/v.mp4::stream 1 ", "7")),
        ("/d/seq/0001.jpg::track 7", ("/d/seq::", "7")),
        ("/d/seq/0002.jpg::track 7", ("/d/seq::", "7")),
        ("/d/seq/0002.jpg::box 7", None),
        ("/d/track 7.jpg", None),
        ("/d/a.tar::track/7.png", None),
    ):
        assert track_of(source) == track


def test_groups_are_shown_by_their_best_hit() -> None:
    item = Item(1, "a", "gate", "visible", None, (), None)
    hits = [HitView(rank, item, 0.5, 0.5, None, group) for rank, group in
            ((1, 1), (2, 2), (3, 1), (4, 4), (5, 2))]  # fmt: skip
    assert [[hit.rank for hit in group] for group in grouped(hits)] == [[1, 3], [2, 5], [4]]


def copies(client: TestClient, item: int, count: int) -> list[int]:
    """More images of what an image shows, a second apart and a second after it."""
    store = client.state.store
    of = store.get([item])[item]
    entries = [
        Entry(f"copy {n}", of.camera, of.modality, of.time + n, thumbnail=store.thumbnail(item))
        for n in range(1, count + 1)
    ]
    vectors = np.repeat(store.vectors([item]), count, axis=0)
    return store.add(model_of(BrightEmbedder()), entries, vectors)


def test_the_api_names_the_group_of_a_hit_and_ranks_stay(serve, crop) -> None:
    client = serve()
    before = search(client, crop(3)).json()["hits"]
    assert [hit["group"] for hit in before] == [hit["rank"] for hit in before]
    new = copies(client, before[1]["item"]["id"], 3)
    again = search(client, crop(3)).json()["hits"]
    assert [hit["rank"] for hit in again] == list(range(1, 25))
    assert [hit["item"]["id"] for hit in again[:2]] == [hit["item"]["id"] for hit in before[:2]]
    assert [hit["item"]["id"] for hit in again[2:5]] == new
    assert [hit["group"] for hit in again] == [1, 2, 2, 2, 2, *range(6, 25)]


def test_the_page_puts_a_group_behind_its_best_hit(serve, crop) -> None:
    client = serve()
    plain = search(client, crop(3), accept="text/html").text
    assert "stand behind" not in plain
    assert " hidden" not in plain
    copies(client, search(client, crop(3)).json()["hits"][1]["item"]["id"], 3)
    page = search(client, crop(3), accept="text/html").text
    assert "3 hits stand behind another one" in page
    assert len(re.findall(r'class="hit behind"[^>]* hidden>', page)) == 3
    assert page.count(">3 more in this minute<") == page.count('data-do="group"') == 1
    assert page.count("with rank 2<") == 3
    assert "24 hits" in page


def test_sentences_above_the_hits_stand_apart(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3)).json()
    copies(client, found["hits"][1]["item"]["id"], 3)
    marked = {"search": found["search"]["id"], "misses": [found["hits"][5]["item"]["id"]]}
    page = client.post("/api/refine", json=marked, headers={"accept": "text/html"}).text
    text = re.search(r"<header.*?</header>", page, re.S)[0]
    assert all(word in text for word in ("Refined by", "By its colours", "stand behind", "A bar"))
    assert not re.search(r"\.\w", text)


# ---- a sample of the gallery


def gallery(folder, vectors: dict[Modality, np.ndarray]) -> SqliteStore:
    store = SqliteStore(folder, create=True)
    for side, some in vectors.items():
        entries = [Entry(f"{side.value} {n}", "gate", side) for n in range(len(some))]
        store.add(ModelId("f" * 64, "adca", some.shape[1], (48, 24), True), entries, some)
    return store


@pytest.mark.parametrize("listed", [4096, 0])
def test_a_sample_is_taken_from_all_over_a_gallery(tmp_path, monkeypatch, listed: int) -> None:
    monkeypatch.setattr(spreads, "LISTED", listed)
    store = gallery(tmp_path, {VISIBLE: at(*np.linspace(0, 90, 1000)), INFRARED: at(*[45] * 63)})
    store.remove([1, 2, 1000])
    spread = spread_of(store)
    assert list(spread.vectors) == [VISIBLE]  # of infrared images there are too few
    angles = np.degrees(np.arctan2(spread.vectors[VISIBLE][:, 1], spread.vectors[VISIBLE][:, 0]))
    assert len(np.unique(angles)) == len(angles) == 256
    assert angles.min() < 3
    assert angles.max() > 87
    assert abs(np.median(angles) - 45) < 3
    # Cosines of 45 degrees with angles from 0 to 90: half of them below that of 22.5.
    mean = at(45)[0]
    assert spread.stranger(mean, VISIBLE) == pytest.approx(np.cos(np.radians(22.5)), abs=0.02)
    assert spread.stranger(mean, None) == spread.stranger(mean, VISIBLE)
    assert spread.stranger(mean, INFRARED) is None
    assert spread.hubs(at(45), VISIBLE).tolist() == [False]
    store.close()


@pytest.mark.parametrize("order", [Modality, reversed(Modality)])
def test_a_rare_modality_is_sampled_where_it_is(tmp_path, monkeypatch, order) -> None:
    monkeypatch.setattr(spreads, "LISTED", 0)
    counts = {VISIBLE: 3000, INFRARED: 90}
    store = gallery(tmp_path, {side: at(*np.linspace(0, 90, counts[side])) for side in order})
    spread = spread_of(store)
    assert len(spread.vectors[VISIBLE]) == 256
    assert 64 <= len(spread.vectors[INFRARED]) <= 90
    store.close()


def test_two_images_are_alike_far_above_strangers(tmp_path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(400, 100)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = gallery(tmp_path / "wide", {VISIBLE: vectors})
    # Cosines of random vectors of 100 numbers: a normal distribution, 0.1 its standard deviation.
    assert spread_of(store).alike[VISIBLE] == pytest.approx(0.33, abs=0.02)
    store.close()
    narrow = gallery(tmp_path / "narrow", {VISIBLE: at(*np.linspace(0, 360, 200))})
    assert spread_of(narrow).alike[VISIBLE] == 0.95
    narrow.close()


def test_an_image_near_to_everything_is_a_hub(tmp_path) -> None:
    rng = np.random.default_rng(0)
    vectors = np.abs(rng.normal(size=(400, 100))).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    store = gallery(tmp_path, {VISIBLE: vectors[:200], INFRARED: vectors[200:]})
    spread = spread_of(store)
    middle = np.full((1, 100), 0.1, np.float32)  # of all vectors, which have no number below 0
    for side in Modality:
        assert spread.hubs(middle, side).tolist() == [True]
        assert spread.hubs(vectors[:20], side).sum() <= 1
    store.close()


def test_a_hub_is_marked_on_its_card_only(serve, crop, monkeypatch) -> None:
    client = serve()
    item = search(client, crop(3)).json()["hits"][2]["item"]["id"]
    vector = client.state.store.vectors([item])[0]

    def hubs(self, vectors_ND, modality):
        return (vectors_ND == vector).all(axis=1)

    monkeypatch.setattr(Spread, "hubs", hubs)
    found = search(client, crop(3)).json()["hits"]
    assert [hit["item"]["id"] for hit in found if hit["hub"]] == [item]
    page = search(client, crop(3), accept="text/html").text
    assert page.count("Hub: near to very many images") == 1


def test_a_value_is_kept_until_it_is_old_or_dropped() -> None:
    made = []
    kept = Kept(lambda: made.append(0) or len(made), 1000)
    assert [kept.get(), kept.get()] == [1, 1]
    kept.drop()
    assert kept.get() == 2
    old = Kept(lambda: made.append(0) or len(made), -1)
    assert [old.get(), old.get()] == [3, 4]


def test_deleting_an_image_drops_the_sample(serve, crop) -> None:
    client = serve()
    search(client, crop(3))
    former = client.state.service._spread.get()
    assert client.state.service._spread.get() is former
    client.delete("/api/items/5")
    assert client.state.service._spread.get() is not former


# ---- bars


def test_a_share_of_a_scale() -> None:
    scale = Scale(0.2, 0.6, True, None)
    values = (0.1, 0.2, 0.3, 0.6, 0.7)
    assert [share(value, scale) for value in values] == [0, 0, 25, 100, 100]
    assert share(0.5, Scale(0.5, 0.5, False, None)) == 0


def bars(page: str) -> list[float]:
    return [float(width) for width in re.findall(r'class="fill" width="([\d.]+)"', page)]


def test_calibrated_bars_are_percent_with_a_line_at_the_threshold(serve, crop) -> None:
    client = serve()
    found = search(client, crop(3)).json()
    assert found["scale"] == {"low": 0, "high": 1, "typical": False, "mark": 0.35}
    page = search(client, crop(3), accept="text/html").text
    expected = [round(100 * hit["score"], 1) for hit in found["hits"]]
    assert bars(page) == pytest.approx(expected)
    assert page.count('class="limit" x="34.25"') == 24
    assert "the line across it is the calibrated threshold, 35 %." in page


def test_bars_of_cosines_run_from_a_typical_stranger_to_the_best(serve, crop) -> None:
    client = serve(calibrated=False)
    found = search(client, crop(3)).json()
    scale, cosines = found["scale"], [hit["score"] for hit in found["hits"]]
    picture = np.asarray(Image.open(io.BytesIO(crop(3))).convert("RGB"))
    vector = BrightEmbedder().embed([picture], INFRARED)[0]
    ids = [item.id for item in client.state.store.select(visible_part())]
    stranger = float(np.median(client.state.store.vectors(ids) @ vector))
    assert len(ids) < 256  # so that all are in the sample
    assert scale == {
        "low": pytest.approx(stranger), "high": max(cosines), "typical": True, "mark": None,
    }  # fmt: skip
    page = search(client, crop(3), accept="text/html").text
    expected = [100 * (cosine - stranger) / (cosines[0] - stranger) for cosine in cosines]
    assert bars(page) == pytest.approx(expected, abs=0.06)
    assert bars(page)[0] == 100
    assert f"begins at {stranger:.3f}, the score of a typical stranger," in page
    assert "limit" not in page


def visible_part():
    from visir.gallery.store import Filter

    return Filter(modality=VISIBLE)


def test_the_best_of_strangers_are_a_line_on_bars_of_cosines(serve, crop) -> None:
    client = serve(calibrated=False)
    # At 160 images: 20 * 0.9 - 2 * ln(160) - 7.85 = 0, a confidence of one half.
    client.state.service.calibration = Calibration(
        20.0, -2.0, -7.85 + 0.0003, 0.5, 0.05, None, "strangers", 2, 20, BrightEmbedder.fingerprint
    )
    found = search(client, crop(3)).json()
    assert found["search"]["threshold"] is None
    assert found["scale"]["mark"] == pytest.approx(0.9, abs=0.001)
    page = search(client, crop(3), accept="text/html").text
    assert "the line across it is 0.900, what the best of strangers reach." in page
    assert page.count('class="limit"') == 24


def test_nothing_found_has_no_scale(serve, crop) -> None:
    client = serve()
    assert search(client, crop(3), tags=["nobody"]).json()["scale"] is None
    assert "A bar" not in search(client, crop(3), tags=["nobody"], accept="text/html").text


# ---- poor crops


def test_poor_crops_are_said_by_their_thumbnails(serve, monkeypatch) -> None:
    client = serve()
    dark, lying = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (24, 48), (9, 9, 9)).save(dark, "JPEG")
    noise = np.random.default_rng(0).integers(0, 255, (24, 48, 3)).astype(np.uint8)
    Image.fromarray(noise).save(lying, "JPEG")
    entries = [
        Entry("gone/dark.png", "gate", VISIBLE, BEGIN, thumbnail=dark.getvalue()),
        Entry("gone/lying.png", "gate", VISIBLE, BEGIN, thumbnail=lying.getvalue()),
        Entry("gone/none.png", "gate", VISIBLE, BEGIN),
    ]
    vectors = np.repeat(client.state.store.vectors([5]), 3, axis=0)
    first, second, third = client.state.store.add(model_of(BrightEmbedder()), entries, vectors)
    told = [
        {"item": first, "poor": "too dark, little contrast, few grey levels"},
        {"item": second, "poor": "an odd shape for one person"},
    ]
    ids = (5, first, second, third, 99_999, first)
    path = "/api/remarks?" + "&".join(f"item={item}" for item in ids)
    assert client.get(path).json() == told
    monkeypatch.setattr(client.state.store, "thumbnail", None)  # they are remembered
    assert client.get(path).json() == told
    assert client.get("/api/remarks").json() == []
    assert client.get("/api/remarks?" + "&".join(["item=1"] * 201)).status_code == 422
    with Client("http://127.0.0.1:8000") as program:
        monkeypatch.setattr(program, "_http", client)
        assert [remark.item for remark in program.remarks(ids)] == [first, second]
