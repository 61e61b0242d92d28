"""Embed many images, by any number of workers that share nothing but a folder.

The work is divided once, in `manifest.json`. A worker claims a part by making a file nobody else
can make too, embeds it, writes its shard whole or not at all, and lets the claim go. A claim whose
owner died, or gave no sign for long, is taken over. Claims only spare work: two workers with one
part write the same shard, so each image is in the output once, whatever is killed when.
"""

from visir.embedding.bulk.output import Summary, is_output, read_manifest, read_shards
from visir.embedding.bulk.work import embed_many, embed_run, embedded

__all__ = [
    "Summary",
    "embed_many",
    "embed_run",
    "embedded",
    "is_output",
    "read_manifest",
    "read_shards",
]
