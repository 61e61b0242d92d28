"""What SQLite's errors mean to the user, and galleries that can only be read."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest
from people import MODEL, entries, vectors

from visir.core.types import InputError
from visir.gallery import sqlite_file
from visir.gallery.open import open_gallery
from visir.gallery.sqlite import SqliteStore
from visir.gallery.sqlite_file import meaning
from visir.gallery.store import Filter

NOBODY = 65_534


@pytest.fixture
def gallery(tmp_path):
    with contextlib.closing(SqliteStore(tmp_path / "g", create=True)) as opened:
        opened.add(MODEL, entries(20), vectors(20))
        yield opened


@pytest.mark.parametrize(("code", "said"), [
    (sqlite3.SQLITE_FULL, "disk is full; free space"),
    (sqlite3.SQLITE_READONLY_CANTINIT, "right to write"),
    (sqlite3.SQLITE_READONLY_DBMOVED, "moved, deleted or replaced"),
    (sqlite3.SQLITE_BUSY_SNAPSHOT, "another process has been writing"),
    (sqlite3.SQLITE_LOCKED, "another process holds it"),
    (sqlite3.SQLITE_CORRUPT_INDEX, "is damaged; restore it from a backup, and delete the files"),
    (sqlite3.SQLITE_NOTADB, "is not a database"),
    (sqlite3.SQLITE_IOERR_SHORT_READ, "check the disk"),
    (sqlite3.SQLITE_CANTOPEN_ISDIR, "check that it is a file"),
    (sqlite3.SQLITE_MISUSE, "SQLite failed; run the same command again"),
])  # fmt: skip
def test_every_code_has_its_advice(code, said):
    error = sqlite3.OperationalError("what SQLite said")
    error.sqlite_errorcode = code
    assert said in meaning(error)


def test_a_full_disk_changes_nothing_and_is_named(gallery):
    pages = gallery.db.run("PRAGMA page_count")[0][0]
    gallery.db.run(f"PRAGMA max_page_count = {pages}")
    big = [entry._replace(thumbnail=b"x" * 100_000) for entry in entries(20, 100)]
    with pytest.raises(InputError, match=r"gallery\.sqlite: the disk is full; free space"):
        gallery.add(MODEL, big, vectors(20))
    assert gallery.count() == 20
    gallery.db.run("PRAGMA max_page_count = 100000")
    assert len(gallery.add(MODEL, big, vectors(20))) == 20


def test_a_writer_that_does_not_end_is_named(gallery, monkeypatch):
    monkeypatch.setattr(sqlite_file, "_PATIENCE", 0.05)
    other = SqliteStore(gallery.folder)
    with gallery.db.changing(), pytest.raises(InputError, match="another process has been writing"):
        other.remove([1])
    assert other.remove([1]) == 1
    other.close()


def test_a_malformed_page_is_one_sentence(tmp_path, gallery):
    gallery.close()
    file = gallery.folder / "gallery.sqlite"
    content = bytearray(file.read_bytes())
    content[2 * 16384 :] = b"\xff" * (len(content) - 2 * 16384)
    file.write_bytes(content)
    said = r"gallery\.sqlite: is damaged; restore it from a backup"
    with pytest.raises(InputError, match=said):
        SqliteStore(gallery.folder).select(Filter())


def test_an_embedding_of_another_length_is_one_sentence(gallery):
    gallery.db.run("UPDATE vectors SET vector = x'00112233' WHERE id = 3")
    with pytest.raises(InputError, match="an embedding of 4 bytes, not 192, is in it"):
        gallery.nearest(vectors(1)[0], 3)


def test_a_file_without_tables_was_copied_without_its_journal(tmp_path):
    db = sqlite3.connect(tmp_path / "gallery.sqlite")
    db.execute("PRAGMA journal_mode = WAL")
    db.close()
    assert (tmp_path / "gallery.sqlite").stat().st_size
    with pytest.raises(InputError, match="copied while it was open, without the file beside it"):
        SqliteStore(tmp_path)


def test_a_copy_of_an_open_database_without_its_journal_has_what_was_acknowledged(gallery):
    copied = gallery.folder.parent / "copy"
    copied.mkdir()
    shutil.copy(gallery.folder / "gallery.sqlite", copied)
    with contextlib.closing(SqliteStore(copied)) as opened:
        assert opened.count() == 20


def test_a_journal_without_its_database_is_not_taken_over(tmp_path):
    (tmp_path / "gallery.sqlite-wal").write_bytes(b"pages of another database")
    with pytest.raises(InputError, match=r"is missing or empty, and gallery\.sqlite-wal"):
        SqliteStore(tmp_path, create=True)
    assert not (tmp_path / "gallery.sqlite").exists()


def test_a_folder_in_place_of_the_database_is_one_sentence(tmp_path):
    (tmp_path / "gallery.sqlite").mkdir()
    with pytest.raises(InputError, match="cannot be opened; check that it is a file"):
        SqliteStore(tmp_path)


def test_a_gallery_that_was_replaced_while_open_takes_no_more_images(gallery):
    other = SqliteStore(gallery.folder.parent / "other", create=True)
    other.close()
    (other.folder / "gallery.sqlite").replace(gallery.folder / "gallery.sqlite")
    with pytest.raises(InputError, match="moved, deleted or replaced while it was open"):
        gallery.add(MODEL, entries(1, 500), vectors(1))


def test_reading_does_not_write_and_says_so(gallery):
    reader = open_gallery(gallery.folder, writable=False)
    assert reader.count() == 20
    assert reader.nearest(vectors(20)[3], 1).ids.tolist() == [4]
    with pytest.raises(InputError, match="cannot be written; give yourself the right"):
        reader.remove([1])
    gallery.remove([4])
    assert reader.nearest(vectors(20)[3], 1).ids.tolist() != [4]
    reader.close()


def as_nobody(work):
    """The exit status of a process without rights that does something; 0 if it is right."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")
@pytest.mark.parametrize("scan", ["current", "behind", "missing"])
def test_a_gallery_that_cannot_be_written_can_be_searched(scan):
    """Whatever its scan is like; once its owner writes to it, the new images are found too."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        gallery = SqliteStore(root / "g", create=True)
        gallery.add(MODEL, entries(20), vectors(20))
        if scan != "missing":
            gallery.settle()
        if scan == "behind":
            gallery.add(MODEL, entries(5, 20), vectors(5, seed=1))
        gallery.close()
        for suffix in ("-wal", "-shm"):
            assert not (root / f"g/gallery.sqlite{suffix}").exists()

        def search():
            opened = open_gallery(root / "g", writable=False)
            right = opened.nearest(vectors(20)[3], 1).ids.tolist() == [4]
            if scan == "behind":
                right &= opened.nearest(vectors(5, seed=1)[2], 1).ids.tolist() == [23]
            return right and opened.count() == (25 if scan == "behind" else 20)

        assert as_nobody(search) == 0
        owner = SqliteStore(root / "g")
        owner.add(MODEL, entries(1, 90), vectors(1, seed=9))
        new = owner.known(["crops/90.jpg"])["crops/90.jpg"]
        (root / "g/gallery.sqlite-wal").chmod(0o644)

        def search_again():
            opened = open_gallery(root / "g", writable=False)
            return opened.nearest(vectors(1, seed=9)[0], 1).ids.tolist() == [new]

        assert as_nobody(search_again) == 0
        owner.close()
