"""The tables of a gallery in SQLite, and filters as SQL conditions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from visir.core.types import Modality
from visir.gallery.store import Filter, Stored

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE cameras (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL UNIQUE,
    camera INTEGER NOT NULL REFERENCES cameras (id), modality TEXT NOT NULL, time REAL,
    tags TEXT NOT NULL, added REAL NOT NULL);
CREATE INDEX items_time ON items (time);
CREATE INDEX items_camera ON items (camera);
CREATE TABLE vectors (id INTEGER PRIMARY KEY REFERENCES items (id), vector BLOB NOT NULL);
CREATE TABLE thumbnails (id INTEGER PRIMARY KEY REFERENCES items (id), jpeg BLOB NOT NULL);
CREATE TABLE tags (tag TEXT NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (tag, id)) WITHOUT ROWID;
CREATE TABLE removed (seq INTEGER PRIMARY KEY AUTOINCREMENT, id INTEGER NOT NULL);
"""
SELECT = (
    "SELECT items.id, source, cameras.name, modality, time, tags, added "
    "FROM items JOIN cameras ON cameras.id = items.camera"
)


def condition(where: Filter) -> tuple[str, list[Any]]:
    """An SQL condition on items, and its values."""
    parts, values = ["1"], list[Any]()
    if where.cameras:
        marks = ", ".join("?" * len(where.cameras))
        parts.append(f"items.camera IN (SELECT id FROM cameras WHERE name IN ({marks}))")
        values += where.cameras
    if where.modality is not None:
        parts.append("modality = ?")
        values.append(where.modality.value)
    for asked, test in (
        (where.since, "time >= ?"),
        (where.until, "time <= ?"),
        (where.before, "coalesce(time, added) < ?"),
    ):
        if asked is not None:
            parts.append(test)
            values.append(asked)
    for tag in where.tags:
        parts.append("items.id IN (SELECT id FROM tags WHERE tag = ?)")
        values.append(tag)
    return " AND ".join(parts), values


def stored(row: Sequence[Any]) -> Stored:
    """A row of `SELECT`."""
    item, source, camera, modality, moment, tags, added = row
    return Stored(
        item,
        source,
        camera=camera,
        modality=Modality(modality),
        time=moment,
        tags=tuple(json.loads(tags)),
        added=added,
    )
