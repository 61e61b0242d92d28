"""Embed a Ray Dataset. Ray is started, or connected to, by the caller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from visir.core.types import InputError
from visir.embedding.engines.parquet import arrow, schema
from visir.embedding.engines.rows import DEFAULT, RowEmbedder, RowOptions, require_columns


class RayEmbedder:
    """The actor of `Dataset.map_batches`, with `batch_format="pyarrow"`.

    Args: as `visir.embedding.engines.RowEmbedder`.
    """

    def __init__(self, model: Path | str, options: RowOptions = DEFAULT) -> None:
        self._embed = RowEmbedder(model, options)

    def __call__(self, table: Any) -> Any:  # noqa: ANN401 - an optional package's type
        """Embed a pyarrow.Table; the result has the columns `COLUMNS`."""
        batch = {name: table[name].to_pylist() for name in table.column_names}
        return arrow().table(self._embed(batch), schema=schema())


def embedded(
    dataset: Any,  # noqa: ANN401
    model: Path | str,
    options: RowOptions = DEFAULT,
    *,
    workers: int = 2,
    batch_size: int = 128,
    **resources: float,
) -> Any:  # noqa: ANN401
    """A Ray Dataset of the embeddings of another one, computed when it is read or written.

    Ray repeats the batches of an actor that died, and each row is in the result once.

    Args:
        dataset: a `ray.data.Dataset` with the columns that `RowEmbedder` takes.
        model: as for `RowEmbedder`; the path is the same on every machine.
        options: as for `RowEmbedder`.
        workers: number of actors, each with its own model.
        batch_size: rows embedded together.
        resources: of each actor, such as num_cpus=2 or num_gpus=1. With num_cpus an export computes
            in as many threads, if the options do not say how many.

    Raises:
        InputError: Ray is not installed, or the column `path` is missing.
    """
    try:
        import ray.data
    except ImportError:
        raise InputError(
            'Ray Data is not installed; install it with pip install "visir[ray]"'
        ) from None
    names = dataset.columns(fetch_if_missing=False)
    if names is not None:
        require_columns(names)
    cores = int(resources.get("num_cpus", 0))
    if cores and options.threads is None:
        options = replace(options, threads=cores)
    return dataset.map_batches(
        RayEmbedder,
        fn_constructor_args=(str(model), options),
        batch_format="pyarrow",
        batch_size=batch_size,
        compute=ray.data.ActorPoolStrategy(size=workers),
        **resources,
    )
