"""Killed writers: all that was acknowledged is there, and nothing else."""

import os
import random
import signal
import time

import numpy as np
import pytest
from people import MODEL, entries, vectors

from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import Filter

pytestmark = pytest.mark.slow

KILLS, BATCH = 50, 8


def writer(folder, start, channel):
    """Add batches for ever and tell of each, from a process of its own."""
    try:
        gallery = SqliteStore(folder)
        for first in range(start, start + 100_000, BATCH):
            gallery.add(MODEL, entries(BATCH, first), vectors(BATCH, seed=first))
            os.write(channel, first.to_bytes(8, "little"))
            if first % 3 == 0:
                gallery.settle()  # the scan is written to as well
    finally:
        os._exit(1)


def killed_writer(folder, start, batches, seconds):
    """The batches it told of before it was killed: so long after it had told of so many."""
    reading, channel = os.pipe()
    child = os.fork()
    if not child:
        writer(folder, start, channel)
    os.close(channel)
    told = b"".join(os.read(reading, 8) for _ in range(batches))  # it is at work now
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while part := os.read(reading, 1 << 16):
        told += part
    os.close(reading)
    return [int.from_bytes(told[i : i + 8], "little") for i in range(0, len(told), 8)]


def test_fifty_kills_lose_nothing_and_leave_nothing_half_done(tmp_path):
    SqliteStore(tmp_path, create=True).close()
    rng, told = random.Random(0), []
    for number in range(KILLS):
        first, batches, wait = 1_000_000 * number, rng.randint(1, 3), rng.uniform(0, 0.02)
        told += killed_writer(tmp_path, first, batches, wait)
        gallery = SqliteStore(tmp_path)
        there = gallery.select(Filter())
        firsts = [int(item.source[6:-4]) for item in there]
        batches = {first - first % BATCH for first in firsts}
        assert set(told) <= batches
        assert len(firsts) == len(set(firsts)) == BATCH * len(batches)  # whole batches only
        unknown = batches - set(told)
        assert len(unknown) <= number + 1  # at most the one in progress of each kill
        if there:
            item = rng.choice(there)
            first = int(item.source[6:-4])
            vector = vectors(BATCH, seed=first - first % BATCH)[first % BATCH]
            assert (gallery.vectors([item.id])[0] == vector).all()
            assert gallery.nearest(vector, 1).ids.tolist() == [item.id]
            assert gallery.scan.state["rows"] == len(there)
        gallery.close()
    assert len(told) > 1.5 * KILLS  # the kills came while there was work


def test_two_writers_at_once_merge(tmp_path):
    SqliteStore(tmp_path, create=True).close()
    children = []
    for side in range(2):
        child = os.fork()
        if not child:
            try:
                gallery = SqliteStore(tmp_path)
                for first in range(0, 400, 10):  # both offer the same sources
                    gallery.add(MODEL, entries(10, first), vectors(10, seed=first))
                    if first % 40 == 10 * side:
                        gallery.settle()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    gallery = SqliteStore(tmp_path)
    there = gallery.select(Filter())
    assert sorted(item.source for item in there) == sorted(e.source for e in entries(400))
    for item in there[::37]:
        first = int(item.source[6:-4])
        vector = vectors(10, seed=first - first % 10)[first % 10]
        assert gallery.nearest(vector, 1).ids.tolist() == [item.id]
    assert np.unique(gallery.scan.columns["ids"]).size == 400
    gallery.close()


def adder_and_remover(folder, start, channel):
    """Add a batch, tell of it, remove one image of it, tell of that; for ever."""
    try:
        gallery = SqliteStore(folder)
        for first in range(start, start + 100_000, BATCH):
            ids = gallery.add(MODEL, entries(BATCH, first), vectors(BATCH, seed=first))
            os.write(channel, first.to_bytes(8, "little"))
            gallery.remove([ids[3]])
            os.write(channel, (first + 3).to_bytes(8, "little"))
    finally:
        os._exit(1)


def test_two_processes_that_add_and_remove_are_killed(tmp_path, recwarn):
    """What was told of as added is there, what was told of as removed is in no file."""
    SqliteStore(tmp_path, create=True).close()
    rng, told = random.Random(1), []
    for number in range(5):
        children = []
        for side in range(2):
            reading, channel = os.pipe()
            child = os.fork()
            if not child:
                adder_and_remover(tmp_path, 1_000_000 * (2 * number + side), channel)
            os.close(channel)
            children.append((child, reading))
        heard = [b"".join(os.read(reading, 8) for _ in range(4)) for _, reading in children]
        time.sleep(rng.uniform(0, 0.02))
        for child, _ in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for part, (_, reading) in zip(heard, children, strict=True):
            while more := os.read(reading, 1 << 16):
                part += more
            os.close(reading)
            told += [int.from_bytes(part[i : i + 8], "little") for i in range(0, len(part), 8)]
    gallery = SqliteStore(tmp_path)
    gallery.settle()
    there = {int(item.source[6:-4]): item.id for item in gallery.select(Filter())}
    added = {first + n for first in told if first % BATCH == 0 for n in range(BATCH) if n != 3}
    removed = {first for first in told if first % BATCH == 3}
    assert added <= there.keys() and not removed & there.keys() and len(removed) >= 10
    assert all(len([n for n in there if n - n % BATCH == first]) in (BATCH - 1, BATCH)
               for first in {n - n % BATCH for n in there})  # fmt: skip
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    for number in removed:
        vector = vectors(BATCH, seed=number - 3)[3]
        for trace in (vector.tobytes(), vector.astype(np.float16).tobytes(), b"/%d.jpg" % number):
            assert not any(trace in file for file in files)
    for number in rng.sample(sorted(added), 20):
        vector = vectors(BATCH, seed=number - number % BATCH)[number % BATCH]
        assert gallery.nearest(vector, 1).ids.tolist() == [there[number]]
    gallery.close()
    assert not recwarn.list
