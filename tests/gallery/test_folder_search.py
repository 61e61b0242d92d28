"""Searching a plain folder or a data set, with the command's function."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_run import PixelEmbedder, draw_person, make_run, make_sysu
from PIL import Image

import visir.embedding.pytorch
from visir import gallery
from visir.commands.search import search
from visir.core.run import Run, sha256
from visir.core.types import InputError, Modality
from visir.data import locate as folder
from visir.evaluation.confidence import Calibration
from visir.gallery import contact_sheet as sheet

pytestmark = pytest.mark.slow


@pytest.fixture
def embedder(monkeypatch):
    fake = PixelEmbedder()

    def load(path, device="cpu"):
        fake.fingerprint = sha256(Run(path).weights)
        return fake

    monkeypatch.setattr(visir.embedding.pytorch, "load", load)
    return fake


def find(run, gallery, images, **options):
    """A search of the command line, from Python."""
    return search(run, images, gallery=str(gallery), device="cpu", **options)


@pytest.fixture
def data(tmp_path):
    return make_sysu(tmp_path / "a data sät", train_ids=2, test_ids=3)


@pytest.fixture
def run(tmp_path, data):
    return make_run(tmp_path / "run", data)


def brute_force(embedder, query, side, candidates):
    """Paths by falling cosine, a plain loop."""
    vector = embedder.embed([query], side)[0]
    scores = [float(embedder.embed([path], side)[0] @ vector) for path in candidates]
    order = sorted(range(len(candidates)), key=lambda row: (-scores[row], row))
    return [(candidates[row], scores[row]) for row in order]


@pytest.mark.parametrize("same_modality", [False, True])
def test_ranking_equals_brute_force_and_leaves_the_query_out(run, data, embedder, same_modality):
    query = data / "cam3" / "0004" / "0001.jpg"
    result = find(run, data, [query], k=7, same_modality=same_modality)
    cams = "123456" if same_modality else "1245"
    candidates = sorted(p for c in cams for p in (data / f"cam{c}").rglob("*.jpg") if p != query)
    expected = brute_force(embedder, query, Modality.INFRARED, candidates)[:7]
    (ranked,) = result.lists
    assert [hit.path for hit in ranked.hits] == [path for path, _ in expected]
    np.testing.assert_allclose([h.score for h in ranked.hits], [s for _, s in expected], rtol=1e-5)
    assert [hit.rank for hit in ranked.hits] == list(range(1, 8))
    assert [hit.correct for hit in ranked.hits] == ["0004" in str(h.path) for h in ranked.hits]
    assert (ranked.modality, ranked.inferred) == (Modality.INFRARED, False)
    # An order by falling rank, or with the query left in, would not pass.
    assert [hit.path for hit in ranked.hits][::-1] != [path for path, _ in expected]
    assert query not in [hit.path for hit in ranked.hits]


def test_queries_keep_their_order_and_modality(run, data, embedder):
    images = [data / f"cam{cam}" / "0001" / "0001.jpg" for cam in (1, 3, 2)]
    result = find(run, data, images, k=2)
    assert [ranked.query for ranked in result.lists] == images
    assert [ranked.modality.value for ranked in result.lists] == ["visible", "infrared", "visible"]
    for ranked in result.lists:
        assert {hit.modality for hit in ranked.hits} == {ranked.modality.other}


def test_modality_is_judged_by_colour_outside_the_gallery_and_said(run, data, embedder, tmp_path):
    grey, colour = tmp_path / "grey.jpg", tmp_path / "colour.jpg"
    draw_person(grey, 1, True, 0)
    draw_person(colour, 1, False, 0)
    result = find(run, data, [grey, colour], k=1)
    assert [r.modality for r in result.lists] == [Modality.INFRARED, Modality.VISIBLE]
    assert all(ranked.inferred and ranked.hits[0].correct is None for ranked in result.lists)
    assert "judged by its colours" in result.table()
    given = find(run, data, [colour], modality="infrared", k=1)
    assert (given.lists[0].modality, given.lists[0].inferred) == (Modality.INFRARED, False)
    assert "judged by" not in given.table()


def test_the_gallery_is_embedded_once_until_a_file_or_the_weights_change(run, data, embedder):
    query = data / "cam3" / "0004" / "0001.jpg"

    def embedded():
        before = embedder.embedded
        found = find(run, data, [query]).as_json()
        return embedder.embedded - before, found

    images = len(list(data.rglob("*.jpg")))
    first, found = embedded()
    assert first == images + 1
    assert embedded() == (1, found)
    draw_person(data / "cam1" / "0001" / "0001.jpg", 99, False, 99)
    assert embedded()[0] == images + 1
    (run / "model.safetensors").write_bytes(b"other weights")
    assert embedded()[0] == images + 1
    caches = list((run / "gallery-cache").iterdir())
    assert len(caches) == 1
    caches[0].write_bytes(b"damaged")
    assert embedded()[0] == images + 1
    assert embedded()[0] == 1


def test_a_number_used_in_training_and_in_test_is_two_people(run, data, embedder, monkeypatch):
    opened = folder.open_layout(data)
    twins = tuple(record._replace(pid=record.pid - 2) for record in opened.test)
    same = replace(opened, test=twins)
    monkeypatch.setattr(folder, "open_layout", lambda root, layout: same)
    query = data / "cam3" / "0003" / "0001.jpg"
    (ranked,) = find(run, data, [query], k=100).lists
    assert ranked.pid == 1
    for hit in ranked.hits:
        assert hit.correct == ("0003" in hit.path.parts)
    assert {hit.path.parts[-2] for hit in ranked.hits if hit.pid == 1} == {"0001", "0003"}


def test_written_files_and_contact_sheet(run, data, embedder, tmp_path):
    out = tmp_path / "found"
    images = [data / "cam3" / "0004" / "0001.jpg", data / "cam6" / "0003" / "0001.jpg"]
    result = find(run, data, images, k=4, out=out)
    stored = json.loads((out / "search.json").read_text())
    assert stored == result.as_json()
    assert len(stored["queries"]) == 2
    assert stored["queries"][0]["hits"][0]["modality"] == "visible"
    with Image.open(out / "search.png") as picture:
        picture.load()
        step = sheet.TILE[0] + sheet.GAP
        assert picture.width == 2 * sheet.MARGIN + 5 * step + sheet.GAP
        assert picture.height > 2 * sheet.TILE[1]
        first = result.lists[0].hits[0]
        corner = (sheet.MARGIN + step + 2 * sheet.GAP + 1, sheet.MARGIN + 1)
        frame = sheet.HIT if first.correct else sheet.MISS
        assert "#{:02x}{:02x}{:02x}".format(*picture.getpixel(corner)) == frame


def test_a_plain_folder_of_crops_in_any_nesting(run, embedder, tmp_path):
    root = tmp_path / "crops"
    draw_person(root / "day" / "RGB" / "door" / "monday" / "a.png", 1, False, 0)
    draw_person(root / "night" / "thermal" / "b.png", 1, True, 0)
    items = gallery.gallery_items(root)
    assert [(i.camera, i.record.modality) for i in items] == [
        ("door", Modality.VISIBLE),
        ("infrared", Modality.INFRARED),
    ]
    result = find(run, root, [items[0].record.path])
    (hit,) = result.lists[0].hits
    assert (hit.path, hit.pid, hit.correct) == (items[1].record.path, None, None)


def test_a_table_says_camera_time_and_tags_of_hits(run, embedder, tmp_path):
    root = tmp_path / "crops"
    for name in ("RGB/a.png", "RGB/b.png", "thermal/yard/c.png"):
        draw_person(root / name, 1, name.startswith("thermal"), 0)
    (root / "labels.csv").write_text("path,camera,time,tags\nRGB/a.png,gate,1769878800,night\n")
    query = root / "thermal" / "yard" / "c.png"
    hits = {hit.path.name: hit for hit in find(run, root, [query]).lists[0].hits}
    assert (hits["a.png"].camera, hits["a.png"].time) == ("gate", 1769878800)
    assert (hits["b.png"].camera, hits["b.png"].time) == ("visible", None)
    (hit,) = find(run, root, [query], tag=("night",)).lists[0].hits
    assert hit.path.name == "a.png"


def test_modality_of_an_unsorted_folder_is_given(run, embedder, tmp_path):
    root, query = tmp_path / "crops", tmp_path / "query.png"
    draw_person(root / "a.png", 1, False, 0)
    draw_person(query, 1, True, 0)
    with pytest.raises(InputError, match=r"a\.png.*no folder name says its modality"):
        find(run, root, [query])
    result = find(run, root, [query], gallery_modality="visible")
    assert [hit.path.name for hit in result.lists[0].hits] == ["a.png"]


def test_a_gallery_of_one_modality(run, embedder, tmp_path):
    root = tmp_path / "crops"
    for name in "ab":
        draw_person(root / "visible" / f"{name}.png", ord(name), False, 0)
    query = root / "visible" / "a.png"
    with pytest.raises(InputError, match="holds visible images only"):
        find(run, root, [query])
    result = find(run, root, [query], same_modality=True)
    assert [hit.path.name for hit in result.lists[0].hits] == ["b.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k: 0 hits"),
        ({"images": []}, "no query"),
        ({"modality": "sonar"}, "modality: 'sonar' is unknown"),
        ({"gallery": Path("nowhere")}, "nowhere: is not a folder"),
    ],
)
def test_bad_input(run, data, embedder, change, message):
    given = {"gallery": data, "images": [data / "cam3" / "0004" / "0001.jpg"]}
    with pytest.raises(InputError, match=message):
        find(run, **(given | change))


def test_broken_query_and_empty_gallery(run, data, embedder, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"")
    with pytest.raises(InputError, match=r"broken\.jpg"):
        find(run, data, [broken])
    assert embedder.embedded == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no image"):
        find(run, empty, [data / "cam3" / "0004" / "0001.jpg"])


def test_the_function_of_version_0_1_0_still_answers(run, data, embedder, tmp_path):
    images = [data / "cam3" / "0004" / "0001.jpg", data / "cam1" / "0003" / "0001.jpg"]
    calibration = Calibration(40, -0.5, -30, 0.5, 0.1, 0.8, "labels", 9, 99, "")
    replace(calibration, fingerprint=sha256(Run(run).weights)).save(run)
    new = find(run, data, images, k=4)
    with pytest.warns(DeprecationWarning, match="visir.gallery.search is deprecated"):
        old = gallery.search(run, data, images, None, 4, tmp_path / "found", "cpu")
    assert old.as_json() == new.as_json()
    assert json.loads((tmp_path / "found" / "search.json").read_text()) == old.as_json()
    for before, now in zip(old.lists, new.lists, strict=True):
        assert before.nobody == now.no_match
        for hit, same in zip(before.hits, now.hits, strict=True):
            assert hit.path == same.path and hit.score == same.cosine != same.score
    with pytest.warns(DeprecationWarning), pytest.raises(InputError, match="k: 0 hits"):
        gallery.search(run, data, images, k=0)
