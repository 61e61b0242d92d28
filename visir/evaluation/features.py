"""Embeddings made by other code: read them for a data set's test images, and score them.

Rows are matched with test images in one of three ways:

- `FILE.npz` with `features` (N, D) and `paths` (N,);
- `FILE.npy`, with a list beside it that has the same name and the ending .csv (a column `path`) or
  .txt (one path per line), a path for each row;
- `FILE.npy` alone: row i belongs to `open_benchmark(data).test[i]`.

Paths are those of the image files, relative to the data set's folder or absolute. Rows may then be
in any order, and rows of other images are not used.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visir.core.run import write_json
from visir.core.types import Benchmark, FloatArray, InputError
from visir.core.untrusted import NO_ARRAYS
from visir.data.registry import open_benchmark
from visir.evaluation.evaluate import score_features
from visir.evaluation.results import Evaluation

_UNIT = 1e-3  # lengths this close to 1 are left as they are


def evaluate_features(
    file: Path,
    data: Path,
    *,
    layout: str | None = None,
    split: int = 1,
    protocols: Sequence[str] | None = None,
    rerank: str = "none",
) -> Evaluation:
    """Score a file of embeddings and write FILE.scores.json beside it.

    Args:
        file: as for `read_features`.
        data: the data set's folder.
        layout: folder structure; detected if None.
        split: split of the data set.
        protocols: keys of the data set's protocols; all if None.
        rerank: a key of `visir.evaluation.rerank.RERANKERS`, or "none".

    Raises:
        InputError: as `read_features` and `visir.evaluation.evaluate.score_features`.
    """
    file = Path(file)
    benchmark = open_benchmark(Path(data), layout, split)
    evaluation = score_features(read_features(file, benchmark), benchmark, protocols, rerank)
    write_json(Path(f"{file}.scores.json"), evaluation.as_json())
    return evaluation


def read_features(file: Path, benchmark: Benchmark) -> FloatArray:
    """Embeddings of the test images, in the order of `benchmark.test`.

    Rows are scaled to length 1, so that scores are cosines.

    Args:
        file: .npy or .npz, as this module describes; numbers of any floating-point type.
        benchmark: the data set.

    Returns:
        (N, D) float32, one row for each test image.

    Raises:
        InputError: the file cannot be read, has another shape or number of rows, a row that is
            zero, NaN or infinite, or lacks a test image.
    """
    file = Path(file)
    features_MD, paths = _read(file)
    if features_MD.ndim != 2 or features_MD.dtype.kind != "f":
        raise InputError(
            f"{file}: features are {features_MD.dtype} of shape {features_MD.shape}; save a "
            "two-dimensional array of floating-point numbers, one row per image"
        )
    if paths is None:
        if len(features_MD) != len(benchmark.test):
            raise InputError(
                f"{file}: {len(features_MD)} rows, but {benchmark.name} has "
                f"{len(benchmark.test)} test images; save one row for each, or a list of image "
                f"paths as {file.with_suffix('.csv').name}"
            )
        rows = list(range(len(features_MD)))
    else:
        if len(paths) != len(features_MD):
            raise InputError(
                f"{file}: {len(features_MD)} rows but {len(paths)} paths; give one path per row"
            )
        rows = _rows_of(file, paths, benchmark)
    return _unit(file, features_MD[rows].astype(np.float32), rows)


def _read(file: Path) -> tuple[FloatArray, list[str] | None]:
    """The array, and the path of each row where they are given."""
    try:
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded, _listed(file)
            for name in ("features", "paths"):
                if name not in loaded:
                    raise InputError(
                        f"{file}: no array {name!r} in it; save `features` and `paths`"
                    )
            return loaded["features"], [str(path) for path in loaded["paths"]]
    except NO_ARRAYS as error:
        raise InputError(
            f"{file}: cannot be read ({error}); give a .npy or .npz file that numpy.save or "
            "numpy.savez wrote without pickles"
        ) from error


def _listed(file: Path) -> list[str] | None:
    """Paths in the list beside a .npy file; None if there is no list."""
    table, text = file.with_suffix(".csv"), file.with_suffix(".txt")
    try:
        if table.is_file():
            with table.open(newline="", encoding="utf-8-sig") as opened:
                reader = csv.DictReader(opened)
                if "path" not in (reader.fieldnames or ()):
                    raise InputError(f"{table}: no column `path`; add a header line with it")
                return [row["path"] or "" for row in reader]
        if text.is_file():
            return text.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{table if table.is_file() else text}: cannot be read ({error})"
        ) from error
    return None


def _rows_of(file: Path, paths: Sequence[str], benchmark: Benchmark) -> list[int]:
    """The row of each test image."""
    row_of: dict[str, int] = {}
    for row, path in enumerate(paths):
        place = os.path.normpath(benchmark.root / path)
        if place in row_of:
            raise InputError(f"{file}: rows {row_of[place]} and {row} are both of {path}; keep one")
        row_of[place] = row
    wanted = [os.path.normpath(record.path) for record in benchmark.test]
    missing = [place for place in wanted if place not in row_of]
    if missing:
        raise InputError(
            f"{file}: no row for {len(missing)} of {len(wanted)} test images of {benchmark.name}, "
            f"the first is {os.path.relpath(missing[0], benchmark.root)}; add them, with paths "
            "relative to the data set's folder"
        )
    return [row_of[place] for place in wanted]


def _unit(file: Path, features_ND: FloatArray, rows: Sequence[int]) -> FloatArray:
    """Rows of length 1."""
    lengths_N = np.linalg.norm(features_ND.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.isfinite(lengths_N) & (lengths_N > 0)))
    if len(bad):
        raise InputError(
            f"{file}: row {rows[bad[0]]} is zero or not finite, as are {len(bad) - 1} others; "
            "embed these images again"
        )
    if np.abs(lengths_N - 1).max(initial=0) <= _UNIT:
        return features_ND
    scaled: FloatArray = (features_ND / lengths_N[:, None]).astype(np.float32)
    return scaled
