"""A database that stops at once, or loses a process, while visir works with it: nothing is lost."""

import os
import random
import signal
import threading
import time
from collections import Counter

import pytest
from fake_run import PixelEmbedder, draw_person
from people import MODEL, entries, vectors

import visir.embedding.bulk.work as bulk_module
import visir.embedding.pytorch
import visir.gallery.postgres as postgres_module
from visir import cli
from visir.core.types import UnavailableError
from visir.gallery.open import open_gallery
from visir.gallery.store import EVERYTHING

pytestmark = pytest.mark.slow

BATCH, ROUNDS = 8, 3
SAID = r"PostgreSQL does not answer .*kept whole or not at all.*start the server.*do the same again"


@pytest.fixture
def address(stoppable):
    """A schema of its own."""
    import psycopg

    with psycopg.connect(stoppable.address, autocommit=True) as db:
        db.execute("CREATE EXTENSION IF NOT EXISTS vector")
        db.execute("DROP SCHEMA IF EXISTS site CASCADE; CREATE SCHEMA site")
    return f"{stoppable.address}&options=-csearch_path%3Dsite,public"


class Worker(threading.Thread):
    """Adds, searches and removes until it fails; `told` has each step that was acknowledged."""

    def __init__(self, gallery, first):
        super().__init__()
        self.gallery, self.first, self.told, self.error = gallery, first, [], None

    def run(self):
        try:
            while True:
                ids = self.gallery.add(
                    MODEL, entries(BATCH, self.first), vectors(BATCH, seed=self.first)
                )
                self.told.append(("added", self.first))
                self.gallery.settle()
                found = self.gallery.nearest(vectors(BATCH, seed=self.first)[0], 1)
                assert found.ids.tolist() == ids[:1]
                self.gallery.remove(ids[: BATCH // 2])
                self.told.append(("removed", self.first))
                self.first += BATCH
        except Exception as error:
            self.error = error


def held(gallery):
    """How many images there are of each batch."""
    firsts = [int(item.source[6:-4]) for item in gallery.select(EVERYTHING)]
    return Counter(first - first % BATCH for first in firsts)


def again(ask):
    """What it answers, as soon as the database is back."""
    for _ in range(600):
        try:
            return ask()
        except UnavailableError:
            time.sleep(0.1)
    raise AssertionError("the database does not come back")


def stop(stoppable, gallery):
    stoppable.stop()


def kill(stoppable, gallery):
    """The server ends all its processes if one is killed, and starts anew by itself."""
    os.kill(gallery.db.info.backend_pid, signal.SIGKILL)


@pytest.mark.parametrize("fault", [stop, kill])
def test_what_was_acknowledged_is_there_and_nothing_half_done(
    stoppable, address, fault, monkeypatch
):
    monkeypatch.setattr(postgres_module, "SMALL", 20)
    gallery = open_gallery(address, create=True)
    rng, told = random.Random(1), []
    for number in range(ROUNDS):
        worker = Worker(gallery, 100_000 * number)
        worker.start()
        while len(worker.told) < 2:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.3))
        fault(stoppable, gallery)
        worker.join(60)
        assert isinstance(worker.error, UnavailableError)
        assert str(worker.error).startswith(gallery.name)
        if fault is stop:
            for verb in (gallery.count, gallery.settle, lambda: gallery.remove([1])):
                with pytest.raises(UnavailableError, match=SAID):
                    verb()
            stoppable.start()
        told += worker.told
        there = again(lambda: held(gallery))  # the same object goes on
        assert set(there.values()) <= {BATCH, BATCH // 2}
        assert {first for _, first in told} <= there.keys()
        assert all(there[first] == BATCH // 2 for what, first in told if what == "removed")
    assert len(told) > 2 * ROUNDS
    gallery.close()


def test_the_same_command_goes_on_after_the_restart(
    stoppable, address, tmp_path, monkeypatch, capsys
):
    """The server stops within the second batch of an add, and within a removal."""
    for pid in range(30):
        draw_person(tmp_path / "crops" / "visible" / "door" / f"{pid}.png", pid, False, 0)
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(visir.embedding.pytorch, "load", lambda path, device="cpu": PixelEmbedder())
    monkeypatch.setattr(bulk_module, "_UNIT_SIZE", 10)
    words = ["index", "add", address, str(tmp_path / "crops"), "--run", str(tmp_path / "run")]
    calls, insert = [], postgres_module.insert

    def stopping(*arguments):
        found = insert(*arguments)
        calls.append(0)
        if len(calls) == 2:
            stoppable.stop()
        return found

    monkeypatch.setattr(postgres_module, "insert", stopping)
    said = failed(words, capsys)
    assert "does not answer" in said and "do the same again" in said
    said = failed(words, capsys)
    assert "cannot be opened" in said and "that the server runs" in said
    assert "Traceback" not in said
    stoppable.start()
    assert open_gallery(address).count() == 10
    assert cli.main(words) == 0
    assert "20 images added, 10 were there" in capsys.readouterr().out
    assert open_gallery(address).count() == 30


def failed(words, capsys):
    """What a command says that fails."""
    assert cli.main(words) != 0
    return capsys.readouterr().err
