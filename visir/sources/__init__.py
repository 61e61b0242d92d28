"""Readers of crops: folders, tar shards and videos, as one stream."""
