"""Embed a Spark DataFrame. The session is made by the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from visir.core.types import InputError
from visir.embedding.engines.rows import COLUMNS, DEFAULT, RowEmbedder, RowOptions, require_columns

SCHEMA = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
"""The schema that `mapInPandas` is given."""
Frames = Iterator[Any]  # of pandas.DataFrame


def in_pandas(model: Path | str, options: RowOptions = DEFAULT) -> Callable[[Frames], Frames]:
    """The function of `DataFrame.mapInPandas`, for the schema `SCHEMA`.

    The model is loaded once in each Python worker, when it meets the first rows.

    Args: as `visir.embedding.engines.RowEmbedder`.
    """
    path = str(model)

    def embed(frames: Frames) -> Frames:
        from pandas import DataFrame

        for frame in frames:
            batch = {str(name): frame[name].tolist() for name in frame.columns}
            yield DataFrame(_loaded(path, options)(batch), columns=[*COLUMNS])

    return embed


def embedded(frame: Any, model: Path | str, options: RowOptions = DEFAULT) -> Any:  # noqa: ANN401
    """A Spark DataFrame of the embeddings of another one, computed when it is read or written.

    Spark repeats the partitions of a worker that died, and each row is in the result once.

    Args:
        frame: a `pyspark.sql.DataFrame` with the columns that `RowEmbedder` takes.
        model: as for `RowEmbedder`; the path is the same on every machine.
        options: as for `RowEmbedder`.

    Raises:
        InputError: Spark or pandas is not installed, or the column `path` is missing.
    """
    try:
        import pandas  # noqa: F401
        import pyspark  # noqa: F401
    except ImportError as error:
        raise InputError(
            f'{error.name} is not installed; install it with pip install "visir[spark]"'
        ) from None
    require_columns(frame.columns)
    return frame.mapInPandas(in_pandas(model, options), SCHEMA)


@cache
def _loaded(model: str, options: RowOptions) -> RowEmbedder:
    return RowEmbedder(model, options)
