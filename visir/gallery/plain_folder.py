"""A plain folder or a data set as a store that can be searched but not changed.

Its images are embedded the first time they are needed. The run keeps the embeddings in its folder
`gallery-cache` while weights and files stay the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NoReturn

import numpy as np
import numpy.typing as npt
import PIL.Image

from visir.core.run import Run, atomic_write
from visir.core.types import BoolArray, FloatArray, InputError, Modality
from visir.core.untrusted import NO_ARRAYS
from visir.data.images import read_image
from visir.data.locate import Item, gallery_items
from visir.data.ranges import RangeBook, Ranges, as_json
from visir.embedding.base import ImageEmbedder
from visir.embedding.bulk.work import THUMBNAIL
from visir.gallery.store import (
    EVERYTHING,
    NOTHING_NEAR,
    Filter,
    Mode,
    ModelId,
    Nearest,
    Stats,
    Store,
    Stored,
    model_of,
    require_look,
)
from visir.sources.crop import Entry, exif_time, timestamp
from visir.sources.marks import is_below

_ROUNDING = 1e-5  # a product of unit rows in float32 is no further from the exact one


class FolderStore(Store):
    """The images of a folder, sorted by path, numbered from 1.

    Args:
        folder: a data set in a known layout, or a folder of images in any nesting.
        embedder: what embeds the images.
        run: the run folder or weights file that the embedder is of; embeddings are cached there.
        modality: of the images whose folder name does not say it.
        progress: show a progress bar while images are embedded.

    Raises:
        InputError: there is no image, or the modality of one is not known.
    """

    permanent: ClassVar[bool] = False

    def __init__(
        self,
        folder: Path,
        embedder: ImageEmbedder,
        run: Path,
        modality: Modality | None = None,
        progress: bool = False,
    ) -> None:
        self.folder, self.name = Path(folder), str(folder)
        self.embedder, self.progress = embedder, progress
        self._book = RangeBook(known=embedder.ranges)
        self._items = gallery_items(self.folder, modality, self._book)
        self._cache = _cache_file(Path(run), self.folder)
        self._row_of = {str(item.record.path): row for row, item in enumerate(self._items)}
        self._row_of |= {
            str(item.record.path.resolve()): row for row, item in enumerate(self._items)
        }
        self._times: dict[int, float | None] = {}
        self._lock = threading.RLock()

    def setting(self, key: str) -> str | None:
        """As `Store.setting`: only the ranges of the folder's cameras."""
        return json.dumps(as_json(self._book.used)) if key == "ranges" else None

    def model(self) -> ModelId:
        """As `Store.model`."""
        return model_of(self.embedder)

    def add(
        self,
        model: ModelId,
        entries: Sequence[Entry],
        vectors_ND: FloatArray,
        replaced: Sequence[int] = (),
    ) -> NoReturn:
        """Refused.

        Raises:
            InputError: always.
        """
        self._refuse()

    def remove(self, ids: Iterable[int]) -> NoReturn:
        """Refused.

        Raises:
            InputError: always.
        """
        self._refuse()

    def keep_ranges(self, ranges: Ranges) -> NoReturn:
        """Refused.

        Raises:
            InputError: always.
        """
        self._refuse()

    def keep_for(self, days: float | None) -> NoReturn:
        """Refused.

        Raises:
            InputError: always.
        """
        self._refuse()

    def select(self, where: Filter, limit: int | None = None, after: int = 0) -> list[Stored]:
        """As `Store.select`."""
        rows = np.flatnonzero(self._belonging(where))
        rows = rows[rows >= after]  # row 0 is image 1
        return [self._stored(row) for row in rows[:limit].tolist()]

    def get(self, ids: Sequence[int]) -> dict[int, Stored]:
        """As `Store.get`."""
        return {item: self._stored(item - 1) for item in ids if self._has(item)}

    def known(self, sources: Sequence[str]) -> dict[str, int]:
        """As `Store.known`; resolved paths are known too."""
        return {source: self._row_of[source] + 1 for source in sources if source in self._row_of}

    def below(self, folder: str) -> dict[str, int]:
        """As `Store.below`."""
        return {name: row + 1 for name, row in self._row_of.items() if is_below(name, folder)}

    def marks(self, ids: Sequence[int]) -> dict[int, str]:
        """As `Store.marks`: none, as the embeddings of changed files are made again."""
        return {}

    def vectors(self, ids: Sequence[int]) -> FloatArray:
        """As `Store.vectors`."""
        found = np.zeros((len(ids), self.embedder.width), np.float32)
        for row, item in enumerate(ids):
            if self._has(item):
                found[row] = self._vectors[item - 1]
        return found

    def thumbnail(self, item: int) -> bytes | None:
        """As `Store.thumbnail`: made from the file."""
        if not self._has(item):
            return None
        record = self._items[item - 1].record
        picture = read_image(record.path, record.modality, record.span)
        picture.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
        jpeg = io.BytesIO()
        picture.save(jpeg, format="JPEG")
        return jpeg.getvalue()

    def nearest(
        self, query_D: FloatArray, k: int, where: Filter = EVERYTHING, mode: Mode = "auto"
    ) -> Nearest:
        """As `Store.nearest`; every mode compares with every image."""
        require_look(k, mode)
        rows = np.flatnonzero(self._belonging(where))
        if not len(rows):
            return NOTHING_NEAR
        query_D = np.asarray(query_D, np.float32)
        near = (self._vectors @ query_D)[rows]
        if len(rows) > k:
            kept = near >= np.partition(near, -k)[-k] - _ROUNDING
            rows = rows[kept]
        scores = self._vectors[rows].astype(np.float64) @ query_D.astype(np.float64)
        order = np.lexsort((rows, -scores))[:k]
        return Nearest(rows[order] + 1, scores[order].astype(np.float32))

    def count(self, where: Filter = EVERYTHING) -> int:
        """As `Store.count`."""
        return int(np.count_nonzero(self._belonging(where)))

    def settle(self) -> None:
        """As `Store.settle`: there is nothing to do."""

    def version(self) -> int:
        """As `Store.version`: always 0, since a store of a folder does not change."""
        return 0

    def stats(self) -> Stats:
        """As `Store.stats`; bytes_on_disk: of the image files."""
        times = [time for row in range(len(self._items)) if (time := self._time(row)) is not None]
        cameras = Counter(item.camera for item in self._items)
        return Stats(
            images=len(self._items),
            by_camera=dict(sorted(cameras.items())),
            by_modality=dict(Counter(item.record.modality.value for item in self._items)),
            earliest=min(times, default=None),
            latest=max(times, default=None),
            bytes_on_disk=sum(item.record.path.stat().st_size for item in self._items),
            version=self.version(),
            retention=None,
            engine="a plain folder, in memory",
        )

    def close(self) -> None:
        """As `Store.close`: nothing is open."""

    def _refuse(self) -> NoReturn:
        raise InputError(
            f"{self.name}: is a plain folder, which visir only reads; make a gallery of it with "
            f"`visir index add GALLERY {self.name} --run RUN`"
        )

    def _has(self, item: int) -> bool:
        return 0 < item <= len(self._items)

    def _stored(self, row: int) -> Stored:
        record, camera, subset, _, tags = self._items[row]
        return Stored(
            row + 1,
            str(record.path),
            camera=camera,
            modality=record.modality,
            time=self._time(row),
            tags=tags,
            added=record.path.stat().st_mtime,
            pid=record.pid,
            group=subset,
        )

    def _time(self, row: int) -> float | None:
        """When an image was taken, by `labels.csv`, its name or its EXIF data."""
        if row not in self._times:
            said, path = self._items[row].time, self._items[row].record.path
            self._times[row] = (timestamp(path.stem) or _exif(path)) if said is None else said
        return self._times[row]

    def _belonging(self, where: Filter) -> BoolArray:
        """(N,) which images belong to a part."""
        wanted = {*where.tags}
        found = np.array([wanted.issubset(item.tags) for item in self._items], np.bool_)
        if where.cameras:
            found &= np.isin(self._cameras, where.cameras)
        if where.modality is not None:
            found &= self._modalities == where.modality.value
        if where.since is not None:
            found &= self._time_column >= where.since  # an unknown time, NaN, is not
        if where.until is not None:
            found &= self._time_column <= where.until
        if where.before is not None:
            written = np.array([item.record.path.stat().st_mtime for item in self._items])
            times = self._time_column
            found &= np.where(np.isnan(times), written, times) < where.before
        return np.asarray(found, np.bool_)

    @cached_property
    def _cameras(self) -> npt.NDArray[np.str_]:
        return np.array([item.camera for item in self._items])

    @cached_property
    def _modalities(self) -> npt.NDArray[np.str_]:
        return np.array([item.record.modality.value for item in self._items])

    @cached_property
    def _time_column(self) -> npt.NDArray[np.float64]:
        """(N,) times, NaN if unknown; every file's EXIF data may be read for it."""
        times = (self._time(row) for row in range(len(self._items)))
        return np.array([math.nan if time is None else time for time in times])

    @cached_property
    def _vectors(self) -> FloatArray:
        """(N, D) embeddings, from the cache if weights and files are the same."""
        with self._lock:
            key = _fingerprint(self.embedder, self._items)
            vectors = _read_cache(self._cache, key)
            if vectors is None:
                records = [item.record for item in self._items]
                vectors = self.embedder.embed_records(records, progress=self.progress)
                _write_cache(self._cache, key, vectors)
            return vectors


def _exif(path: Path) -> float | None:
    try:
        with PIL.Image.open(path) as picture:
            return exif_time(picture)
    except Exception:  # whoever needs the pixels is told what is wrong with the file
        return None


def _cache_file(run: Path, folder: Path) -> Path:
    weights = Run(run).weights if run.is_dir() else run
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return weights.parent / "gallery-cache" / f"{place}.npz"


def _fingerprint(embedder: ImageEmbedder, items: Sequence[Item]) -> str:
    digest = hashlib.sha256(embedder.fingerprint.encode())
    for record in (item.record for item in items):
        facts, place = record.path.stat(), record.path.resolve()
        size, changed = facts.st_size, facts.st_mtime_ns
        told = (place, size, changed, record.modality.value, *(record.span or ()))
        line = "\0".join(map(str, told)) + "\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_cache(cache: Path, key: str) -> FloatArray | None:
    """The cached embeddings; None if there are none for this key."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            features: FloatArray = stored["features"]
            return features
    except NO_ARRAYS:
        return None


def _write_cache(cache: Path, key: str, vectors_ND: FloatArray) -> None:
    """Keep embeddings; a run in a folder that cannot be written is searched without a cache."""
    buffer = io.BytesIO()
    np.savez(buffer, key=np.array(key), features=vectors_ND)
    with contextlib.suppress(InputError), atomic_write(cache) as file:
        file.write(buffer.getvalue())
