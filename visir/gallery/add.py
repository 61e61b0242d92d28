"""Fill a gallery: from images, or from the embeddings `visir embed` made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from visir.core.types import FloatArray, InputError
from visir.data.ranges import RangeBook
from visir.embedding.base import ImageEmbedder
from visir.embedding.bulk import embedded, is_output, ranges_of, read_manifest, read_shards
from visir.gallery.store import Store, model_of, require_same_model
from visir.sources.crop import DEFAULT_OPTIONS, Broken, Entry, ReadOptions


class Added(NamedTuple):
    """How many images were added.

    there: images that were in the gallery before; skipped: what could not be read.
    """

    added: int
    there: int
    skipped: tuple[Broken, ...]

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.added} images added, {self.there} were there, {len(self.skipped)} skipped",
                *(f"  {broken.reason}" for broken in self.skipped),
            ]
        )


def add(
    store: Store,
    embedder: ImageEmbedder,
    inputs: Sequence[Path],
    settings: ReadOptions = DEFAULT_OPTIONS,
    *,
    skip_broken: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Added:
    """Add images to a gallery; images that are in it are neither read nor embedded again.

    Every few hundred images are on disk before the next are read, so after an interruption the same
    call continues.

    Args:
        store: the gallery.
        embedder: the model its embeddings are made with.
        inputs: folders of crops, tar shards, videos, and output folders of `visir embed`.
        settings: how inputs are read.
        skip_broken: skip what cannot be read, and count it.
        device: where the detector of a video runs.
        progress: show a progress bar.

    Raises:
        InputError: another model's gallery or embeddings, or something that cannot be read.
    """
    model = model_of(embedder)
    require_same_model(store.model(), model, store.name)
    added, there, skipped = 0, 0, list[Broken]()
    made = [path for path in inputs if is_output(Path(path))]
    rest = [Path(path).absolute() for path in inputs if path not in made]
    book = RangeBook(kept=store.ranges(), known=embedder.ranges)
    for entries, vectors_ND in _read(made, model.fingerprint, book):
        _keep_ranges(store, book)
        ids = store.add(model, entries, vectors_ND)
        added += sum(item is not None for item in ids)
        there += sum(item is None for item in ids)

    def known(sources: Sequence[str]) -> dict[str, int]:
        nonlocal there
        found = store.known(sources)
        there += len(found)
        return found

    if rest:
        for entries, vectors_ND, broken in embedded(
            embedder, rest, settings, book=book, known=known, skip_broken=skip_broken,
            device=device, progress=progress,
        ):  # fmt: skip
            skipped += broken
            _keep_ranges(store, book)
            if entries:
                added += sum(item is not None for item in store.add(model, entries, vectors_ND))
    store.settle()
    return Added(added, there, tuple(skipped))


def _keep_ranges(store: Store, book: RangeBook) -> None:
    """Store ranges before the first images that were read with them."""
    if book.used != store.ranges():
        store.keep_ranges(book.used)


def _read(
    made: Sequence[Path], fingerprint: str, book: RangeBook
) -> Iterator[tuple[list[Entry], FloatArray]]:
    for path in made:
        manifest = read_manifest(Path(path))
        other = manifest.model
        if other != fingerprint:
            raise InputError(
                f"{path}: was embedded by another model ({other[:12]}, this one is "
                f"{fingerprint[:12]}); embed the images with this one"
            )
        book.said, book.source = ranges_of(manifest), path
        for name in book.said:
            book.settle(name, ())
        yield from read_shards(Path(path))
