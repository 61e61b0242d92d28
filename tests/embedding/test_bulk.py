"""Many images by many workers: each image once, whichever processes are killed."""

import io
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time

import numpy as np
import pytest
from PIL import Image

from visir.core.types import InputError, Modality
from visir.data.images import read_image
from visir.data.ranges import NONE
from visir.embedding import bulk
from visir.embedding.bulk.claims import claim
from visir.sources.crop import ReadOptions

pytestmark = pytest.mark.slow


class Pixels:
    """ImageEmbedder an image as its own coarse pixels, slowly if asked to; writes down how many."""

    ranges = NONE

    def __init__(self, log, pause=0.0, fingerprint="a" * 64):
        self.log, self.pause, self.fingerprint = log, pause, fingerprint

    def embed(self, images, modality, progress=False):
        with self.log.open("a") as file:
            file.write("x" * len(images))
        time.sleep(self.pause * len(images))
        return np.stack([self.one(image, modality) for image in images])

    def one(self, pixels, modality):
        coarse = Image.fromarray(pixels).resize((3, 6), Image.Resampling.BOX)
        row = np.asarray(coarse, np.float32).reshape(-1)
        row = row * (1 if modality is Modality.VISIBLE else -1)
        return row / np.linalg.norm(row)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def shard(tmp_path, folder):
    """A shard of the same pictures and a broken one."""
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for path in sorted(folder.rglob("*.png")):
            tar.add(path, path.relative_to(folder).as_posix())
        header = tarfile.TarInfo("ir/yard/broken.png")
        header.size = 9
        tar.addfile(header, io.BytesIO(b"no images"))
    return tmp_path / "s.tar"


def check(out, folder, embedder, copies=1):
    """Check that every picture is there once, with its vector and thumbnail."""
    entries, vectors = [], []
    for some, rows in bulk.read_shards(out):
        assert rows.dtype == np.float32
        assert len(some) == len(rows)
        entries += some
        vectors += list(rows)
    pictures = sorted(folder.rglob("*.png"))
    names = [str(path) for path in pictures]
    if copies == 2:
        names += [f"{folder.parent}/s.tar::{path.relative_to(folder)}" for path in pictures]
    assert sorted(entry.source for entry in entries) == sorted(names)
    for entry, vector in zip(entries, vectors, strict=True):
        path = folder / entry.source.rpartition("::")[2]
        assert entry.modality is (Modality.INFRARED if "ir" in path.parts else Modality.VISIBLE)
        assert entry.camera == path.parent.name
        pixels = np.asarray(read_image(path))
        np.testing.assert_allclose(vector, embedder.one(pixels, entry.modality), atol=1e-6)
        thumbnail = np.asarray(Image.open(io.BytesIO(entry.thumbnail)), np.float32)
        assert thumbnail.shape == pixels.shape
        assert np.abs(thumbnail - pixels).mean() < 12
    return entries


def test_all_kinds_of_input_are_embedded_once(folder, shard, log, tmp_path):
    embedder = Pixels(log)
    done = bulk.embed_many(
        embedder, [shard, folder], tmp_path / "out", shard_size=5, skip_broken=True
    )
    assert (done.shards, done.embedded) == (8, 36)
    assert [broken.source for broken in done.skipped] == [f"{shard}::ir/yard/broken.png"]
    check(tmp_path / "out", folder, embedder, copies=2)
    assert len(log.read_text()) == 36
    assert not list((tmp_path / "out" / "claims").iterdir())


def test_a_second_call_embeds_nothing_and_restores_what_was_removed(folder, log, tmp_path):
    embedder, out = Pixels(log), tmp_path / "out"
    first = bulk.embed_many(embedder, [folder], out, shard_size=5)
    shard = sorted((out / "shards").iterdir())[1]
    content = shard.read_bytes()
    assert bulk.embed_many(embedder, [folder], out, shard_size=5) == first
    assert len(log.read_text()) == 18
    shard.unlink()
    with pytest.raises(InputError, match="1 of 4 shards are missing"):
        next(bulk.read_shards(out))
    bulk.embed_many(embedder, [folder], out, shard_size=5)
    assert len(log.read_text()) == 23
    assert shard.read_bytes() == content


def test_a_broken_image_stops_the_work_unless_skipped(folder, log, tmp_path):
    bad = folder / "ir" / "yard" / "4.png"
    bad.write_bytes(bad.read_bytes()[:200])
    embedder, out = Pixels(log), tmp_path / "out"
    with pytest.raises(InputError, match=r"4\.png: the image is cut short.* --skip-broken"):
        bulk.embed_many(embedder, [folder], out, shard_size=5)
    assert not list((out / "claims").iterdir())
    done = bulk.embed_many(embedder, [folder], out, shard_size=5, skip_broken=True)
    assert done.embedded == 17
    assert [broken.source for broken in done.skipped] == [str(bad)]
    bad.unlink()
    check(out, folder, embedder)


def test_a_part_with_nothing_in_it_is_a_shard_without_crops(tmp_path, log):
    (tmp_path / "crops" / "ir").mkdir(parents=True)
    (tmp_path / "crops" / "ir" / "a.png").write_bytes(b"")
    done = bulk.embed_many(Pixels(log), [tmp_path / "crops"], tmp_path / "out", skip_broken=True)
    assert (done.shards, done.embedded, len(done.skipped)) == (1, 0, 1)
    assert list(bulk.read_shards(tmp_path / "out")) == []


def test_another_model_input_or_setting_is_refused(folder, shard, log, tmp_path):
    out = tmp_path / "out"
    bulk.embed_many(Pixels(log), [folder, shard], out, shard_size=5, skip_broken=True)
    # The order of the inputs does not matter.
    bulk.embed_many(Pixels(log), [shard, folder], out, shard_size=5)
    other = Pixels(log, fingerprint="b" * 64)
    for embedder, inputs, settings, size, message in (
        (other, [folder, shard], ReadOptions(), 5, "another model \\(a{12}, this one is b{12}\\)"),
        (Pixels(log), [folder], ReadOptions(), 5, "input .*s.tar;"),
        (Pixels(log), [folder, shard, tmp_path], ReadOptions(), 5, "without input"),
        (Pixels(log), [folder, shard], ReadOptions(tags=("x",)), 5, r"tags \[\], now \['x'\]"),
        (Pixels(log), [folder, shard], ReadOptions(Modality.VISIBLE), 5, "modality None, now vis"),
        (Pixels(log), [folder, shard], ReadOptions(), 6, "shard_size 5, now 6"),
    ):
        with pytest.raises(InputError, match=rf"manifest\.json: was started (with )?{message}"):
            bulk.embed_many(embedder, inputs, out, settings, shard_size=size)
    with pytest.raises(InputError, match="shard size: must be 1 or more images, got 0"):
        bulk.embed_many(Pixels(log), [folder], tmp_path / "new", shard_size=0)
    with pytest.raises(InputError, match="model: it has no fingerprint"):
        bulk.embed_many(Pixels(log, fingerprint=""), [folder], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_damage_in_the_output_is_reported(folder, log, tmp_path):
    out = tmp_path / "out"
    bulk.embed_many(Pixels(log), [folder], out, shard_size=5)
    shard = out / "shards" / "000002.npz"
    content = shard.read_bytes()
    place = content.index(b"vectors.npy") + 400
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for damaged in (content[:-300], b"", content.replace(b"a" * 64, b"b" * 64), flipped):
        shard.write_bytes(damaged)
        with pytest.raises(InputError, match=r"000002\.npz: damaged .*; remove it"):
            list(bulk.read_shards(out))
    (out / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not a manifest of"):
        bulk.embed_many(Pixels(log), [folder], out)
    with pytest.raises(InputError, match="give a folder `visir embed` wrote"):
        bulk.read_manifest(tmp_path)


def size(path):
    return path.stat().st_size if path.exists() else 0


def worker(folder, out, log, begin):
    """What a process in the tests below does."""
    bulk.embed_many(Pixels(log, 0.01), [folder], out, shard_size=2, begin=begin)


@pytest.fixture(scope="module")
def processes():
    """Processes that start quickly, without threads of this process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["visir.embedding.bulk"])
    return context


def test_two_workers_share_the_work(processes, folder, log, tmp_path):
    out = tmp_path / "out"
    both = [
        processes.Process(target=worker, args=(folder, out, log, begin)) for begin in (0.0, 0.5)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(120)  # a process takes seconds to start
    assert [one.exitcode for one in both] == [0, 0]
    check(out, folder, Pixels(log))
    assert len(log.read_text()) == 18  # nothing was done twice


def test_killed_workers_leave_every_image_there_once(processes, folder, log, tmp_path):
    out = tmp_path / "out"
    shards = out / "shards"
    rng = np.random.default_rng(0)
    for _ in range(8):
        before = size(log)
        both = [
            processes.Process(target=worker, args=(folder, out, log, begin)) for begin in (0, 0.5)
        ]
        for one in both:
            one.start()
        waited = time.monotonic() + 120  # a process takes seconds to start
        while size(log) == before and time.monotonic() < waited:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.08))
        for one in both:
            os.kill(one.pid, signal.SIGKILL)
            one.join()
        assert size(log) > before
        whole = sorted(shards.glob("*.npz"))
        for path in whole:
            with np.load(path, allow_pickle=False) as stored:
                assert len(stored["vectors"]) == 2
        for path in whole[3:]:  # or nothing would be left to be killed at
            path.unlink()
    embedder = Pixels(log)
    done = bulk.embed_many(embedder, [folder], out, shard_size=2, patience=1.0)
    assert done.embedded == 18
    check(out, folder, embedder)
    assert not list(shards.glob(".*"))


def leave(path, seconds=0.0, **owner):
    """Write a claim that its owner left this many seconds ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(owner) if owner else "")
    os.utime(path, (time.time() - seconds,) * 2)


def dead_process():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    return gone.pid


def test_stale_claims_are_taken_over_and_live_ones_are_not(tmp_path):
    path, here = tmp_path / "claims" / "1.json", socket.gethostname()
    for seconds, owner, mine in (
        (0, {"host": here, "pid": dead_process()}, True),
        (0, {"host": here, "pid": os.getppid()}, False),
        (99, {"host": here, "pid": os.getppid()}, True),
        (0, {"host": "elsewhere", "pid": dead_process()}, False),
        (99, {"host": "elsewhere", "pid": 1}, True),
        (0, {}, False),
        (99, {}, True),
    ):
        leave(path, seconds, **owner)
        with claim(path, patience=60) as held:
            assert held is mine, (seconds, owner)
            if mine:
                assert json.loads(path.read_text())["pid"] == os.getpid()
        assert path.exists() is not mine
    assert [p.name for p in path.parent.iterdir()] in ([], ["1.json"])


def test_a_claim_is_kept_fresh_and_only_its_owner_removes_it(tmp_path):
    path = tmp_path / "1.json"
    with claim(path, patience=0.2) as mine:
        assert mine
        os.utime(path, (0, 0))
        waited = time.monotonic() + 60  # it is refreshed 20 times a second, on an idle machine
        while path.stat().st_mtime == 0 and time.monotonic() < waited:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 60
        with claim(path, patience=60) as other:
            assert not other
        leave(path, host="elsewhere", pid=1)  # taken over while this process slept
    assert path.exists()


def test_what_another_holds_is_waited_for(folder, log, tmp_path):
    out = tmp_path / "out"
    path = out / "claims" / "000001.json"
    leave(path, host="elsewhere", pid=1)
    timer = threading.Timer(0.6, path.unlink)
    timer.start()
    bulk.embed_many(Pixels(log), [folder], out, shard_size=5)
    assert not timer.is_alive()
    check(out, folder, Pixels(log))


def test_a_folder_that_cannot_be_written_is_an_error(folder, log, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        bulk.embed_many(Pixels(log), [folder], tmp_path / "file" / "out")
