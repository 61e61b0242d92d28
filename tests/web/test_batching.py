"""Images of several requests in the network together, and requests that are told to wait."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bright import BrightEmbedder

from visir.core.types import Modality
from visir.web import batching
from visir.web.batching import Batcher, BusyError

VISIBLE, INFRARED = Modality.VISIBLE, Modality.INFRARED
SIZE = BrightEmbedder.size


class Counting(BrightEmbedder):
    """Notes what comes in together; a gate keeps batches in the network until it is opened."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, Modality]] = []
        self.gate = threading.Event()
        self.inside = threading.Event()

    def embed_pixels(self, pixels: np.ndarray, modality: Modality) -> np.ndarray:
        self.batches.append((len(pixels), modality))
        self.inside.set()
        assert self.gate.wait(20)
        return super().embed_pixels(pixels, modality)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, *SIZE, 3)).astype(np.uint8)


def waiting(batcher: Batcher, count: int) -> None:
    """Return when so many images wait."""
    with batcher._changed:
        assert batcher._changed.wait_for(lambda: batcher._waiting == count, 20)


def test_what_waits_goes_through_together_and_everybody_gets_their_own() -> None:
    net = Counting()
    batcher = Batcher(net)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(batcher.embed, images(1, 99), VISIBLE)
        assert net.inside.wait(20)
        asked = [(images(n % 3 + 1, n), (VISIBLE, INFRARED)[n % 2]) for n in range(8)]
        told = [pool.submit(batcher.embed, *one) for one in asked]
        waiting(batcher, sum(len(pixels) for pixels, _ in asked))
        net.gate.set()
        assert first.result(20).shape == (1, 64)
        for (pixels, side), found in zip(asked, told, strict=True):
            np.testing.assert_allclose(
                found.result(20), BrightEmbedder().embed_pixels(pixels, side), atol=1e-6
            )
    assert sum(count for count, _ in net.batches) == 1 + 15
    assert len(net.batches) == 3  # the first, and one of each modality
    batcher.close()


def test_one_that_is_alone_does_not_wait_long() -> None:
    net = Counting()
    net.gate.set()
    batcher = Batcher(net)
    for _ in range(3):
        batcher.embed(images(1), INFRARED)
    assert net.batches == [(1, INFRARED)] * 3
    batcher.close()


def test_a_long_queue_is_refused_at_once_and_taken_again_later(monkeypatch) -> None:
    monkeypatch.setattr(batching, "WAITING", 10)
    net = Counting()
    batcher = Batcher(net)
    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(batcher.embed, images(1), VISIBLE)]
        assert net.inside.wait(20)
        told += [pool.submit(batcher.embed, images(8), VISIBLE)]
        waiting(batcher, 8)
        told += [pool.submit(batcher.embed, images(2), VISIBLE)]
        waiting(batcher, 10)
        with pytest.raises(BusyError) as refused:
            batcher.embed(images(1), VISIBLE)
        assert refused.value.seconds >= 1
        net.gate.set()
        assert [len(one.result(20)) for one in told] == [1, 8, 2]
    assert len(batcher.embed(images(12), VISIBLE)) == 12  # more than fit, but nobody waits
    batcher.close()


def test_no_batch_is_too_large_and_no_order_is_changed(monkeypatch) -> None:
    monkeypatch.setattr(batching, "TOGETHER", 4)
    net = Counting()
    batcher = Batcher(net)
    with ThreadPoolExecutor(8) as pool:
        told = [pool.submit(batcher.embed, images(1), VISIBLE)]
        assert net.inside.wait(20)
        for count, all_of_them in ((3, 3), (2, 5), (6, 11), (1, 12)):
            told.append(pool.submit(batcher.embed, images(count), VISIBLE))
            waiting(batcher, all_of_them)
        net.gate.set()
        for one in told:
            one.result(20)
    assert [count for count, _ in net.batches] == [1, 3, 2, 6, 1]
    batcher.close()


def test_an_error_in_the_network_is_told_and_the_next_batch_goes_on() -> None:
    class Failing(BrightEmbedder):
        broken = True

        def embed_pixels(self, pixels: np.ndarray, modality: Modality) -> np.ndarray:
            if self.broken:
                raise RuntimeError("out of memory")
            return super().embed_pixels(pixels, modality)

    net = Failing()
    batcher = Batcher(net)
    with pytest.raises(RuntimeError, match="out of memory"):
        batcher.embed(images(1), VISIBLE)
    net.broken = False
    assert batcher.embed(images(2), VISIBLE).shape == (2, 64)
    batcher.close()
    with pytest.raises(BusyError):
        batcher.embed(images(1), VISIBLE)


@pytest.mark.slow
def test_a_search_that_would_wait_too_long_is_told_when_to_try_again(
    serve, crop, monkeypatch
) -> None:
    def full(*_: object) -> None:
        raise BusyError(3)

    client = serve()
    monkeypatch.setattr(client.state.service._batcher, "embed", full)
    for path in ("/api/search", "/api/compare"):
        form = {"asked": '{"items": [1]}'} if path.endswith("compare") else {}
        answer = client.post(path, files=[("images", ("a.png", crop(3)))], data=form)
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "3"
        assert answer.json() == {
            "error": "too many images are waiting for the network; try again soon"
        }
    assert client.post("/api/search/items", json={"items": [1]}).status_code == 200
    assert client.get("/api/items/5/thumbnail").status_code == 200
