"""Embed rows of a table with an engine that spreads work over machines: Ray Data or Spark.

`rows` embeds a batch of rows and knows no engine; `on_ray` and `on_spark` pass batches to it;
`parquet` reads what they wrote, for a gallery.
"""

from visir.embedding.engines.rows import COLUMNS, RowEmbedder, RowOptions, list_rows

__all__ = ["COLUMNS", "RowEmbedder", "RowOptions", "list_rows"]
