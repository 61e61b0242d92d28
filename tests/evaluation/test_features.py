"""Embeddings made by other code: rows find their images, and every mistake is named."""

import csv
from pathlib import Path

import numpy as np
import pytest

from visir import cli
from visir.commands.eval import evaluate
from visir.core.types import InputError
from visir.data.registry import open_benchmark
from visir.evaluation.evaluate import score_features
from visir.evaluation.features import evaluate_features, read_features

pytestmark = pytest.mark.slow

PROTOCOL = "all-single-seeded"


@pytest.fixture(scope="module")
def benchmark(people):
    return open_benchmark(people)


@pytest.fixture(scope="module")
def features(benchmark):
    """(N, 8) float32 of length 1 in which people differ."""
    rng = np.random.default_rng(0)
    centre = {record.pid: rng.normal(size=8) for record in benchmark.test}
    rows = np.stack([centre[r.pid] + 1.5 * rng.normal(size=8) for r in benchmark.test])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def names(benchmark):
    return [record.path.relative_to(benchmark.root).as_posix() for record in benchmark.test]


def test_rows_in_the_order_of_the_test_images(people, benchmark, features, tmp_path, capsys):
    file = tmp_path / "mine.npy"
    np.save(file, features)
    expected = score_features(features, benchmark)
    assert evaluate_features(file, people).as_json() == expected.as_json()
    found = evaluate(features=file, data=people, protocols=(PROTOCOL,))
    assert list(found.runs[file].results) == [PROTOCOL]
    (tmp_path / "mine.npy.scores.json").unlink()
    words = ["eval", "--features", str(file), "--data", str(people), "--rerank", "k-reciprocal"]
    assert cli.main(words) == 0
    assert "re-ranking: k-reciprocal" in capsys.readouterr().out
    assert (tmp_path / "mine.npy.scores.json").is_file()


@pytest.mark.parametrize("kind", ["npz", "csv", "txt", "absolute"])
def test_rows_in_any_order_with_others_among_them(
    kind, people, benchmark, features, names, tmp_path
):
    order = np.random.default_rng(1).permutation(len(names))
    rows = np.concatenate([features[order], features[:1]])
    paths = [*(names[row] for row in order), "cam1/0001/other.jpg"]
    if kind == "absolute":
        paths = [str(people / path) for path in paths]
    file = tmp_path / ("mine.npz" if kind == "npz" else "mine.npy")
    if kind == "npz":
        np.savez(file, features=rows.astype(np.float64), paths=np.array(paths))
    else:
        np.save(file, rows.astype(np.float64))
    if kind == "csv":
        with file.with_suffix(".csv").open("w", newline="") as opened:
            csv.writer(opened).writerows([("path", "pid"), *((path, "?") for path in paths)])
    else:
        file.with_suffix(".txt").write_text("\n".join(paths) + "\n")
    np.testing.assert_array_equal(read_features(file, benchmark), features)


def test_rows_are_scaled_to_length_1(benchmark, features, tmp_path):
    lengths = np.linspace(0.1, 9, len(features))[:, None]
    np.save(tmp_path / "long.npy", features * lengths)
    np.testing.assert_allclose(read_features(tmp_path / "long.npy", benchmark), features, atol=1e-6)


def broken(features, row, value):
    changed = features.copy()
    changed[row] = value
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f[:-1], r"mine\.npy: \d+ rows, but .* test images; save one row for each"),
        (lambda f: f[0], "of shape .* two-dimensional"),
        (lambda f: f[None], "of shape .* two-dimensional"),
        (lambda f: (f * 9).astype(int), "features are int64"),
        (lambda f: broken(f, 3, np.nan), "row 3 is zero or not finite"),
        (lambda f: broken(f, 3, np.inf), "row 3 is zero or not finite"),
        (lambda f: broken(f, 4, 0), "row 4 is zero or not finite"),
    ],
)
def test_unusable_features_are_named(change, message, benchmark, features, tmp_path):
    np.save(tmp_path / "mine.npy", change(features))
    with pytest.raises(InputError, match=message):
        read_features(tmp_path / "mine.npy", benchmark)


def test_unusable_lists_are_named(benchmark, features, names, tmp_path):
    file, table = tmp_path / "mine.npy", tmp_path / "mine.csv"
    np.save(file, features)
    table.write_text("name\n" + "\n".join(names))
    with pytest.raises(InputError, match=r"mine\.csv: no column `path`"):
        read_features(file, benchmark)
    table.write_text("path\n" + "\n".join(names[:-1]))
    with pytest.raises(InputError, match=r"\d+ rows but \d+ paths"):
        read_features(file, benchmark)
    table.write_text("path\n" + "\n".join([*names[:-1], names[0]]))
    with pytest.raises(InputError, match=rf"rows 0 and {len(names) - 1} are both of"):
        read_features(file, benchmark)
    table.write_text("path\n" + "\n".join([*names[:-1], "elsewhere.jpg"]))
    with pytest.raises(InputError, match=rf"no row for 1 of .*, the first is {names[-1]}"):
        read_features(file, benchmark)


def test_unreadable_files_are_named(benchmark, features, tmp_path):
    with pytest.raises(InputError, match=r"none\.npy: cannot be read"):
        read_features(tmp_path / "none.npy", benchmark)
    (tmp_path / "text.npy").write_text("1 2 3")
    with pytest.raises(InputError, match=r"text\.npy: cannot be read"):
        read_features(tmp_path / "text.npy", benchmark)
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(InputError, match=r"objects\.npy: cannot be read"):
        read_features(tmp_path / "objects.npy", benchmark)
    np.save(tmp_path / "whole.npy", features)
    whole = (tmp_path / "whole.npy").read_bytes()
    for shape in (b"((((((((", b"(10**99,)", b"(9999999999999999,)", b"(-1, 2),"):  # of the header
        begin, end = whole.index(b"'shape': ") + 9, whole.index(b", }")
        spoilt = whole[:begin] + shape.ljust(end - begin) + whole[end:]
        (tmp_path / "header.npy").write_bytes(spoilt[: len(whole)])
        with pytest.raises(InputError, match=r"header\.npy: cannot be read"):
            read_features(tmp_path / "header.npy", benchmark)
    np.savez(tmp_path / "bare.npz", features=features)
    with pytest.raises(InputError, match=r"bare\.npz: no array 'paths'"):
        read_features(tmp_path / "bare.npz", benchmark)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs --data and no run"),
        ({"data": Path("d"), "split": (1, 2)}, "2 splits for one features file"),
    ],
)
def test_options_that_do_not_fit_are_named(options, message):
    with pytest.raises(InputError, match=message):
        evaluate(features=Path("a.npy"), **options)
    with pytest.raises(InputError, match="needs --data and no run"):
        evaluate((Path("run"),), features=Path("a.npy"), data=Path("d"))
