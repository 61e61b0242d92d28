"""What Ray and Spark wrote gets into a gallery like the output of `visir embed`."""

import numpy as np
import pandas
import pyarrow.parquet
import pytest
from fake_run import draw_person, save_micro_run

from visir.core.types import InputError, Span
from visir.embedding.engines import RowEmbedder, RowOptions, list_rows
from visir.embedding.engines.on_ray import RayEmbedder
from visir.embedding.engines.on_spark import in_pandas
from visir.embedding.engines.parquet import read_parquet, schema
from visir.embedding.pytorch import load
from visir.gallery.add import add
from visir.gallery.open import open_gallery


@pytest.fixture
def run(tmp_path):
    return save_micro_run(tmp_path / "run")


@pytest.fixture
def rows(tmp_path):
    for number in range(3):
        draw_person(tmp_path / "crops" / "visible" / "door" / f"{number}.png", number, False, 1)
        draw_person(tmp_path / "crops" / "ir" / "yard" / f"{number}.png", number, True, 2)
    return list_rows(tmp_path / "crops")


def write(table, path):
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(table, path)


def test_both_wrappers_give_what_the_core_gives(run, rows):
    expected = RowEmbedder(run)({name: [row[name] for row in rows] for name in rows[0]})
    table = RayEmbedder(run)(pyarrow.Table.from_pylist(rows))
    assert table.schema == schema()
    frames = [*in_pandas(run)(iter([pandas.DataFrame(rows[:2]), pandas.DataFrame(rows[2:])]))]
    frame = pandas.concat(frames, ignore_index=True)
    for name in ("source", "camera", "modality", "tags", "thumbnail", "mark", "model"):
        assert table[name].to_pylist() == expected[name] == frame[name].tolist()
    np.testing.assert_allclose(table["vector"].to_pylist(), expected["vector"], atol=1e-6)
    np.testing.assert_allclose(frame["vector"].tolist(), expected["vector"], atol=1e-6)


def test_tables_are_added_once_and_what_was_skipped_is_told(run, rows, tmp_path):
    bad = rows[1]["path"]
    with open(bad, "wb") as file:
        file.write(b"no image")
    table = RayEmbedder(run, RowOptions(skip_broken=True))(pyarrow.Table.from_pylist(rows))
    write(table, tmp_path / "out" / "a.parquet")
    write(table.slice(0, 3), tmp_path / "out" / "b.parquet")
    embedder = load(run)
    store = open_gallery(str(tmp_path / "site"), create=True)
    done = add(store, embedder, [tmp_path / "out"])
    assert (done.added, done.there) == (5, 2)
    assert [broken.source for broken in done.skipped] == [bad, bad]
    again = add(store, embedder, [tmp_path / "crops"], skip_broken=True)
    assert (again.added, again.there, len(again.skipped)) == (0, 5, 1)
    store.close()


def test_ranges_of_deep_cameras_are_kept(run, rows, tmp_path):
    some = [{**row, "low": 7000.0, "high": 9000.0} for row in rows if row["camera"] == "yard"]
    write(RayEmbedder(run)(pyarrow.Table.from_pylist(some)), tmp_path / "out" / "a.parquet")
    store = open_gallery(str(tmp_path / "site"), create=True)
    add(store, load(run), [tmp_path / "out" / "a.parquet"])
    assert store.ranges() == {"infrared/yard": Span(7000.0, 9000.0)}
    store.close()


def test_tables_that_cannot_be_used_are_refused(run, rows, tmp_path):
    model = load(run).fingerprint
    path = tmp_path / "out" / "a.parquet"
    table = RayEmbedder(run)(pyarrow.Table.from_pylist(rows))
    write(table, path)
    with pytest.raises(InputError, match=r"a\.parquet: was embedded by another model"):
        [*read_parquet(path, "b" * 64)]
    write(table.drop_columns(["mark"]), path)
    with pytest.raises(InputError, match=r"a\.parquet: has no column 'mark'"):
        [*read_parquet(path, model)]
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"a\.parquet: damaged"):
        [*read_parquet(path, model)]
    (tmp_path / "out" / "_temporary").mkdir()
    with pytest.raises(InputError, match="Spark has not finished"):
        [*read_parquet(tmp_path / "out", model)]
