"""Changed, vanished and renamed files: an image once, under one name, with its own embedding."""

import contextlib
import os
import shutil

import numpy as np
import pytest
from fake_run import PixelEmbedder
from PIL import Image

from visir.embedding import bulk
from visir.gallery.add import add
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import EVERYTHING
from visir.sources.crop import Entry
from visir.sources.marks import Marks, canonical, file_of


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((24, 48)).save(path)
    return path


@pytest.fixture
def site(tmp_path):
    for number in range(3):
        picture(tmp_path / "site" / "visible" / "gate" / f"{number}.png", number)
    return tmp_path / "site"


@pytest.fixture
def store(tmp_path):
    gallery = SqliteStore(tmp_path / "gallery", create=True)
    yield gallery
    gallery.close()


def filled(store, *inputs, **options):
    return add(store, PixelEmbedder(), inputs, **options)


def sources(store):
    return {item.source: item.id for item in store.select(EVERYTHING)}


def test_a_changed_file_is_said_and_embedded_again_if_asked(site, store):
    assert str(filled(store, site)) == "3 images added, 0 were there, 0 skipped"
    changed = picture(site / "visible" / "gate" / "0.png", 99)
    found = filled(store, site)
    assert str(found).splitlines() == [
        "0 images added, 2 were there, 0 skipped",
        "1 changed since they were added, not embedded again; add --update for that",
    ]
    before = sources(store)
    old = store.vectors([before[str(changed)]])[0]
    found = filled(store, site, update=True)
    assert str(found).splitlines()[1] == "1 changed since they were added, embedded again"
    after = sources(store)
    assert after.keys() == before.keys()
    assert after[str(changed)] > max(before.values())  # ids are never given again
    (expected,) = PixelEmbedder().embed([changed], None)
    new = store.vectors([after[str(changed)]])[0]
    np.testing.assert_allclose(new, expected, atol=1e-6)
    assert np.abs(new - old).max() > 0.01
    assert str(filled(store, site)) == "0 images added, 3 were there, 0 skipped"


def test_a_killed_update_loses_no_image(site, tmp_path, monkeypatch):
    folder = tmp_path / "gallery"
    with contextlib.closing(SqliteStore(folder, create=True)) as store:
        filled(store, site)
        before = sources(store)
    changed = picture(site / "visible" / "gate" / "0.png", 99)
    child = os.fork()
    if not child:
        try:
            monkeypatch.setattr("visir.gallery.sqlite.insert", lambda *_: os._exit(9))
            filled(SqliteStore(folder), site, update=True)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    with contextlib.closing(SqliteStore(folder)) as store:
        assert sources(store) == before
        assert filled(store, site, update=True).changed == 1
        assert sources(store)[str(changed)] > max(before.values())


def test_a_touched_or_copied_file_has_not_changed(site, store, tmp_path):
    filled(store, site)
    path = site / "visible" / "gate" / "0.png"
    os.utime(path, (1, 1))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert filled(store, site).changed == 0


def test_a_changed_file_that_is_broken_keeps_what_was_known(site, store):
    filled(store, site)
    path = site / "visible" / "gate" / "0.png"
    before = sources(store)
    path.write_bytes(b"no image")
    found = filled(store, site, update=True, skip_broken=True)
    assert (len(found.skipped), sources(store)) == (1, before)


def test_files_that_are_gone_are_said_and_removed_if_asked(site, store, tmp_path):
    other = picture(tmp_path / "site2" / "visible" / "gate" / "9.png", 9)
    filled(store, site, tmp_path / "site2")
    (site / "visible" / "gate" / "1.png").unlink()
    other.unlink()
    found = filled(store, site)
    assert str(found).splitlines()[1] == (
        "1 whose files are gone, still in the gallery; --prune removes them"
    )
    assert len(sources(store)) == 4
    found = filled(store, site, prune=True)
    assert str(found).splitlines()[1] == "1 whose files are gone, removed"
    # What lies beside the folder, with a name that begins alike, was not asked for.
    names = [os.path.relpath(source, tmp_path) for source in sources(store)]
    assert names == [
        "site/visible/gate/0.png", "site/visible/gate/2.png", "site2/visible/gate/9.png",
    ]  # fmt: skip


def test_an_image_is_added_once_however_its_path_is_written(site, store, tmp_path, monkeypatch):
    filled(store, site)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(site)
    picked = tmp_path / "picked" / "visible" / "gate"
    picked.mkdir(parents=True)
    (picked / "again.png").symlink_to(site / "visible" / "gate" / "2.png")
    for other in ("site", "link", "../" + tmp_path.name + "/site", "picked"):
        found = filled(store, type(site)(other))
        assert (found.added, found.there) == (0, 1 if other == "picked" else 3), other
    assert sorted(sources(store)) == sorted(str(p.resolve()) for p in site.rglob("*.png"))


def test_shards_of_relative_paths_are_the_same_images(site, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bulk.embed_many(PixelEmbedder(), [type(site)("site")], tmp_path / "out")
    assert filled(store, tmp_path / "out").added == 3
    assert filled(store, site).added == 0
    picture(site / "visible" / "gate" / "0.png", 99)
    assert filled(store, site).changed == 1  # the shard knows what it has read
    bulk.embed_many(PixelEmbedder(), [type(site)("site")], tmp_path / "out2")
    found = filled(store, tmp_path / "out2", update=True)
    assert (found.added, found.there, found.changed) == (0, 2, 1)
    assert filled(store, site).changed == 0


def test_embeddings_from_before_marks_are_read(site, store, tmp_path, monkeypatch):
    def unmarked(*args, **keywords):
        return Entry(*args, **{**keywords, "mark": None})

    monkeypatch.setattr("visir.embedding.bulk.work.Entry", unmarked)
    filled(store, site)
    picture(site / "visible" / "gate" / "0.png", 99)
    assert filled(store, site).changed == 0  # unknown


def test_names_of_parts_of_files(tmp_path, monkeypatch):
    film = tmp_path / "film.mp4"
    film.write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert canonical("film.mp4::track 3 @ 1.00s") == f"{film.resolve()}::track 3 @ 1.00s"
    assert canonical("elsewhere/film.mp4::track 3") == "elsewhere/film.mp4::track 3"
    assert file_of("a/b.tar::c.jpg") == "a/b.tar"
    marks = Marks()
    kept = marks.of(f"{film}::track 3")
    assert marks.of("elsewhere/film.mp4") is None
    shutil.copy(film, tmp_path / "copy.mp4")
    assert not marks.has_changed(f"{film}::track 4", kept)
    film.write_bytes(b"y")
    assert Marks().has_changed(f"{film}::track 4", kept)
    film.unlink()
    assert not Marks().has_changed(f"{film}::track 4", kept)  # gone is not changed
