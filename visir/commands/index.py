"""`visir index`: fill a gallery, remove images from it, and list what it holds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from visir.commands.terminal import BoxFormat

if TYPE_CHECKING:
    from visir.gallery.add import Added
    from visir.gallery.store import Filter, ModelId, Stats, Stored
    from visir.sources.crop import ReadOptions

ModalityName = Literal["visible", "infrared"]
SHOWN = 100_000  # ids of a removal that shows progress

# Former options, accepted with a warning until 1.0.
OLD_OPTIONS = {"--tags": "--tag"}


class Filled(NamedTuple):
    """What was added, and how many images were older than the retention period and deleted."""

    added: Added
    expired: int

    def __str__(self) -> str:
        if not self.expired:
            return str(self.added)
        return f"{self.added}\n{self.expired} older than the retention period removed"


def add(
    gallery: str,
    inputs: tuple[Path, ...],
    /,
    *,
    run: Path,
    camera: str | None = None,
    modality: ModalityName | None = None,
    tag: tuple[str, ...] = (),
    retention: float | None = None,
    skip_broken: bool = False,
    update: bool = False,
    prune: bool = False,
    exclude_list: Path | None = None,
    stream: int | None = None,
    detector: Path | None = None,
    crops: int = 3,
    boxes: Path | None = None,
    format: BoxFormat = "auto",
    label: tuple[str, ...] = (),
    start: str | None = None,
    fps: float | None = None,
    device: str = "auto",
) -> Filled:
    """Add images to a gallery (created if it does not exist).

    Args:
        gallery: a folder, or the address of a database.
        inputs: folders of crops, tar shards, videos, and what `visir embed`, Ray or Spark wrote.
        run: run folder, weights file or builtin, whose embeddings are kept.
        camera: of images whose folder name does not say it.
        modality: of images whose folder name does not say it.
        tag: tags that every image gets.
        retention: days after which images are deleted, now, at every add and by `visir serve`;
            unchanged if omitted. Most of a gallery is not deleted without being asked for, with
            `visir index remove --older-than`.
        skip_broken: skip images that cannot be read, and count them.
        update: embed images again whose files have changed since they were added; they get new ids.
        prune: remove images of these inputs whose files are gone.
        exclude_list: names of images to leave out, a file of `visir check --list`.
        stream: which of the streams of a video, from 0; the first if omitted.
        detector: what finds people in videos: hog, or the file of a network, .pth or .onnx.
        crops: maximum number of images of each person followed through a video.
        boxes: file with boxes that another program made, for one folder of frames or one video.
        format: of the boxes; auto detects it from the content.
        label: classes of boxes that are people; person, pedestrian and the like if omitted.
        start: time of the first frame, as 2026-01-31T18:00; UTC without a zone.
        fps: frames in a second, of a folder of frames, to count their times from --start.
        device: where networks run: cpu, cuda, cuda:1; auto uses a GPU if there is one.
    """
    from visir.nets.shipped import as_run
    from visir.sources.crop import DEFAULT_OPTIONS, read_options

    every = DEFAULT_OPTIONS.every
    how = (modality, camera, tag, every, detector, crops, boxes, format, label, start, fps, stream)
    settings = read_options(*how, exclude_list)
    return _filled(
        gallery, inputs, as_run(run), settings, retention, device,
        skip_broken=skip_broken, update=update, prune=prune,
    )  # fmt: skip


def _filled(
    gallery: str,
    inputs: Sequence[Path],
    run: Path,
    settings: ReadOptions,
    retention: float | None,
    device: str,
    **options: bool,
) -> Filled:
    """`add`, with the options read."""
    from visir.embedding.pytorch import load
    from visir.gallery.add import add as add_images
    from visir.gallery.open import open_gallery
    from visir.gallery.store import require_retention

    embedder = load(run, device)
    if retention is not None:
        require_retention(retention)
    with closing(open_gallery(gallery, create=True)) as store:
        if retention is not None:
            store.keep_for(retention)
        added = add_images(
            store,
            embedder,
            inputs,
            settings,
            device=device,
            progress=True,
            **options,
        )
        return Filled(added, store.expire(time.time()))


@dataclass(frozen=True)
class Removed:
    """How many images were removed."""

    images: int

    def __str__(self) -> str:
        return f"{self.images} images removed"


def remove(
    gallery: str,
    /,
    *,
    ids: tuple[int, ...] = (),
    id_list: Path | None = None,
    camera: tuple[str, ...] = (),
    modality: ModalityName | None = None,
    since: str | None = None,
    until: str | None = None,
    tag: tuple[str, ...] = (),
    older_than: float | None = None,
) -> Removed:
    """Remove images from a gallery, with their embeddings and thumbnails.

    Args:
        gallery: a folder, or the address of a database.
        ids: ids of images, as `visir index list` shows them.
        id_list: file with such an id in each line.
        camera: images of these cameras.
        modality: images of this modality.
        since: images from then on, as 2026-01-31T18:00; UTC without a zone.
        until: images up to then.
        tag: images with all these tags.
        older_than: images older than so many days.
    """
    from visir.core.progress import bar
    from visir.core.types import InputError
    from visir.gallery.id_list import count_listed, listed, selected
    from visir.gallery.open import open_gallery
    from visir.gallery.store import EVERYTHING

    where = filter_of(camera, modality, since=since, until=until, tags=tag, older_than=older_than)
    if not ids and id_list is None and where == EVERYTHING:
        raise InputError("index remove: no image was selected; give --ids, --id-list or a filter")
    many = 0 if id_list is None else count_listed(id_list)  # a bad line is found before any removal
    with closing(open_gallery(gallery)) as store:
        parts = [ids, () if id_list is None else listed(id_list)]
        if where != EVERYTHING:
            many, parts = many + store.count(where), [*parts, selected(store, where)]
        every = bar(
            chain.from_iterable(parts), f"removing from {store.name}", many + len(ids),
            unit="ids", show=many > SHOWN,
        )  # fmt: skip
        return Removed(store.remove(every))


@dataclass(frozen=True)
class Listing:
    """Images of a gallery; its text has a line for each."""

    images: tuple[Stored, ...]

    def __str__(self) -> str:
        from visir.core.names import printable

        lines = [f"{'id':>8}  {'modality':<9} {'camera':<12} {'time (UTC)':<19}  source"]
        for item in self.images:
            tags = f"  [{', '.join(item.tags)}]" if item.tags else ""
            lines.append(
                f"{item.id:>8}  {item.modality.value:<9} {item.camera:<12} "
                f"{_time(item.time):<19}  {item.source}{tags}"
            )
        return "\n".join(map(printable, lines))


def list(
    gallery: str,
    /,
    *,
    camera: tuple[str, ...] = (),
    modality: ModalityName | None = None,
    since: str | None = None,
    until: str | None = None,
    tag: tuple[str, ...] = (),
    older_than: float | None = None,
    limit: int = 100,
) -> Listing:
    """List images of a gallery.

    Args:
        gallery: a folder, or the address of a database.
        camera: images of these cameras.
        modality: images of this modality.
        since: images from then on, as 2026-01-31T18:00; UTC without a zone.
        until: images up to then.
        tag: images with all these tags.
        older_than: images older than so many days.
        limit: maximum number of images.
    """
    from visir.core.types import InputError
    from visir.gallery.open import open_gallery

    if limit < 1:
        raise InputError(f"limit: must be 1 or more images, got {limit}")
    where = filter_of(camera, modality, since=since, until=until, tags=tag, older_than=older_than)
    with closing(open_gallery(gallery, writable=False)) as store:
        return Listing(tuple(store.select(where, limit)))


class Overview(NamedTuple):
    """What a gallery holds; model: None while it is empty and new."""

    name: str
    stats: Stats
    model: ModelId | None

    def __str__(self) -> str:
        stats, model = self.stats, self.model
        kept = "for ever" if stats.retention is None else f"for {stats.retention:g} days"
        made = "not known yet" if model is None else (
            f"{model.method}, {model.width} numbers, weights {model.fingerprint[:12]}"
        )  # fmt: skip
        return "\n".join(
            [
                f"{self.name}: {stats.images} images, version {stats.version}, kept {kept}",
                f"engine      {stats.engine}, {stats.bytes_on_disk / 2**20:.1f} MiB",
                f"embeddings  {made}",
                f"modalities  {_counts(stats.by_modality)}",
                f"cameras     {_counts(stats.by_camera)}",
                f"times       {_time(stats.earliest)} to {_time(stats.latest)}",
            ]
        )


def stats(gallery: str, /) -> Overview:
    """Print what a gallery holds.

    Args:
        gallery: a folder, or the address of a database.
    """
    from visir.gallery.open import open_gallery

    with closing(open_gallery(gallery, writable=False)) as store:
        return Overview(store.name, store.stats(), store.model())


def filter_of(
    cameras: Sequence[str],
    modality: str | None,
    since: str | None,
    until: str | None,
    tags: Sequence[str],
    older_than: float | None = None,
) -> Filter:
    """The part of a gallery that a command's options name."""
    from visir.core.times import parse_time
    from visir.core.types import InputError
    from visir.data.locate import modality_named
    from visir.gallery.store import Filter
    from visir.gallery.times import ago

    if older_than is not None and older_than < 0:
        raise InputError(f"older_than: must be 0 or more days, got {older_than:g}")
    return Filter(
        tuple(cameras),
        modality_named(modality, "modality"),
        since=None if since is None else parse_time(since, "since"),
        until=None if until is None else parse_time(until, "until"),
        tags=tuple(tags),
        before=None if older_than is None else ago(older_than, time.time()),
    )


def _time(seconds: float | None) -> str:
    """A time to the second, UTC."""
    if seconds is None:
        return "unknown"
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "out of range"


def _counts(of: dict[str, int]) -> str:
    from visir.core.names import printable

    return ", ".join(f"{printable(name)} {count}" for name, count in of.items()) or "none"
