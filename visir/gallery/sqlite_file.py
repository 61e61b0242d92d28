"""The database file of a gallery: how it is opened, read and changed, and what its errors mean."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from visir.core.run import DamageWarning
from visir.core.types import InputError

_PATIENCE = 60  # seconds to wait for another process that writes
_AT_ONCE = 500  # values of one statement
_WIPING = 2  # seconds to wait for other processes that still read what was removed
# What is wrong, and what to do, by SQLite's primary result codes.
_ADVICE = {
    sqlite3.SQLITE_FULL: "the disk is full; free space and run the same command again",
    sqlite3.SQLITE_READONLY: "cannot be written; give yourself the right to write to the file and "
    "its folder, or copy the folder to where you have it",
    sqlite3.SQLITE_BUSY: "another process has been writing to it for too long; wait for it or end "
    "it, and run the same command again",
    sqlite3.SQLITE_LOCKED: "another process holds it; wait for it or end it, and run the same "
    "command again",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore it from a backup, and delete the files beside it "
    "that end in -wal and -shm, which belong to the damaged one",
    sqlite3.SQLITE_NOTADB: "is not a database; restore it from a backup, or give the folder of a "
    "gallery",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that it is a file and that you may read it "
    "and its folder",
    sqlite3.SQLITE_PERM: "cannot be opened; check that you may read it and its folder",
    sqlite3.SQLITE_IOERR: "cannot be read or written; check the disk and the space on it",
    sqlite3.SQLITE_NOMEM: "needs more memory than there is; end other processes",
    sqlite3.SQLITE_TOOBIG: "one value is too large for it; give a smaller one",
}
_MOVED = (
    "was moved, deleted or replaced while it was open; end this process and start it again with "
    "the file that is to be used"
)
_EMPTY = "is empty (0 bytes), what it held is lost"
_NO_TABLES = (
    "holds no gallery: it was copied while it was open, without the file beside it that ends in "
    "-wal, or its making was ended; copy both files, or delete it to begin a new gallery"
)
_ALONE = (
    "is missing or empty, and {} beside it belongs to it; restore both, or delete that one too to "
    "begin a new gallery"
)


class Database:
    """An SQLite database in write-ahead mode, open; a lock makes one thread use it at a time.

    Attributes:
        lock: held by whoever needs several statements to see the same state.

    Raises:
        InputError: it is not there, cannot be opened, or is not a gallery's.
    """

    def __init__(self, file: Path, schema: str | None, writable: bool = True) -> None:
        """Open it.

        Args:
            file: the database.
            schema: make it with these tables if it does not exist.
            writable: False opens it for reading only.
        """
        self.file, self.writable = file, writable
        self.lock = threading.RLock()
        self._db: sqlite3.Connection | None = None
        self._frozen: tuple[int, int, int] | None = None
        with self._told():
            empty = file.is_file() and not file.stat().st_size
            if empty and schema is None:
                raise InputError(f"{file}: {_EMPTY}; restore it from a backup")
            if empty:
                warnings.warn(
                    f"{file}: {_EMPTY}, so a new gallery is begun", DamageWarning, stacklevel=4
                )
            if schema is not None and (empty or not file.exists()):
                self._make(schema)
            self._open()
            if not self.run("SELECT name FROM sqlite_master WHERE name = 'meta'"):
                raise InputError(f"{file}: {_NO_TABLES}")

    def run(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        with self.lock, self._told():
            return self._connection().execute(statement, values).fetchall()

    def run_for(self, statement: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows of a statement that ends in IN, for any number of values: some at a time."""
        found = list[tuple[Any, ...]]()
        with self.lock:
            for start in range(0, len(values), _AT_ONCE):
                part = values[start : start + _AT_ONCE]
                found += self.run(f"{statement} ({', '.join('?' * len(part))})", part)
        return found

    def run_many(self, statement: str, values: Iterable[Sequence[object]]) -> None:
        """One statement with many values."""
        with self.lock, self._told():
            self._connection().executemany(statement, values)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """One transaction: all or nothing, on disk when it ends."""
        with self.lock:
            self.run("BEGIN IMMEDIATE")
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                with suppress(InputError):  # a full disk may have ended it already
                    self.run("ROLLBACK")
                raise

    def flush(self) -> None:
        """Write what was committed to the file itself, as far as no reader is in the way."""
        self.run("PRAGMA wal_checkpoint(PASSIVE)")

    def wipe(self) -> bool:
        """Overwrite what was removed, in the journal too: whether no reader was in the way."""
        with self.lock:
            self.run(f"PRAGMA busy_timeout = {1000 * _WIPING}")
            try:
                ((busy, _, _),) = self.run("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                self.run(f"PRAGMA busy_timeout = {1000 * _PATIENCE}")
        return not busy

    def close(self) -> None:
        """Close the file."""
        with self.lock, self._told():
            if self._db is not None:
                self._db.close()
                self._db = None

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise InputError(f"{self.file}: was closed; open the gallery again")
        if self._frozen is not None and self._frozen != self._facts():
            self._open()  # somebody changes it after all
        elif self._opened != self._identity():  # what is written to it would be lost
            raise InputError(f"{self.file}: {_MOVED}")
        return self._db

    def _identity(self) -> tuple[int, int] | None:
        try:
            about = self.file.stat()
        except FileNotFoundError:
            return None
        return about.st_dev, about.st_ino

    def _facts(self) -> tuple[int, int, int]:
        """What changes when somebody writes to the file, or to its journal."""
        about, journal = self.file.stat(), self._journal()
        return about.st_size, about.st_mtime_ns, journal.stat().st_size if journal.exists() else 0

    def _journal(self) -> Path:
        return self.file.with_name(self.file.name + "-wal")

    def _make(self, schema: str) -> None:
        """Make the file under another name, so that it is complete or absent."""
        journal = self._journal()
        if journal.exists() and journal.stat().st_size:
            raise InputError(f"{self.file}: {_ALONE.format(journal.name)}")
        self.file.parent.mkdir(parents=True, exist_ok=True)
        part = self.file.with_name(f".{self.file.name}.{secrets.token_hex(8)}.part")
        try:
            db = sqlite3.connect(part, isolation_level=None)
            db.execute("PRAGMA page_size = 16384")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN")
            for statement in filter(str.strip, schema.split(";")):
                db.execute(statement)
            db.execute("COMMIT")
            db.execute("PRAGMA journal_mode = WAL")
            db.close()
            if self.file.is_file() and not self.file.stat().st_size:
                part.replace(self.file)
            with suppress(FileNotFoundError, FileExistsError):  # done, or by another process
                os.link(part, self.file)
        finally:
            for name in (part.name, f"{part.name}-wal", f"{part.name}-shm"):
                part.with_name(name).unlink(missing_ok=True)

    def _open(self) -> None:
        """Open the file; in a folder that cannot be written, as one that nobody changes."""
        if self.writable:
            self._connect("rw")
            self.run("PRAGMA journal_mode = WAL")
            self.run("PRAGMA synchronous = FULL")
            self.run("PRAGMA secure_delete = ON")  # deleted rows are overwritten
            return
        self._frozen = None
        self._connect("ro")
        try:
            self.run("SELECT 1 FROM sqlite_master")
        except InputError:
            facts = self._facts()
            if facts[-1]:
                raise  # without its journal the file is out of date
            self._connect("ro&immutable=1")
            self._frozen = facts

    def _connect(self, mode: str) -> None:
        if self._db is not None:
            self._db.close()
        self._opened = self._identity()
        address = f"{self.file.resolve().as_uri()}?mode={mode}"
        self._db = sqlite3.connect(
            address, uri=True, timeout=_PATIENCE, check_same_thread=False, isolation_level=None
        )

    @contextmanager
    def _told(self) -> Iterator[None]:
        """The one place where SQLite's errors become sentences."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.file}: cannot be opened as a gallery ({error.strerror or error}); check "
                "that its folder is there and that you may read and write it"
            ) from error
        except (
            OverflowError,
            UnicodeEncodeError,
            sqlite3.ProgrammingError,
            sqlite3.InterfaceError,
        ) as error:
            raise InputError(
                f"{self.file}: cannot be asked for this ({error}); give values in their range"
            ) from error
        except sqlite3.Error as error:
            raise InputError(f"{self.file}: {meaning(error)}") from error


def meaning(error: sqlite3.Error) -> str:
    """What an error of SQLite means, and what to do."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        return f"SQLite failed ({error}); run the same command again"
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return _MOVED
    advice = _ADVICE.get(code & 0xFF, "SQLite failed; run the same command again")
    return f"{advice} ({error})"
