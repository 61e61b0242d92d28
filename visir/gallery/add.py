"""Fill a gallery: from images, or from the embeddings `visir embed` made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from visir.core.names import printable
from visir.core.progress import bar
from visir.core.types import FloatArray, InputError, Span
from visir.data.ranges import RangeBook
from visir.embedding.base import ImageEmbedder
from visir.embedding.bulk import embedded, is_output, ranges_of, read_manifest, read_shards
from visir.embedding.engines.parquet import is_parquet, read_parquet
from visir.gallery.store import ModelId, Store, model_of, require_same_model
from visir.sources.crop import DEFAULT_OPTIONS, Broken, Entry, ReadOptions
from visir.sources.marks import Marks, canonical, file_of


class Added(NamedTuple):
    """How many images were added.

    there: images that were in the gallery before, unchanged; skipped: what could not be read;
    changed: images whose files have changed since they were added, and updated: whether they were
    embedded again; vanished: images whose files are gone, and pruned: whether they were removed.
    """

    added: int
    there: int
    skipped: tuple[Broken, ...]
    changed: int = 0
    updated: bool = False
    vanished: int = 0
    pruned: bool = False

    def __str__(self) -> str:
        lines = [f"{self.added} images added, {self.there} were there, {len(self.skipped)} skipped"]
        lines += [f"  {printable(broken.reason)}" for broken in self.skipped]
        if self.changed:
            done = "embedded again" if self.updated else "not embedded again; add --update for that"
            lines.append(f"{self.changed} changed since they were added, {done}")
        if self.vanished:
            done = "removed" if self.pruned else "still in the gallery; --prune removes them"
            lines.append(f"{self.vanished} whose files are gone, {done}")
        return "\n".join(lines)


def add(
    store: Store,
    embedder: ImageEmbedder,
    inputs: Sequence[Path],
    settings: ReadOptions = DEFAULT_OPTIONS,
    *,
    skip_broken: bool = False,
    update: bool = False,
    prune: bool = False,
    device: str = "cpu",
    progress: bool = False,
) -> Added:
    """Add images to a gallery; images that are in it are neither read nor embedded again.

    An image has the real path of its file as its name, so it is added once, however its path is
    written. Every few hundred images are on disk before the next are read, so after an interruption
    the same call continues.

    Args:
        store: the gallery.
        embedder: the model its embeddings are made with.
        inputs: folders of crops, tar shards, videos, and what `visir embed`, Ray or Spark wrote.
        settings: how inputs are read.
        skip_broken: skip what cannot be read, and count it.
        update: embed images again whose files have changed; they get new ids.
        prune: remove images of these inputs whose files are gone.
        device: where the detector of a video runs.
        progress: show progress.

    Raises:
        InputError: another model's gallery or embeddings, or something that cannot be read.
    """
    model = model_of(embedder)
    require_same_model(store.model(), model, store.name)
    made = [path for path in inputs if is_output(Path(path))]
    tables = [path for path in inputs if path not in made and is_parquet(Path(path))]
    rest = [Path(path).resolve() for path in inputs if path not in [*made, *tables]]
    book = RangeBook(kept=store.ranges(), known=embedder.ranges)
    skipped = list[Broken]()
    with bar(None, f"adding to {store.name}", unit="images", show=progress) as shown:
        filling = _Filling(store, model, update, shown)
        for entries, vectors_ND in _written(made, tables, model.fingerprint, book, skipped):
            _keep_ranges(store, book)
            filling.known([e.source for e in entries], [e.mark for e in entries])
            filling.add(entries, vectors_ND)
        if rest:
            for entries, vectors_ND, broken in embedded(
                embedder, rest, settings, book=book, known=filling.known, skip_broken=skip_broken,
                device=device,
            ):  # fmt: skip
                skipped += broken
                _keep_ranges(store, book)
                filling.add(entries, vectors_ND)
    gone = [item for path in rest for item in _vanished(store, path)]
    if prune and gone:
        store.remove(gone)
    store.settle()
    return Added(
        filling.added, filling.there, tuple(skipped), filling.changed, update, len(gone), prune
    )


class _Filling:
    """Adds images under their canonical names."""

    def __init__(self, store: Store, model: ModelId, update: bool, shown: tqdm[Any]) -> None:
        self.store, self.model, self.update, self.shown = store, model, update, shown
        self.added, self.there, self.changed = 0, 0, 0
        self.marks = Marks()
        self.old: dict[str, int] = {}  # ids of changed images that are to be replaced

    def known(self, sources: Sequence[str], marks: Sequence[str | None] | None = None) -> set[str]:
        """Those that need not be embedded; counts them.

        Args:
            sources: names of images, as they were given.
            marks: of the files when they were embedded; the files are looked at if omitted.
        """
        named = {source: canonical(source) for source in sources}
        ids = self.store.known(list(dict.fromkeys(named.values())))
        kept = self.store.marks(list(ids.values()))
        given = {} if marks is None else dict(zip(named.values(), marks, strict=True))

        def is_other(name: str, mark: str | None) -> bool:
            if marks is None:
                return self.marks.has_changed(name, mark)
            return self.marks.differ(given[name], mark)

        changed = {name for name, item in ids.items() if is_other(name, kept.get(item))}
        self.changed += len(changed)
        self.there += sum(name in ids and name not in changed for name in named.values())
        if self.update:
            self.old.update({name: ids.pop(name) for name in changed})
        self.shown.update(sum(name in ids for name in named.values()))
        return {source for source, name in named.items() if name in ids}

    def add(self, entries: Sequence[Entry], vectors_ND: FloatArray) -> None:
        """Add what is new; replace what has changed."""
        if not entries:
            return
        new = [entry._replace(source=canonical(entry.source)) for entry in entries]
        replaced = [self.old.pop(entry.source, None) for entry in new]
        gone = [item for item in replaced if item is not None]
        ids = self.store.add(self.model, new, vectors_ND, gone)
        fresh = sum(item is not None for item in ids)
        self.added += fresh - len(gone)
        self.shown.update(fresh)


def _vanished(store: Store, place: Path) -> list[int]:
    """Ids of the images in a folder or a file that are no longer there."""
    return [
        item
        for source, item in store.below(str(place)).items()
        if not Path(file_of(source)).exists()
    ]


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
        _settle(book, ranges_of(manifest), path)
        yield from read_shards(Path(path))


def _settle(book: RangeBook, said: dict[str, Span], path: Path) -> None:
    """Take the ranges of cameras that embeddings were made with."""
    book.said, book.source = said, path
    for name in said:
        book.settle(name, ())


def _written(
    made: Sequence[Path],
    tables: Sequence[Path],
    fingerprint: str,
    book: RangeBook,
    skipped: list[Broken],
) -> Iterator[tuple[list[Entry], FloatArray]]:
    """What `visir embed` and engines wrote; `skipped` takes what engines skipped."""
    yield from _read(made, fingerprint, book)
    for path in tables:
        for found in read_parquet(Path(path), fingerprint):
            skipped += found.skipped
            _settle(book, found.ranges, path)
            if found.entries:
                yield found.entries, found.vectors
