"""The Parquet files that engines write, read for a gallery."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from visir.core.types import FloatArray, InputError, Modality, Span
from visir.data.ranges import name_of
from visir.embedding.engines.rows import COLUMNS
from visir.sources.crop import Broken, Entry

_ROWS = 512  # in memory at once


class Read(NamedTuple):
    """Some rows: entries, their (N, D) embeddings, what was skipped, and ranges of cameras."""

    entries: list[Entry]
    vectors: FloatArray
    skipped: list[Broken]
    ranges: dict[str, Span]


def arrow() -> ModuleType:
    """The package pyarrow.

    Raises:
        InputError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            'Parquet needs the package pyarrow; install it with pip install "visir[ray]" or '
            '"visir[spark]"'
        ) from None
    found: ModuleType = pyarrow
    return found


def schema() -> Any:  # noqa: ANN401 - an optional package's type
    """`COLUMNS` as a pyarrow.Schema."""
    pa = arrow()
    kinds = {
        "string": pa.string(),
        "double": pa.float64(),
        "binary": pa.binary(),
        "array<string>": pa.list_(pa.string()),
        "array<float>": pa.list_(pa.float32()),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def is_parquet(path: Path) -> bool:
    """Whether this is a Parquet file, or a folder with some that is no output of `visir embed`."""
    if path.is_file():
        return path.suffix == ".parquet"
    return path.is_dir() and next(path.glob("*.parquet"), None) is not None


def read_parquet(path: Path, model: str) -> Iterator[Read]:
    """Read the embeddings that an engine wrote, file by file in the order of their names.

    Args:
        path: a file or a folder.
        model: the fingerprint that all rows must have.

    Raises:
        InputError: pyarrow is missing, a file is damaged or not of visir, the rows are of another
            model, or the engine has not finished.
    """
    pa = arrow()
    if (path / "_temporary").exists():
        raise InputError(f"{path}: Spark has not finished it; wait for the job, or run it again")
    for file in [path] if path.is_file() else sorted(path.glob("*.parquet")):
        try:
            stored = pa.parquet.ParquetFile(file)
            missing = [name for name in COLUMNS if name not in stored.schema_arrow.names]
            if missing:
                raise InputError(
                    f"{file}: has no column {missing[0]!r}; give what visir's engines wrote"
                )
            for batch in stored.iter_batches(_ROWS, columns=[*COLUMNS]):
                yield _read(file, batch.to_pylist(), model)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise InputError(
                f"{file}: damaged ({error}); remove it and embed its images again"
            ) from error


def _read(file: Path, rows: list[dict[str, Any]], model: str) -> Read:
    other = next((row["model"] for row in rows if row["model"] != model), None)
    if other is not None:
        raise InputError(
            f"{file}: was embedded by another model ({other[:12]}, this one is {model[:12]}); "
            "embed the images with this one"
        )
    good = [row for row in rows if row["skipped"] is None]
    entries = [
        Entry(
            row["source"], row["camera"], Modality(row["modality"]), row["time"],
            tuple(row["tags"]), row["thumbnail"], row["mark"],
        )
        for row in good
    ]  # fmt: skip
    return Read(
        entries,
        np.array([row["vector"] for row in good], np.float32),
        [Broken(row["source"], row["skipped"]) for row in rows if row["skipped"] is not None],
        {
            name_of(Modality(row["modality"]), row["camera"]): Span(row["low"], row["high"])
            for row in good
            if row["low"] is not None
        },
    )
