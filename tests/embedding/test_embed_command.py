"""`visir embed`: a trained network, several processes, videos."""

import multiprocessing
import time
from pathlib import Path

import numpy as np
import pytest
from fake_run import save_micro_run

from visir.commands.embed import embed as command
from visir.core.types import InputError, Modality
from visir.data.ranges import NONE
from visir.embedding import bulk
from visir.embedding.pytorch import load
from visir.sources import detector
from visir.sources.crop import ReadOptions
from visir.sources.tracks import Box

pytestmark = pytest.mark.slow


class Grey:
    fingerprint = "a"
    ranges = NONE

    def embed(self, images, modality, progress=False):
        return np.ones((len(images), 1), np.float32)


def test_videos_are_embedded(tmp_path, monkeypatch):
    av = pytest.importorskip("av")
    path = tmp_path / "ir" / "20260131_235959.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.height, stream.width = 96, 96
        for number in range(10):
            pixels = np.full((96, 96, 3), 20, np.uint8)
            pixels[20:70, 10 + 4 * number : 30 + 4 * number] = 220
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def bright(pixels):
        rows, columns = np.nonzero(pixels[..., 0] > 128)
        return [Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9)]

    monkeypatch.setattr(detector, "load_detector", lambda weights, device: bright)
    settings = ReadOptions(detector=tmp_path / "none.pth", crops=2)
    done = bulk.embed_many(Grey(), [path], tmp_path / "out", settings)
    assert (done.shards, done.embedded) == (1, 2)
    ((entries, vectors),) = bulk.read_shards(tmp_path / "out")
    assert [entry.source for entry in entries] == [
        f"{path}::track 1 @ {seconds}s" for seconds in ("0.00", "0.60")
    ]
    assert entries[1].time - entries[0].time == pytest.approx(0.6)
    assert {entry.modality for entry in entries} == {Modality.INFRARED}
    assert vectors.shape == (2, 1)


@pytest.fixture
def run(tmp_path):
    return save_micro_run(tmp_path / "run")


def test_the_verb_embeds_by_several_processes(run, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    bad = folder / "ir" / "yard" / "4.png"
    bad.write_bytes(b"")
    options = {"shard_size": 2, "device": "cpu"}
    with pytest.raises(InputError, match=r"4\.png: the file is empty.* --skip-broken"):
        command(run, (folder,), out=out, **options)

    def idle(*args, **kwargs):
        """Leave the work to the other process."""
        waited = time.monotonic() + 180
        while len(list(out.glob("shards/*.npz"))) < 9 and time.monotonic() < waited:
            time.sleep(0.02)
        before = {path: path.stat().st_mtime_ns for path in out.glob("shards/*.npz")}
        done = bulk.embed_many(*args, **kwargs)
        assert before == {path: path.stat().st_mtime_ns for path in out.glob("shards/*.npz")}
        return done

    monkeypatch.setattr(bulk.work, "embed_many", idle)
    done = command(run, (folder,), out=out, workers=2, skip_broken=True, **options)
    said = str(done).splitlines()
    assert said[0] == "17 images embedded in 9 shards, 1 skipped"
    assert "4.png: the file is empty" in said[1]
    assert not multiprocessing.active_children()
    embedder = load(run)
    assert bulk.read_manifest(out).model == embedder.fingerprint
    for entries, vectors in bulk.read_shards(out):
        for entry, vector in zip(entries, vectors, strict=True):
            expected = embedder.embed([Path(entry.source)], entry.modality)[0]
            np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_ranks_begin_at_different_places(run, folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    bulk.embed_run(run, [folder], out, shard_size=2)
    shards = sorted(out.glob("shards/*.npz"), key=lambda path: path.stat().st_mtime_ns)
    assert [int(path.stem) for path in shards] == [4, 5, 6, 7, 8, 0, 1, 2, 3]


def test_no_workers_are_refused(run, folder, tmp_path):
    with pytest.raises(InputError, match="workers: must be 1 or more processes, got 0"):
        bulk.embed_run(run, [folder], tmp_path / "out", workers=0)
