"""Open a gallery by its address: a folder made by `visir index`, a database, or a plain folder."""

from __future__ import annotations

from pathlib import Path

from visir.core.types import Modality
from visir.embedding.base import Embeds
from visir.gallery.sqlite import DATABASE, SqliteStore
from visir.gallery.store import Store


def is_gallery(address: str | Path) -> bool:
    """Whether an address is a database's, or a folder that `visir index` made."""
    return _is_database(str(address)) or (Path(address) / DATABASE).is_file()


def open_gallery(address: str | Path, create: bool = False) -> Store:
    """Open a gallery that `visir index` made.

    Args:
        address: a folder, or postgresql://user:password@host/database.
        create: make it if it does not exist.

    Raises:
        InputError: there is none, or it cannot be opened.
    """
    if _is_database(str(address)):
        from visir.gallery.postgres import PostgresStore  # late: psycopg is an extra

        return PostgresStore(str(address), create)
    return SqliteStore(Path(address), create)


def open_searchable(
    address: str | Path,
    embedder: Embeds,
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
        return open_gallery(address)
    from visir.gallery.memory import FolderStore  # late: only some searches need it

    return FolderStore(Path(address), embedder, run, modality, progress)


def _is_database(address: str) -> bool:
    return address.startswith(("postgresql://", "postgres://"))
