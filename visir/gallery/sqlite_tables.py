"""The tables of a gallery in SQLite, and filters as SQL conditions."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from visir.core.types import Modality
from visir.gallery.scan.state import Mark
from visir.gallery.sqlite_file import Database
from visir.gallery.store import FORMAT, Filter, Stored
from visir.sources.crop import Entry

SCHEMA = f"""
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
INSERT INTO meta VALUES ('format', '{FORMAT}'), ('version', '0');
"""
SELECT = (
    "SELECT items.id, source, cameras.name, modality, time, tags, added "
    "FROM items JOIN cameras ON cameras.id = items.camera"
)

ADDED = """
CREATE TABLE IF NOT EXISTS marks (id INTEGER PRIMARY KEY REFERENCES items (id), mark TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS changes (version INTEGER PRIMARY KEY, stamp TEXT NOT NULL);
"""
"""Tables that galleries of former versions do not have. changes: of every addition and removal its
number and a random stamp, by which the scan knows whether it belongs to this database."""
OF_ITEMS = ("vectors", "thumbnails", "marks", "tags", "items")
"""The tables that a removed image has rows in."""


def insert(db: Database, ids: Sequence[int], entries: Sequence[Entry]) -> None:
    """Write everything about images but their vectors."""
    numbers = {}
    for name in dict.fromkeys(entry.camera for entry in entries):
        db.run("INSERT OR IGNORE INTO cameras (name) VALUES (?)", [name])
        numbers[name] = db.run("SELECT id FROM cameras WHERE name = ?", [name])[0][0]
    now = time.time()
    both = [(i, e, tuple(dict.fromkeys(e.tags))) for i, e in zip(ids, entries, strict=True)]
    db.run_many(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (i, e.source, numbers[e.camera], e.modality.value, e.time, json.dumps(tags), now)
            for i, e, tags in both
        ),
    )
    pictures = ((i, e.thumbnail) for i, e, _ in both if e.thumbnail)
    db.run_many("INSERT INTO thumbnails VALUES (?, ?)", pictures)
    db.run_many("INSERT INTO tags VALUES (?, ?)", ((t, i) for i, _, tags in both for t in tags))
    db.run_many("INSERT INTO marks VALUES (?, ?)", ((i, e.mark) for i, e, _ in both if e.mark))


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
    return Stored(item, source, camera, Modality(modality), moment, tuple(json.loads(tags)), added)


def setting(db: Database, key: str) -> str | None:
    """A setting of the gallery itself; None if it is not set."""
    rows = db.run("SELECT value FROM meta WHERE key = ?", [key])
    return str(rows[0][0]) if rows else None


def put(db: Database, key: str, value: str) -> None:
    """Set a setting."""
    db.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", [key, value])


def version(db: Database) -> int:
    """The number of the last change."""
    return int(setting(db, "version") or 0)


def mark(db: Database) -> Mark:
    """The last change; its stamp is empty if a former version of visir made it."""
    number = version(db)
    found = db.run("SELECT stamp FROM changes WHERE version = ?", [number])
    return Mark(number, found[0][0] if found else "")


def has_seen(db: Database, change: Mark) -> bool:
    """Whether a change is one of this database's, the last one or a former one."""
    return bool(db.run("SELECT 1 FROM changes WHERE version = ? AND stamp = ?", change))


def note_change(db: Database) -> None:
    """Count a change, inside the transaction that makes it."""
    put(db, "version", str(version(db) + 1))
    stamp(db)


def stamp(db: Database) -> None:
    """Give the last change what tells it from others of its number."""
    db.run("INSERT INTO changes VALUES (?, ?)", [version(db), secrets.token_hex(8)])
