import pytest

from visir.gallery.sqlite import SqliteStore


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """An empty gallery of either kind."""
    if request.param == "sqlite":
        gallery = SqliteStore(tmp_path / "a gallery", create=True)
    else:
        from visir.gallery.postgres import PostgresStore

        gallery = PostgresStore(request.getfixturevalue("schema"), create=True)
    yield gallery
    gallery.close()
