"""Search a folder of images as it is for the people on query images, across modalities."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visir.core.run import Run, atomic_write
from visir.core.types import FloatArray, InputError, Modality
from visir.data.images import read_image
from visir.data.locate import Item, gallery_items, modality_by_colour, modality_named
from visir.evaluation.confidence import Calibration
from visir.evaluation.ranking import rank
from visir.gallery.results import Hit, RankedList, SearchResult, calibrated, write

if TYPE_CHECKING:
    from visir.embedding.pytorch import Embedder


def search(
    run: Path,
    gallery: Path,
    images: Sequence[Path],
    modality: str | None = None,
    k: int = 10,
    out: Path | None = None,
    device: str = "cpu",
    *,
    same_modality: bool = False,
    gallery_modality: str | None = None,
    progress: bool = False,
) -> SearchResult:
    """Rank the images of a gallery by how likely they show the person of each query image.

    Args:
        run: a run folder or a weights file.
        gallery: a data set in a known layout (all its images), or a folder of crops.
        images: the query images, inside the gallery or not; a query is never its own hit.
        modality: "visible" or "infrared", of all queries; None takes it from the data set, and
            for an image from elsewhere from its colours (all grey is infrared).
        k: hits per query.
        out: folder for search.json and search.png; None writes nothing.
        device: where the network runs.
        same_modality: rank all gallery images, not only those of the other modality.
        gallery_modality: of those images no folder name says it of.
        progress: show a progress bar while the gallery is embedded.

    Raises:
        InputError: k < 1, no query, a query that cannot be read, an empty gallery, or nothing
            of the other modality in it.
    """
    if k < 1:
        raise InputError(f"k: {k} hits cannot be listed; give 1 or more")
    if not images:
        raise InputError("images: no query image was given; name at least one")
    items = gallery_items(gallery, modality_named(gallery_modality, "gallery_modality"))
    queries = _queries(
        [Path(image) for image in images], items, modality_named(modality, "modality")
    )
    _require_candidates(gallery, items, queries, same_modality)
    from visir.embedding import pytorch

    embedder = pytorch.load(run, device=device)
    features = _gallery_features(run, gallery, items, embedder, progress)
    found: dict[int, RankedList] = {}
    for side in Modality:
        rows = [row for row, query in enumerate(queries) if query.modality is side]
        if rows:
            asked = [queries[row] for row in rows]
            vectors = embedder.embed([query.query for query in asked], side)
            ranked = _rank_all(asked, vectors, items, features, k, same_modality)
            found.update(zip(rows, ranked, strict=True))
    ranked_lists = [found[row] for row in range(len(queries))]
    result = SearchResult(_calibrated(ranked_lists, run, embedder, items, same_modality))
    if out is not None:
        write(result, Path(out))
    return result


def _require_candidates(
    gallery: Path, items: Sequence[Item], queries: Sequence[RankedList], same_modality: bool
) -> None:
    for wanted in {query.modality for query in queries}:
        if not same_modality and all(item.record.modality is wanted for item in items):
            raise InputError(
                f"{gallery}: holds {wanted.value} images only and the query is {wanted.value}; "
                "add images of the other modality or search within the same modality"
            )


def _calibrated(
    lists: Sequence[RankedList], run: Path, embedder: Embedder, items: Sequence[Item], same: bool
) -> tuple[RankedList, ...]:
    """With confidences, where the run is calibrated."""
    calibration = Calibration.of(run, embedder.fingerprint)
    sizes = {
        side: sum(same or item.record.modality is not side for item in items) for side in Modality
    }
    return tuple(calibrated(of, calibration, sizes[of.modality]) for of in lists)


def _queries(
    images: Sequence[Path], items: Sequence[Item], given: Modality | None
) -> list[RankedList]:
    """The queries with what is known of each and no hits yet; all are read, so errors come now."""
    known = {item.record.path.resolve(): item for item in items}
    queries = []
    for path in images:
        picture = read_image(path)
        item = known.get(path.resolve())
        if item is not None:
            modality, camera, pid = item.record.modality, item.camera, item.record.pid
        else:
            modality, camera, pid = modality_by_colour(picture), "", None
        inferred = given is None and item is None
        queries.append(RankedList(path, given or modality, inferred, camera, pid, ()))
    return queries


def _rank_all(
    queries: Sequence[RankedList],
    vectors: FloatArray,
    items: Sequence[Item],
    features: FloatArray,
    k: int,
    same_modality: bool,
) -> list[RankedList]:
    """Hits for queries of one modality: the k best of the candidates that are not the query."""
    side = queries[0].modality
    rows = np.array(
        [row for row, item in enumerate(items) if same_modality or item.record.modality is not side]
    )
    row_of = {items[row].record.path.resolve(): int(row) for row in rows}
    order, scores = rank(vectors, features[rows], k=min(k + 1, len(rows)))
    subset_of = {item.record.path.resolve(): item.subset for item in items}
    lists = []
    for query, ranked, values in zip(queries, rows[order], scores, strict=True):
        here = query.query.resolve()
        itself = row_of.get(here, -1)
        best = [(row, value) for row, value in zip(ranked, values, strict=True) if row != itself]
        hits = tuple(
            _hit(place, items[row], float(value), query.pid, subset_of.get(here))
            for place, (row, value) in enumerate(best[:k], start=1)
        )
        lists.append(query._replace(hits=hits))
    return lists


def _hit(place: int, item: Item, score: float, pid: int | None, subset: str | None) -> Hit:
    path, its_pid, _, modality = item.record
    known = pid is not None and its_pid is not None
    correct = (pid, subset) == (its_pid, item.subset) if known else None
    return Hit(place, path, item.camera, modality, score, its_pid, correct)


def _gallery_features(
    run: Path, gallery: Path, items: Sequence[Item], embedder: Embedder, progress: bool
) -> FloatArray:
    """(N, D) features of the gallery, from the run's cache while weights and files are the same."""
    run = Path(run)
    weights = Run(run).weights if run.is_dir() else run
    place = hashlib.sha256(str(Path(gallery).resolve()).encode()).hexdigest()[:16]
    cache = weights.parent / "gallery-cache" / f"{place}.npz"
    key = _fingerprint(embedder, items)
    features = _read_cache(cache, key)
    if features is None:
        features = embedder.embed_records([item.record for item in items], progress=progress)
        buffer = io.BytesIO()
        np.savez(buffer, key=np.array(key), features=features)
        # A run in a folder one may only read is searched all the same, without a cache.
        with contextlib.suppress(InputError), atomic_write(cache) as file:
            file.write(buffer.getvalue())
    return features


def _fingerprint(embedder: Embedder, items: Sequence[Item]) -> str:
    digest = hashlib.sha256(embedder.fingerprint.encode())
    for path, _, _, modality in (item.record for item in items):
        facts = path.stat()
        line = f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\0{modality.value}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_cache(cache: Path, key: str) -> FloatArray | None:
    """The cached features, or None where there are none for this key."""
    try:
        with np.load(cache, allow_pickle=False) as stored:
            if str(stored["key"]) != key:
                return None
            features: FloatArray = stored["features"]
            return features
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
