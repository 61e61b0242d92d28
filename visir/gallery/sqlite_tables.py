"""The tables of a gallery in SQLite, and filters as SQL conditions."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from visir.core.types import Modality
from visir.gallery.store import Filter, Stored
from visir.sources.crop import Entry

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


MARKS = (
    "CREATE TABLE IF NOT EXISTS marks "
    "(id INTEGER PRIMARY KEY REFERENCES items (id), mark TEXT NOT NULL)"
)
OF_ITEMS = ("vectors", "thumbnails", "marks", "tags", "items")
"""The tables that a removed image has rows in."""


def insert(db: sqlite3.Connection, ids: Sequence[int], entries: Sequence[Entry]) -> None:
    """Write everything about images but their vectors."""
    numbers = {}
    for name in dict.fromkeys(entry.camera for entry in entries):
        db.execute("INSERT OR IGNORE INTO cameras (name) VALUES (?)", [name])
        kept = db.execute("SELECT id FROM cameras WHERE name = ?", [name])
        numbers[name] = kept.fetchone()[0]
    now = time.time()
    both = [(i, e, tuple(dict.fromkeys(e.tags))) for i, e in zip(ids, entries, strict=True)]
    db.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (i, e.source, numbers[e.camera], e.modality.value, e.time, json.dumps(tags), now)
            for i, e, tags in both
        ),
    )
    pictures = ((i, e.thumbnail) for i, e, _ in both if e.thumbnail)
    db.executemany("INSERT INTO thumbnails VALUES (?, ?)", pictures)
    db.executemany("INSERT INTO tags VALUES (?, ?)", ((t, i) for i, _, tags in both for t in tags))
    db.executemany("INSERT INTO marks VALUES (?, ?)", ((i, e.mark) for i, e, _ in both if e.mark))


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
