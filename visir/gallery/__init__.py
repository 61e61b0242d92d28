"""Galleries: images that can be searched for a person across modalities.

A store keeps the images (`store`, `open`). A search with query images (`query`) gives a ranked list
(`searching`), which is printed and drawn in `results`.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from visir.data.locate import gallery_items, modality_by_colour
from visir.gallery.results import SearchResult
from visir.gallery.searching import Hit, RankedList

__all__ = ["Hit", "RankedList", "SearchResult", "gallery_items", "modality_by_colour", "search"]


class _OldHit(Hit):
    """A hit of the deprecated `search`: its score is the cosine, calibrated or not."""

    @property
    def score(self) -> float:
        return self.cosine


class _OldRankedList(RankedList):
    """A ranked list of the deprecated `search`."""

    @property
    def nobody(self) -> bool | None:
        return self.no_match


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
    """Deprecated, removed in 1.0: use `visir.commands.search.search`.

    A hit's score is its cosine here, calibrated or not. The new
    function has the same arguments in another order, and more of them.
    """
    warnings.warn(
        "visir.gallery.search is deprecated and will be removed in 1.0; use "
        "visir.commands.search.search(run, images, gallery=...), whose hits have a cosine, and a "
        "score that is the confidence if the run is calibrated",
        DeprecationWarning,
        stacklevel=2,
    )
    from visir.data.locate import modality_named
    from visir.embedding.pytorch import load
    from visir.evaluation.confidence import Calibration
    from visir.gallery.plain_folder import FolderStore
    from visir.gallery.query import SearchOptions
    from visir.gallery.searching import require_candidates, search_files

    options = SearchOptions(k=k, same_modality=same_modality)
    fallback = modality_named(gallery_modality, "gallery_modality")
    kind = modality_named(modality, "modality")
    embedder = load(run, device)
    store = FolderStore(gallery, embedder, run, fallback, progress)
    lists = search_files(
        store,
        embedder,
        [Path(image) for image in images],
        options,
        modality=kind,
        calibration=Calibration.of(run, embedder.fingerprint),
    )
    require_candidates(store, lists, options)
    old = tuple(
        _OldRankedList(*ranked._replace(hits=tuple(_OldHit(*hit) for hit in ranked.hits)))
        for ranked in lists
    )
    result = SearchResult(old)
    if out is not None:
        result.write(Path(out))
    return result
