"""Where crops come from: folders, tar shards and videos, read as one stream."""
