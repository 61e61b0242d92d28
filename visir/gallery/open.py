"""Open a gallery by its address: a folder made by `visir index`, a database, or a plain folder."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name

from visir.core.types import Modality
from visir.embedding.base import ImageEmbedder
from visir.gallery.sqlite import DATABASE, SqliteStore
from visir.gallery.store import Store

DATABASES = {
    "postgresql://": "visir.gallery.postgres:PostgresStore",
    "postgres://": "visir.gallery.postgres:PostgresStore",
}
"""Prefix of an address -> module and class of the store, imported when it is used."""


def is_gallery(address: str | Path) -> bool:
    """Whether an address is a database's, or a folder that `visir index` made."""
    return _database(str(address)) is not None or (Path(address) / DATABASE).is_file()


def open_gallery(address: str | Path, create: bool = False, writable: bool = True) -> Store:
    """Open a gallery that `visir index` made.

    Args:
        address: a folder, or postgresql://user:password@host/database.
        create: make it if it does not exist.
        writable: False to search and list only; a folder may then be one that cannot be written.

    Raises:
        InputError: there is none, or it cannot be opened.
    """
    database = _database(str(address))
    if database is None:
        return SqliteStore(Path(address), create, writable)
    store: Store = resolve_name(database)(str(address), create)
    return store


def open_searchable(
    address: str | Path,
    embedder: ImageEmbedder,
    run: Path,
    modality: Modality | None = None,
    progress: bool = False,
) -> Store:
    """Open what can be searched: a gallery, or else a plain folder or data set.

    Args:
        address: a gallery's address, or a folder of images.
        embedder: the model to search with.
        run: the run folder or weights file the embedder is of; it caches a plain folder.
        modality: of the images of a plain folder whose folder name does not say it.
        progress: show a progress bar while a plain folder is embedded.

    Raises:
        InputError: it cannot be opened, or a folder without images.
    """
    if is_gallery(address):
        return open_gallery(address, writable=False)
    from visir.gallery.plain_folder import FolderStore  # late: only some searches need it

    return FolderStore(Path(address), embedder, run, modality, progress)


def _database(address: str) -> str | None:
    """The store of a database's address; None for a folder."""
    return next((store for prefix, store in DATABASES.items() if address.startswith(prefix)), None)
