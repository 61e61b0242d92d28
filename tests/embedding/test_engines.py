"""Rows of a table are embedded like images of a folder; what cannot be used is named."""

import socket
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from fake_run import save_micro_run

from visir.core.types import InputError
from visir.embedding import bulk
from visir.embedding.engines import COLUMNS, RowEmbedder, RowOptions, list_rows, on_ray, on_spark
from visir.embedding.engines.parquet import is_parquet, read_parquet
from visir.embedding.pytorch import load


@pytest.fixture
def run(tmp_path):
    return save_micro_run(tmp_path / "run")


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_rows_are_embedded_as_visir_embed_does(run, folder, tmp_path):
    rows = list_rows(folder)
    out = RowEmbedder(run)(columns(rows[::-1]))
    assert list(out) == list(COLUMNS)
    assert out["source"] == [row["path"] for row in rows[::-1]]
    assert out["skipped"] == [None] * len(rows)
    bulk.embed_many(load(run), [folder], tmp_path / "out")
    found = {}
    for entries, vectors in bulk.read_shards(tmp_path / "out"):
        found |= {e.source: (e, v) for e, v in zip(entries, vectors, strict=True)}
    assert len(found) == len(rows) == 18
    for n, source in enumerate(out["source"]):
        entry, vector = found[source]
        assert (out["camera"][n], out["modality"][n]) == (entry.camera, entry.modality.value)
        assert (out["mark"][n], out["thumbnail"][n]) == (entry.mark, entry.thumbnail)
        np.testing.assert_allclose(out["vector"][n], vector, atol=1e-5)


@pytest.mark.parametrize("name", ["bytes", "content"])
def test_bytes_need_no_file(run, folder, name):
    path = sorted(folder.rglob("*.png"))[0]
    embed = RowEmbedder(run, RowOptions(tags=("site",)))
    (expected,) = embed({"path": [str(path)], "modality": ["infrared"]})["vector"]
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    out = embed({
        "path": ["s3://bucket/1.png"], name: [path.read_bytes()], "modality": ["infrared"],
        "camera": ["gate"], "time": [moment], "tags": [np.array(["night"])],
    })  # fmt: skip
    np.testing.assert_allclose(out["vector"][0], expected, atol=1e-6)
    assert [out[key] for key in ("source", "camera", "time", "tags", "mark")] == [
        ["s3://bucket/1.png"], ["gate"], [moment.timestamp()], [["site", "night"]], [None],
    ]  # fmt: skip


def test_pictures_of_one_name_are_told_apart(run, folder):
    data = next(folder.glob("ir/yard/*.png")).read_bytes()
    batch = {
        "path": ["1.png"] * 3,
        "bytes": [data, b"no image", data],
        "modality": ["infrared"] * 3,
    }
    out = RowEmbedder(run, RowOptions(skip_broken=True))(batch)
    assert [reason is None for reason in out["skipped"]] == [True, False, True]
    np.testing.assert_array_equal(out["vector"][0], out["vector"][2])


def test_paths_as_spark_writes_them_and_folders_that_say_the_modality(run, folder):
    path = next(folder.glob("ir/yard/*.png"))
    out = RowEmbedder(run)({"path": [path.as_uri()], "time": [float("nan")]})
    assert (out["source"], out["modality"], out["camera"]) == ([str(path)], ["infrared"], ["yard"])
    assert out["time"] == [None]


def test_damaged_images_are_named_or_skipped(run, folder):
    rows = columns(list_rows(folder)[:3])
    bad = rows["path"][1]
    with open(bad, "wb") as file:
        file.write(b"no image")
    with pytest.raises(InputError, match=r"\.png: not an image.* --skip-broken"):
        RowEmbedder(run)(rows)
    skipping = RowEmbedder(run, RowOptions(skip_broken=True))
    out = skipping(rows)
    assert out["source"] == rows["path"]
    assert [value is None for value in out["skipped"]] == [True, False, True]
    assert [value is None for value in out["vector"]] == [False, True, False]
    assert bad in out["skipped"][1]
    data = {**rows, "bytes": [None, b"", None]}
    assert "0 bytes" in skipping(data)["skipped"][1]


@pytest.mark.parametrize("skip", [False, True])
def test_a_machine_that_does_not_see_the_files_is_named(run, tmp_path, skip):
    batch = {"path": ["/not-mounted/ir/yard/1.png"]}
    with pytest.raises(InputError) as failed:
        RowEmbedder(run, RowOptions(skip_broken=skip))(batch)
    for part in ("/not-mounted/ir/yard/1.png", socket.gethostname(), "storage", "`bytes`"):
        assert part in str(failed.value)
    with pytest.raises(InputError, match=f"not-there.*{socket.gethostname()}.*every machine"):
        RowEmbedder(tmp_path / "not-there")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": None}, "no column `path`"),
        ({"path": [3]}, "column path: 3 is not a path"),
        ({"modality": [None]}, "add a column `modality`"),
        ({"modality": ["red"]}, "column modality: 'red' is unknown"),
        ({"tags": ["night"]}, "column tags: 'night' is not a list"),
        ({"time": ["noon"]}, "column time: 'noon' is not a time"),
    ],
)
def test_wrong_columns_are_refused(run, tmp_path, change, message):
    batch = {"path": [str(tmp_path / "x.png")], "modality": ["visible"], **change}
    batch = {name: values for name, values in batch.items() if values is not None}
    with pytest.raises(InputError, match=message):
        RowEmbedder(run)(batch)


def test_engines_that_are_missing_name_the_extra(monkeypatch):
    for name in ("ray", "ray.data", "pandas", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'Ray Data is not installed.*"visir\[ray\]"'):
        on_ray.embedded(None, "run")
    with pytest.raises(InputError, match=r'pandas is not installed.*"visir\[spark\]"'):
        on_spark.embedded(None, "run")


def test_parquet_needs_pyarrow_which_is_named(tmp_path, monkeypatch):
    file = tmp_path / "part.parquet"
    file.touch()
    assert is_parquet(file)
    assert is_parquet(tmp_path)
    assert not is_parquet(tmp_path / "none")
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'pyarrow; install it with pip install "visir\[ray\]"'):
        next(read_parquet(tmp_path, "a"))


def test_the_schema_of_spark_has_every_column():
    assert [part.split()[0] for part in on_spark.SCHEMA.split(", ")] == list(COLUMNS)


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_below_one_are_refused(run, threads):
    with pytest.raises(InputError, match=f"threads is {threads}; give 1 or more"):
        RowEmbedder(run, RowOptions(threads=threads))


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (2, 2)])
def test_an_actor_computes_in_as_many_threads_as_ray_gives_it_cores(monkeypatch, given, expected):
    data = SimpleNamespace(ActorPoolStrategy=lambda size: size)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(data=data))
    monkeypatch.setitem(sys.modules, "ray.data", data)
    rows = SimpleNamespace(
        columns=lambda fetch_if_missing: ["path"],
        map_batches=lambda actor, fn_constructor_args, **rest: (fn_constructor_args[1], rest),
    )
    options, rest = on_ray.embedded(rows, "run", RowOptions(threads=given), num_cpus=3)
    assert options.threads == expected
    assert rest["num_cpus"] == 3
    assert on_ray.embedded(rows, "run")[0].threads is None
