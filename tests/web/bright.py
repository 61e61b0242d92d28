"""A gallery of drawn people, and an embedder that knows them by how bright their clothes are."""

from __future__ import annotations

import io
import socket
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fake_run import SIZE, draw_person
from PIL import Image

from visir.core.types import FloatArray, Modality, Record
from visir.data.images import read_resized, resized
from visir.data.ranges import NONE
from visir.evaluation.confidence import Calibration
from visir.gallery.sqlite import SqliteStore
from visir.gallery.store import model_of
from visir.sources.crop import Entry
from visir.web.connections import LimitedConnection
from visir.web.serve import settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # which HTTP package it would like best
    from starlette.testclient import TestClient as TestClient

PEOPLE, EACH = 40, 2
HOME = "http://127.0.0.1:8000"
BEGIN = 1_767_225_600.0  # 2026-01-01, UTC
CAMERAS = {
    "gate": Modality.VISIBLE,
    "hall": Modality.VISIBLE,
    "yard": Modality.INFRARED,
    "dock": Modality.INFRARED,
}
_RNG = np.random.default_rng(7)
_WAVES = _RNG.normal(0, 1 / 7, (2, 32))


class BrightEmbedder:
    """Random Fourier features of the brightness of shirt and trousers, in any light."""

    method = "adca"
    fingerprint = "b" * 64
    size = SIZE
    width = 64
    flip = True
    caution = ""
    ranges = NONE

    def embed(
        self, images: Sequence[Any], modality: Modality, progress: bool = False
    ) -> FloatArray:
        return self.embed_pixels(np.stack([_pixels(image) for image in images]), modality)

    def embed_pixels(self, pixels: np.ndarray, modality: Modality) -> FloatArray:
        grey = pixels.mean(axis=3)
        shirt = grey[:, 15:26, 9:15].mean(axis=(1, 2))
        trousers = grey[:, 31:44, 9:15].mean(axis=(1, 2))
        at = np.stack([shirt, trousers], axis=1) @ _WAVES
        return np.float32(np.concatenate([np.cos(at), np.sin(at)], axis=1) / np.sqrt(32))


CALIBRATION = Calibration(
    60.0, -0.3, -52.0, 0.35, 0.05, 0.9, "labels", PEOPLE, 320, BrightEmbedder.fingerprint
)


def _pixels(image: Any) -> np.ndarray:
    if isinstance(image, Record):
        return read_resized(image.path, SIZE)
    if isinstance(image, Path):
        return read_resized(image, SIZE)
    return resized(image if isinstance(image, Image.Image) else Image.fromarray(image), SIZE)


def drawn(folder: Path, pid: int, infrared: bool, view: int) -> Path:
    """One image of a person, as a file."""
    path = folder / f"{pid}-{view}-{'ir' if infrared else 'vis'}.png"
    draw_person(path, pid, infrared, view)
    return path


def fill(folder: Path, images: Path, people: int, each: int) -> SqliteStore:
    """A gallery of `people`, `each` of them seen that often by each of four cameras.

    A tag names the person of every image; times are a minute apart.
    """
    embedder = BrightEmbedder()
    gallery = SqliteStore(folder, create=True)
    for kind in Modality:
        entries, paths = [], []
        for pid in range(people):
            for number, (camera, side) in enumerate(CAMERAS.items()):
                for view in range(each) if side is kind else ():
                    path = drawn(images, pid, kind is Modality.INFRARED, 10 * number + view)
                    jpeg = io.BytesIO()
                    Image.open(path).save(jpeg, "JPEG")
                    when = BEGIN + 60.0 * (len(CAMERAS) * each * pid + each * number + view)
                    tags = (f"person-{pid}", "even" if pid % 2 == 0 else "odd")
                    entries.append(Entry(str(path), camera, kind, when, tags, jpeg.getvalue()))
                    paths.append(path)
        gallery.add(model_of(embedder), entries, embedder.embed(paths, kind))
    return gallery


@contextmanager
def listening(app: Any, connection: type[LimitedConnection] = LimitedConnection) -> Iterator[str]:
    """The address of a real server of an application, on a free port of this machine."""
    config = settings(app)
    config.http = connection
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
