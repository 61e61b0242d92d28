"""Opening a gallery by its address, and the model that may look into it."""

from __future__ import annotations

from pathlib import Path

from visir.embedding.base import Embeds
from visir.gallery.sqlite import DATABASE, LocalGallery
from visir.gallery.store import Model, Store


def is_gallery(address: str | Path) -> bool:
    """Whether an address is a database's, or a folder that holds a gallery."""
    return _is_database(str(address)) or (Path(address) / DATABASE).is_file()


def open_gallery(address: str | Path, create: bool = False) -> Store:
    """Open a gallery.

    Args:
        address: a folder, or postgresql://user:password@host/database.
        create: whether a new one may begin there.

    Raises:
        InputError: there is none, or it cannot be opened.
    """
    if _is_database(str(address)):
        from visir.gallery.postgres import PostgresGallery  # late: psycopg is an extra

        return PostgresGallery(str(address), create)
    return LocalGallery(Path(address), create)


def model_of(embedder: Embeds) -> Model:
    """What tells an embedder's vectors from those of others."""
    return Model(
        embedder.fingerprint, embedder.method, embedder.width, embedder.size, embedder.flip
    )


def _is_database(address: str) -> bool:
    return address.startswith(("postgresql://", "postgres://"))
