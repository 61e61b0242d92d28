"""File names that are not UTF-8, that would change a terminal, and values out of range."""

import json
import os

import numpy as np
import pytest
from fake_run import PixelEmbedder
from people import MODEL, entries, vectors
from PIL import Image

from visir.cli import main
from visir.commands.index import Listing, filter_of
from visir.core.names import is_utf8, printable
from visir.core.types import InputError, Modality
from visir.embedding.bulk import embed_many
from visir.gallery.add import add
from visir.gallery.plain_folder import FolderStore
from visir.gallery.query import SearchOptions
from visir.gallery.results import SearchResult
from visir.gallery.searching import search_files
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import EVERYTHING, Filter

LATIN = os.fsdecode(b"caf\xe9.png")
NASTY = "a\nb\x1b[31m\u202e.png"
SHOWN = r"a\nb\x1b[31m\u202e.png"


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((24, 48)).save(path)


@pytest.fixture
def site(tmp_path):
    for seed, name in enumerate(("plain.png", LATIN, NASTY, "Grün 人.png")):
        picture(tmp_path / "site/visible/gate" / name, seed)
    return tmp_path / "site"


@pytest.fixture
def store(tmp_path):
    gallery = SqliteStore(tmp_path / "gallery", create=True)
    yield gallery
    gallery.close()


def test_names_are_shown_on_one_line():
    assert printable("Grün 人 a b.png") == "Grün 人 a b.png"
    assert printable(NASTY) == SHOWN
    assert printable(LATIN) == r"caf\udce9.png"
    assert is_utf8(NASTY) and not is_utf8(LATIN)


def test_a_name_that_is_not_utf8_is_one_sentence_or_is_skipped(site, store):
    with pytest.raises(InputError, match="the name is not UTF-8; rename it, or skip broken images"):
        add(store, PixelEmbedder(), [site])
    found = add(store, PixelEmbedder(), [site], skip_broken=True)
    assert (found.added, len(found.skipped)) == (3, 1)
    assert r"caf\udce9.png: the name is not UTF-8" in str(found)
    again = add(store, PixelEmbedder(), [site], skip_broken=True)
    assert (again.added, again.there, len(again.skipped)) == (0, 3, 1)


def test_embed_refuses_the_same_names(site, tmp_path, store):
    with pytest.raises(InputError, match="the name is not UTF-8; rename it"):
        embed_many(PixelEmbedder(), [site], tmp_path / "out")
    done = embed_many(PixelEmbedder(), [site], tmp_path / "out", skip_broken=True)
    assert r"caf\udce9.png: the name is not UTF-8" in str(done)
    assert add(store, PixelEmbedder(), [tmp_path / "out"]).added == 3


def test_lists_and_tables_have_a_line_for_each_image(site, store, tmp_path):
    add(store, PixelEmbedder(), [site], skip_broken=True)
    listing = str(Listing(tuple(store.select(EVERYTHING)))).splitlines()
    assert len(listing) == 1 + 3 and any(line.endswith(f"gate/{SHOWN}") for line in listing)
    options = SearchOptions(k=9, same_modality=True)
    folder = FolderStore(site, PixelEmbedder(), tmp_path / "run.safetensors")
    (lists,) = search_files(folder, PixelEmbedder(), [site / "visible/gate" / NASTY], options)
    table = SearchResult((lists,)).table().partition("\n\n")[0].splitlines()
    assert len(table) == 2 + 3 and f"gate/{SHOWN}  (visible" in table[0]
    assert any(r"gate/caf\udce9.png" in line for line in table)
    assert len(json.loads(json.dumps(SearchResult((lists,)).as_json()))["queries"][0]["hits"]) == 3
    SearchResult((lists,)).write(tmp_path / "found")


def test_errors_are_one_line(tmp_path, capsys):
    assert main(["index", "stats", str(tmp_path / NASTY)]) == 2
    assert capsys.readouterr().err == f"visir: error: {tmp_path}/{SHOWN}: holds no gallery; " \
        "make one with `visir index add`\n"  # fmt: skip


def test_values_out_of_range_are_one_sentence(store, site, tmp_path):
    store.add(MODEL, entries(3), vectors(3))
    folder = FolderStore(site, PixelEmbedder(), tmp_path / "run.safetensors")
    for kind, width in ((store, MODEL.width), (folder, PixelEmbedder.width)):
        for k in (0, -1):
            with pytest.raises(InputError, match=f"k: {k} images cannot be listed; give 1 or more"):
                kind.nearest(np.zeros(width, np.float32), k)
        with pytest.raises(InputError, match="mode 'exakt' is unknown; use auto, exact, approx"):
            kind.nearest(np.zeros(width, np.float32), 1, mode="exakt")
    with pytest.raises(InputError, match="tags: 2000 were given; give 200 at most"):
        Filter(tags=("gate",) * 2000)
    with pytest.raises(InputError, match="cameras: 201 were given; give 200 at most"):
        Filter(cameras=tuple(map(str, range(201))))
    assert store.count(Filter(tags=("gate",) * 200, cameras=("cam0",) * 200)) == 1
    for name in ("since", "until", "before"):
        for moment in (2**70, -(2**70), float("nan"), float("inf")):
            with pytest.raises(InputError, match=rf"{name}: .* is not a time; give seconds since"):
                Filter(**{name: moment})
    store.keep_for(1e12)
    assert store.expire(1e9) == 0 and store.expire(-1e15) == 0
    assert filter_of((), None, None, None, (), older_than=1e12).before == -62_135_596_800
    assert store.count(Filter(since=-62_135_596_800, until=253_402_300_799)) == 3
    with pytest.raises(InputError, match=r"gallery\.sqlite: cannot be asked for this"):
        store.get([2**70])
    for said, strange in (
        (r"crops/50\.jpg: time: 1180591620717411303424 is not a time", {"time": 2**70}),
        (r"crops/50\.jpg: tags: 201 were given", {"tags": tuple(map(str, range(201)))}),
        (r"crops/50\.jpg: a name is not UTF-8", {"camera": LATIN}),
    ):
        with pytest.raises(InputError, match=said):
            store.add(MODEL, [entries(1, 50)[0]._replace(**strange)], vectors(1))
    assert store.count() == 3 and store.select(Filter(modality=Modality.INFRARED))[0].id == 2
