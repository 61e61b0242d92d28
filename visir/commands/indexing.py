"""Verbs that fill a gallery, empty it, and show what is in it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.commands.terminal import on_terminal

if TYPE_CHECKING:
    from visir.gallery.store import Where

Kind = Literal["visible", "infrared"]


def add(
    gallery: str,
    inputs: tuple[Path, ...],
    /,
    *,
    run: Path,
    camera: str | None = None,
    modality: Kind | None = None,
    tags: tuple[str, ...] = (),
    retention: float | None = None,
    skip_broken: bool = False,
    detector: Path | None = None,
    device: str = "auto",
) -> None:
    """Add images to a gallery, which begins with the first of them.

    Args:
        gallery: a folder, or postgresql://user:password@host/database.
        inputs: folders of crops, tar shards, videos, and output folders of `visir embed`.
        run: run folder or weights file whose descriptors are kept.
        camera: of images no folder name says it of.
        modality: of images no folder name says it of.
        tags: words every image gets.
        retention: days after which an image is forgotten, now and at every add, and by
            `visir serve`; stays as it is where not given.
        skip_broken: pass over images that cannot be read, and count them.
        detector: weights file that finds people in videos: torchvision's, for COCO.
        device: where networks run: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.core.types import Modality
    from visir.embedding.pytorch import load
    from visir.gallery.add import add as add_images
    from visir.gallery.open import open_gallery
    from visir.sources.crop import Settings

    kind = None if modality is None else Modality(modality)
    embedder = load(run, device)
    store = open_gallery(gallery, create=True)
    if retention is not None:
        store.keep_for(retention)
    done = add_images(
        store,
        embedder,
        inputs,
        Settings(kind, camera, tags, detector=detector),
        skip_broken=skip_broken,
        device=device,
        progress=on_terminal(),
    )
    print(f"{done.added} images added, {done.there} were there, {len(done.skipped)} skipped")
    for broken in done.skipped:
        print(f"  {broken.reason}")
    forgotten = store.expire(time.time())
    if forgotten:
        print(f"{forgotten} older than the retention period removed")


def remove(
    gallery: str,
    /,
    *,
    ids: tuple[int, ...] = (),
    camera: tuple[str, ...] = (),
    modality: Kind | None = None,
    since: str | None = None,
    until: str | None = None,
    tag: tuple[str, ...] = (),
    older_than: float | None = None,
) -> None:
    """Remove images from a gallery, with their descriptors and thumbnails.

    Args:
        gallery: a folder, or postgresql://user:password@host/database.
        ids: numbers of images, as `visir index list` shows them.
        camera: those of these cameras.
        modality: those of it.
        since: those from then on, as 2026-01-31T18:00; UTC where no zone is given.
        until: those up to then.
        tag: those with all these words.
        older_than: those older than so many days.
    """
    from visir.core.types import InputError
    from visir.gallery.open import open_gallery
    from visir.gallery.store import Where

    where = part_of(camera, modality, since, until, tag, older_than)
    if not ids and where == Where():
        raise InputError("index remove: nothing says what to remove; give --ids or a filter")
    store = open_gallery(gallery)
    found = [] if where == Where() else [item.id for item in store.select(where)]
    print(f"{store.remove([*ids, *found])} images removed")


def show(
    gallery: str,
    /,
    *,
    camera: tuple[str, ...] = (),
    modality: Kind | None = None,
    since: str | None = None,
    until: str | None = None,
    tag: tuple[str, ...] = (),
    older_than: float | None = None,
    limit: int = 100,
) -> None:
    """List images of a gallery.

    Args:
        gallery: a folder, or postgresql://user:password@host/database.
        camera: those of these cameras.
        modality: those of it.
        since: those from then on, as 2026-01-31T18:00; UTC where no zone is given.
        until: those up to then.
        tag: those with all these words.
        older_than: those older than so many days.
        limit: images at most.
    """
    from visir.gallery.listing import listing
    from visir.gallery.open import open_gallery

    where = part_of(camera, modality, since, until, tag, older_than)
    print(listing(open_gallery(gallery).select(where, limit)))


def stats(gallery: str, /) -> None:
    """Say what a gallery holds.

    Args:
        gallery: a folder, or postgresql://user:password@host/database.
    """
    from visir.gallery.listing import overview
    from visir.gallery.open import open_gallery

    print(overview(open_gallery(gallery)))


def part_of(
    cameras: tuple[str, ...],
    modality: Kind | None,
    since: str | None,
    until: str | None,
    tags: tuple[str, ...],
    older_than: float | None = None,
) -> Where:
    """The part of a gallery that filters name."""
    from visir.core.types import Modality
    from visir.gallery.store import Where, moment

    return Where(
        cameras,
        None if modality is None else Modality(modality),
        None if since is None else moment(since, "since"),
        None if until is None else moment(until, "until"),
        tags,
        None if older_than is None else time.time() - older_than * 86_400,
    )
