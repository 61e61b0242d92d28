"""Embed many images with any number of workers that share only a folder.

The work is divided once, in `manifest.json`. A worker claims a unit of work by creating a file
(only one worker can create it), embeds the unit, writes its shard atomically, and removes the
claim. A claim is taken over if its owner died or has not refreshed it for long. Claims only avoid
double work: two workers with the same unit write the same shard, so each image is in the output
exactly once, whichever processes are killed.
"""

from visir.embedding.bulk.output import (
    Summary,
    is_output,
    ranges_of,
    read_manifest,
    read_shards,
)
from visir.embedding.bulk.work import embed_many, embed_run, embedded

__all__ = [
    "Summary",
    "embed_many",
    "embed_run",
    "embedded",
    "is_output",
    "ranges_of",
    "read_manifest",
    "read_shards",
]
