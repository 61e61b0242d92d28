"""Images of several requests pass through the network together, from one queue of limited length.

A network takes less time for eight images at once than for eight after one another. So an image
waits for others, but only some milliseconds; while a batch is in the network the next one gathers
by itself. A request that would have to wait behind too many is refused at once.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from visir.core.types import ByteArray, FloatArray, Modality
from visir.embedding.base import ImageEmbedder

PATIENCE = 0.004  # seconds the first image of a batch waits for others
TOGETHER = 16  # images of a batch, or those of one request if they are more
WAITING = 64  # images in the queue


class BusyError(Exception):
    """Too many images are waiting; seconds: after which it is worth to try again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class _Job(NamedTuple):
    pixels: ByteArray
    side: Modality
    found: Future[FloatArray]


class Batcher:
    """A queue before a network, and the thread that empties it.

    Args:
        embedder: the network.
    """

    def __init__(self, embedder: ImageEmbedder) -> None:
        self._embedder = embedder
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._waiting = 0  # images
        self._pace = 0.02  # seconds for an image, of late
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="embedding", daemon=True)
        self._thread.start()

    def embed(self, pixels_NHWC: ByteArray, side: Modality) -> FloatArray:
        """Embed images; returns when they are through.

        Args:
            pixels_NHWC: (N, height, width, 3) uint8, of the network's size.
            side: the type of camera that took them.

        Returns:
            (N, D) float32, rows of length 1.

        Raises:
            BusyError: too many images are waiting already.
        """
        job = _Job(pixels_NHWC, side, Future())
        with self._changed:
            if self._closed:
                raise BusyError(1)
            if self._waiting and self._waiting + len(pixels_NHWC) > WAITING:
                raise BusyError(math.ceil(self._waiting * self._pace))
            self._jobs.append(job)
            self._waiting += len(pixels_NHWC)
            self._changed.notify()
        return job.found.result()

    def close(self) -> None:
        """End the thread, once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._batch():
            began = time.monotonic()
            for side in Modality:
                jobs = [job for job in batch if job.side is side]
                if jobs:
                    self._embed(jobs, side)
            images = sum(len(job.pixels) for job in batch)
            self._pace += 0.2 * ((time.monotonic() - began) / images - self._pace)

    def _batch(self) -> list[_Job]:
        """The jobs that pass through the network next; none where there will be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            self._changed.wait_for(lambda: self._waiting >= TOGETHER or self._closed, PATIENCE)
            batch, images = list[_Job](), 0
            while self._jobs and images + len(self._jobs[0].pixels) <= TOGETHER:
                batch.append(self._jobs.popleft())
                images += len(batch[-1].pixels)
            if self._jobs and not batch:
                batch.append(self._jobs.popleft())
            self._waiting -= sum(len(job.pixels) for job in batch)
        return batch

    def _embed(self, jobs: list[_Job], side: Modality) -> None:
        """Embed the images of one modality, and tell who waits; an error is everybody's."""
        try:
            pixels = np.concatenate([job.pixels for job in jobs])
            found = self._embedder.embed_pixels(pixels, side)
        except Exception as error:
            for job in jobs:
                job.found.set_exception(error)
            return
        ends = np.cumsum([len(job.pixels) for job in jobs])
        for job, rows in zip(jobs, np.split(found, ends[:-1]), strict=True):
            job.found.set_result(rows)
