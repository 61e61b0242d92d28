"""Raw thermal images are read with one range: in an embedding, a gallery, and a search."""

import json

import numpy as np
import pytest

from tests.fake_run import PixelEmbedder, draw_person
from tests.tiff_files import write_tiff
from visir.core.types import InputError, Modality, Span
from visir.embedding.bulk import embed_many, ranges_of, read_manifest
from visir.gallery.add import add
from visir.gallery.open import open_gallery
from visir.gallery.plain_folder import FolderStore
from visir.gallery.query import queries_of_files
from visir.sources.crop import ReadOptions


class Embedder(PixelEmbedder):
    caution = ""

    def __init__(self, ranges=None):
        super().__init__()
        self.ranges = ranges or {}

    def embed_records(self, records, progress=False):
        return np.concatenate([self.embed([r], r.modality) for r in records])


def thermal(path, low, high, seed=0):
    share = np.random.default_rng(seed).random((48, 24))
    return write_tiff(path, (low + share * (high - low)).astype(np.uint16))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "day1"
    for number in range(3):
        thermal(root / "infrared/yard" / f"{number}.tiff", 7000, 9000, number)
        draw_person(root / "visible/door" / f"{number}.png", number, False, 1)
    return root


@pytest.fixture
def gallery(tmp_path):
    store = open_gallery(tmp_path / "gallery", create=True)
    yield store
    store.close()


def test_a_gallery_keeps_the_range_of_its_first_images(folder, gallery, tmp_path, recwarn):
    add(gallery, Embedder(), [folder])
    kept = gallery.ranges()
    assert kept["infrared/yard"] == pytest.approx((6812, 9188), abs=25)
    # A cold night: the same camera sees a part of the range only, and keeps it.
    night = thermal(tmp_path / "day2/infrared/yard/n.tiff", 7000, 7200)
    draw_person(tmp_path / "day2/visible/door/x.png", 9, False, 1)
    add(gallery, Embedder(), [tmp_path / "day2"])
    assert gallery.ranges() == kept
    (query,) = queries_of_files(gallery, Embedder(), [night])
    assert query.span == kept["infrared/yard"]
    assert query.modality is Modality.INFRARED
    same = gallery.vectors([query.item.id])[0]
    assert float(query.vector @ same) == pytest.approx(1, abs=1e-5)
    assert not [each for each in recwarn if "no range" in str(each.message)]


def test_a_query_from_elsewhere_has_the_range_of_the_only_camera(folder, gallery, tmp_path):
    add(gallery, Embedder(), [folder])
    copy = tmp_path / "query.tiff"
    copy.write_bytes((folder / "infrared/yard/1.tiff").read_bytes())
    (query,) = queries_of_files(gallery, Embedder(), [copy])
    assert query.span == gallery.ranges()["infrared/yard"]
    found = gallery.nearest(query.vector, 1)
    assert found.scores[0] == pytest.approx(1, abs=1e-5)
    assert gallery.get(found.ids.tolist())[int(found.ids[0])].source.endswith("yard/1.tiff")


def test_another_range_than_the_gallerys_is_refused(folder, gallery):
    add(gallery, Embedder(), [folder])
    (folder / "ranges.json").write_text('{"infrared/yard": [0, 65535]}')
    with pytest.raises(InputError, match=r"ranges\.json: infrared/yard has the range \[0"):
        add(gallery, Embedder(), [folder])


def test_the_networks_range_comes_before_measuring(folder, gallery):
    known = {"infrared/yard": Span(6000, 10000)}
    add(gallery, Embedder(known), [folder])
    assert gallery.ranges() == known


def test_an_embedding_carries_its_ranges_into_the_gallery(folder, gallery, tmp_path):
    (folder / "ranges.json").write_text('{"infrared/yard": [6500, 9500]}')
    out = tmp_path / "embedded"
    embed_many(Embedder(), [folder], out)
    assert ranges_of(read_manifest(out)) == {"infrared/yard": Span(6500, 9500)}
    add(gallery, Embedder(), [out])
    assert gallery.ranges() == {"infrared/yard": Span(6500, 9500)}


def test_a_plain_folder_is_searched_with_its_range(folder, tmp_path, recwarn):
    run = tmp_path / "run"
    run.mkdir()
    store = FolderStore(folder, Embedder(), run)
    assert store.ranges()["infrared/yard"] == pytest.approx((6812, 9188), abs=25)
    (query,) = queries_of_files(store, Embedder(), [folder / "infrared/yard/0.tiff"])
    assert float(query.vector @ store.vectors([query.item.id])[0]) == pytest.approx(1, abs=1e-5)
    assert store.thumbnail(query.item.id)
    assert not [each for each in recwarn if "no range" in str(each.message)]
    cached = next((run / "gallery-cache").iterdir()).read_bytes()
    (folder / "ranges.json").write_text(json.dumps({"infrared/yard": [0, 10000]}))
    other = FolderStore(folder, Embedder(), run)
    (again,) = queries_of_files(other, Embedder(), [folder / "infrared/yard/0.tiff"])
    assert float(again.vector @ other.vectors([again.item.id])[0]) == pytest.approx(1, abs=1e-5)
    assert next((run / "gallery-cache").iterdir()).read_bytes() != cached


def test_a_camera_named_by_an_option_has_its_own_range(tmp_path, gallery):
    for name, low in (("a", 7000), ("b", 29000)):
        thermal(tmp_path / name / "1.tiff", low, low + 2000)
        options = ReadOptions(Modality.INFRARED, camera=name)
        add(gallery, Embedder(), [tmp_path / name], options)
    ranges = gallery.ranges()
    assert sorted(ranges) == ["infrared/a", "infrared/b"]
    assert ranges["infrared/b"].low == pytest.approx(28812, abs=25)
