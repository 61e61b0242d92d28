"""A database that stops, refuses or is read-only is named in one sentence, and nothing is lost."""

import os
import random
import signal
import time
from collections import Counter

import psycopg
import pytest
from people import MODEL, entries, two_clouds, vectors

import visir.gallery.postgres as postgres_module
import visir.gallery.postgres_connection as connection_module
import visir.gallery.postgres_leads as leads_module
from visir.core.types import InputError, UnavailableError
from visir.gallery.open import open_gallery
from visir.gallery.postgres_errors import refused

pytestmark = pytest.mark.slow

COUNT, KILLS, BATCH = 400, 8, 8
ROWS, QUERIES = two_clouds(COUNT, -0.5)


@pytest.fixture
def gallery(schema, monkeypatch):
    monkeypatch.setattr(postgres_module, "SMALL", 100)
    found = open_gallery(schema, create=True)
    found.add(MODEL, entries(COUNT - 1), ROWS[:-1])
    yield found
    found.close()


def cut(gallery):
    """End the server's process of this connection, as a stopping server does."""
    with psycopg.connect(gallery.connection.address) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [gallery.db.info.backend_pid])


def cutting(gallery, function):
    """The function, after which the connection is lost."""

    def wrapped(*arguments):
        result = function(*arguments)
        cut(gallery)
        return result

    return wrapped


CALLS = {
    "nearest": lambda g: g.nearest(QUERIES[0], 3).ids.tolist(),
    "add": lambda g: g.add(MODEL, entries(1, COUNT - 1), ROWS[-1:]),
    "remove": lambda g: g.remove([1]),
    "select": lambda g: len(g.select(postgres_module.EVERYTHING)),
    "settle": lambda g: g.settle(),
    "vectors": lambda g: g.vectors([2]).shape,
    "keep_for": lambda g: g.keep_for(3),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_connection_lost_meanwhile_is_made_again(gallery, name):
    cut(gallery)
    CALLS[name](gallery)
    assert gallery.count() in (COUNT - 1, COUNT, COUNT - 2)


@pytest.mark.parametrize("name", CALLS)
def test_a_lost_connection_is_said(gallery, name, monkeypatch):
    monkeypatch.setattr(connection_module, "_is_lost", lambda db: db.closed)  # noticed too late
    cut(gallery)
    with pytest.raises(UnavailableError, match=r"kept whole or not at all.*do the same again") as e:
        CALLS[name](gallery)
    assert str(e.value).startswith(gallery.name) and "\n" not in str(e.value)
    assert gallery.count() == COUNT - 1
    CALLS[name](gallery)


def test_a_server_that_stays_away_is_named_and_not_asked_by_everyone(gallery, monkeypatch):
    cut(gallery)
    gallery.connection.address = "postgresql://postgres@127.0.0.1:1/gone"
    tries, made = [], gallery.connection._made
    monkeypatch.setattr(gallery.connection, "_made", lambda: tries.append(0) or made())
    for _ in range(3):
        with pytest.raises(UnavailableError, match=r"does not answer .*start the server or check"):
            gallery.count()
    assert len(tries) == 1
    monkeypatch.setattr(connection_module, "PAUSE", 0)
    with pytest.raises(UnavailableError):
        gallery.count()
    assert len(tries) == 2


def test_an_add_that_is_cut_off_leaves_nothing(gallery, monkeypatch):
    before = gallery.version()
    monkeypatch.setattr(postgres_module, "insert", cutting(gallery, postgres_module.insert))
    with pytest.raises(InputError, match="kept whole or not at all"):
        gallery.add(MODEL, entries(1, COUNT - 1), ROWS[-1:])
    assert (gallery.count(), gallery.version()) == (COUNT - 1, before)
    monkeypatch.undo()
    assert gallery.add(MODEL, entries(1, COUNT - 1), ROWS[-1:])[0] > COUNT - 1


@pytest.mark.parametrize("step", ["_learnt", "_fill", "_keep"])
def test_a_settling_that_is_cut_off_is_done_by_the_next(gallery, monkeypatch, step):
    expected = gallery.nearest(QUERIES[0], 9).ids.tolist()
    with monkeypatch.context() as patch:
        patch.setattr(leads_module, step, cutting(gallery, getattr(leads_module, step)))
        with pytest.raises(InputError, match="kept whole or not at all"):
            gallery.settle()
    assert gallery.setting("leads") is None and gallery.setting("settled") is None
    led = "SELECT count(*) FROM visir_items WHERE basis IS NOT NULL"
    assert gallery.db.execute(led).fetchone() == (0,)
    assert gallery.nearest(QUERIES[0], 9).ids.tolist() == expected
    gallery.settle()  # the lock of the one that was cut off is free
    assert gallery.db.execute(led).fetchone() == (COUNT - 1,)
    assert gallery.nearest(QUERIES[0], 9).ids.tolist() == expected


def test_reading_is_all_that_a_replica_and_a_reader_can_do(gallery):
    gallery.db.execute("SET default_transaction_read_only = on")
    with pytest.raises(InputError, match="read-only; give the address of the server"):
        gallery.remove([1])
    assert len(gallery.nearest(QUERIES[0], 9).ids) == 9
    gallery.db.execute("SET default_transaction_read_only = off")
    own = gallery.db.execute("SELECT current_schema()").fetchone()[0]
    gallery.db.execute(f"GRANT USAGE ON SCHEMA {own} TO pg_read_all_data")
    gallery.db.execute("SET ROLE pg_read_all_data")
    with pytest.raises(InputError, match=r"permission denied.*grant its tables to this user"):
        gallery.remove([1])
    assert len(gallery.nearest(QUERIES[0], 9).ids) == 9
    gallery.db.execute("RESET ROLE")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\0b", "a name cannot be kept in PostgreSQL.*rename the file"),
        ("a\udcffb", "a name is not UTF-8; rename it"),
    ],
)
def test_a_name_that_postgresql_cannot_keep_is_named(gallery, name, said):
    (entry,) = entries(1, COUNT - 1)
    with pytest.raises(InputError, match=said):
        gallery.add(MODEL, [entry._replace(source=name)], ROWS[-1:])
    with pytest.raises(InputError, match="a name cannot be kept in PostgreSQL"):
        gallery.known([name])
    assert gallery.count() == COUNT - 1


def test_advice_fits_what_postgresql_says():
    """Classes of https://www.postgresql.org/docs/current/errcodes-appendix.html."""
    for error, advice in (
        (psycopg.errors.DiskFull("no space"), "make room on the server's disk"),
        (psycopg.errors.TooManyConnections("many"), "start the server or check the network"),
        (psycopg.errors.OutOfMemory("memory"), "free memory or connections"),
        (psycopg.errors.DeadlockDetected("deadlock"), "another process changed the same"),
        (psycopg.errors.AdminShutdown("down"), "start the server or check the network"),
        (psycopg.errors.CannotConnectNow("starting"), "start the server or check the network"),
        (psycopg.errors.QueryCanceled("late"), "raise `statement_timeout`"),
        (psycopg.errors.DataCorrupted("bad page"), "restore the database from a backup"),
        (psycopg.OperationalError("refused"), "check the network"),
        (psycopg.errors.SyntaxError("?"), "see the server's log"),
    ):
        found = refused("site", error)
        assert str(found).startswith("site: PostgreSQL d") and advice in str(found)
        assert isinstance(found, UnavailableError) == ("check the network" in advice)


def add_and_remove(address, start, channel):
    """Add batches for ever, remove half of each, settle; tell of each step that is done."""
    try:
        gallery = open_gallery(address)
        for first in range(start, start + 100_000, BATCH):
            ids = gallery.add(MODEL, entries(BATCH, first), vectors(BATCH, seed=first))
            os.write(channel, b"a" + first.to_bytes(8, "little"))
            gallery.remove(ids[: BATCH // 2])
            os.write(channel, b"r" + first.to_bytes(8, "little"))
            gallery.settle()
    finally:
        os._exit(1)


def killed(address, starts, seconds):
    """What two processes told of before both were killed at once: (what, first) of each step."""
    reading, channel = os.pipe()
    children = []
    for start in starts:
        child = os.fork()
        if not child:
            add_and_remove(address, start, channel)
        children.append(child)
    os.close(channel)
    told = os.read(reading, 9)  # one is at work now
    time.sleep(seconds)
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    while part := os.read(reading, 1 << 16):
        told += part
    os.close(reading)
    return [(told[i : i + 1], int.from_bytes(told[i + 1 : i + 9], "little"))
            for i in range(0, len(told), 9)]  # fmt: skip


def test_two_killed_processes_lose_nothing_and_leave_nothing_half_done(schema, monkeypatch):
    monkeypatch.setattr(postgres_module, "SMALL", 50)
    open_gallery(schema, create=True).close()
    rng, told = random.Random(0), []
    for number in range(KILLS):
        starts = [1_000_000 * number, 1_000_000 * number + 500_000]
        told += killed(schema, starts, rng.uniform(0, 0.4))
        gallery = open_gallery(schema)
        gallery.settle()  # waits for what the server still does for a killed one
        there = gallery.select(postgres_module.EVERYTHING)
        firsts = [int(item.source[6:-4]) for item in there]
        held = Counter(first - first % BATCH for first in firsts)
        assert {first for _, first in told} <= held.keys()
        assert set(held.values()) <= {BATCH, BATCH // 2}  # whole steps only
        assert all(held[first] == BATCH // 2 for what, first in told if what == b"r")
        item = rng.choice(there)
        first = int(item.source[6:-4])
        vector = vectors(BATCH, seed=first - first % BATCH)[first % BATCH]
        assert gallery.nearest(vector, 1).ids.tolist() == [item.id]
        gallery.close()
    assert len(told) > 2 * KILLS  # the kills came while there was work
