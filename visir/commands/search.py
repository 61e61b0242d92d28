"""`visir search`: find the people of query images in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from visir.commands.index import ModalityName, filter_of

if TYPE_CHECKING:
    from visir.gallery.feedback import Feedback
    from visir.gallery.query import SearchOptions
    from visir.gallery.results import SearchResult
    from visir.gallery.store import Store

# Former options and values, accepted with a warning until 1.0.
OLD_OPTIONS = {"--least": "--min-score"}
OLD_VALUES = {"--mode": {"index": "approx"}}
OLD_NOTES = {
    "--least": "the minimum now applies to the score that is displayed: the confidence if the run "
    "is calibrated, otherwise the cosine as before"
}


def search(
    run: Path,
    images: tuple[Path, ...],
    /,
    *,
    gallery: str,
    k: int = 10,
    modality: ModalityName | None = None,
    same_modality: bool = False,
    gallery_modality: ModalityName | None = None,
    together: bool = False,
    match: tuple[str, ...] = (),
    not_match: tuple[str, ...] = (),
    camera: tuple[str, ...] = (),
    since: str | None = None,
    until: str | None = None,
    tag: tuple[str, ...] = (),
    min_score: float | None = None,
    rerank: str = "none",
    mode: Literal["auto", "exact", "approx"] = "auto",
    out: Path | None = None,
    json: bool = False,
    device: str = "auto",
) -> SearchResult:
    """Rank a gallery's images by similarity to the people on query images.

    Args:
        run: run folder, weights file, or builtin.
        images: the query images; one that is in the gallery is never its own hit.
        gallery: folder of images, data set, or a gallery of `visir index` (folder or database).
        k: number of hits to list for each search.
        modality: of the query images; detected for each if omitted.
        same_modality: search images of the query's own modality too.
        gallery_modality: in a plain folder, the modality of images whose folder name does not say
            it; in a gallery of `visir index`, search only this modality.
        together: all query images show one person; run one search.
        match: hits of an earlier search that show the person, by path or id; the search is refined.
        not_match: hits that do not show the person; they are left out.
        camera: search only images of these cameras.
        since: search only images from then on, as 2026-01-31T18:00; UTC without a zone.
        until: search only images up to then.
        tag: search only images with all these tags.
        min_score: leave out hits with a lower score: the confidence if the run is calibrated,
            otherwise the cosine.
        rerank: re-rank the top hits by their neighbours; table and JSON name it.
        mode: exact compares with every image, approx with likely ones only; auto is exact for up to
            2 million images. A database is searched exactly in every mode.
        out: folder to write search.json and the contact sheet search.png to.
        json: print JSON instead of a table.
        device: where the network runs: cpu, cuda, cuda:1; auto uses a GPU if there is one.
    """
    from visir.gallery.query import SearchOptions
    from visir.nets.shipped import as_run

    run = as_run(run)
    sources = _Sources(run, gallery, gallery_modality, device)
    person = _Queries(images, modality, together, match, not_match)
    where = filter_of(camera, sources.searched_modality, since, until, tag)
    options = SearchOptions(k, where, same_modality, min_score=min_score, rerank=rerank, mode=mode)
    return _search(sources, person, options, out, json)


class _Sources(NamedTuple):
    """The run, the gallery, its modality as an option, and the device."""

    run: Path
    gallery: str
    gallery_modality: str | None
    device: str

    @property
    def searched_modality(self) -> str | None:
        """The modality to search; in a plain folder the option does not restrict the search."""
        from visir.gallery.open import is_gallery

        return self.gallery_modality if is_gallery(self.gallery) else None


class _Queries(NamedTuple):
    """The query images, and the hits that refine the search."""

    images: Sequence[Path]
    modality: str | None
    together: bool
    match: Sequence[str]
    not_match: Sequence[str]


def _search(
    sources: _Sources, queries: _Queries, options: SearchOptions, out: Path | None, json: bool
) -> SearchResult:
    from visir.data.locate import modality_named
    from visir.embedding.pytorch import load
    from visir.evaluation.confidence import Calibration
    from visir.gallery.open import open_searchable
    from visir.gallery.results import SearchResult
    from visir.gallery.searching import require_candidates, search_files

    run, gallery = sources.run, sources.gallery
    modality = modality_named(queries.modality, "modality")
    fallback = modality_named(sources.gallery_modality, "gallery_modality")
    embedder = load(run, sources.device)
    with closing(open_searchable(gallery, embedder, run, fallback, True)) as store:
        lists = search_files(
            store,
            embedder,
            [Path(image) for image in queries.images],
            options,
            modality=modality,
            together=queries.together,
            calibration=Calibration.of(run, embedder.fingerprint),
            feedback=_feedback(store, queries.match, queries.not_match),
        )
        require_candidates(store, lists, options)
    result = SearchResult(tuple(lists), json)
    if out is not None:
        result.write(Path(out))
    return result


def _feedback(store: Store, match: Sequence[str], not_match: Sequence[str]) -> Feedback:
    from visir.gallery.feedback import Feedback

    return Feedback(
        tuple(_image(store, name, "match") for name in match),
        tuple(_image(store, name, "not_match") for name in not_match),
    )


def _image(store: Store, name: str, field: str) -> int:
    """The id of a gallery image that is named by its path or its id."""
    from visir.core.types import InputError
    from visir.gallery.query import find_file

    found = find_file(store, Path(name))
    if found is not None:
        return found.id
    if store.permanent and name.isdecimal() and store.get([int(name)]):
        return int(name)
    how = "path or id" if store.permanent else "path"
    raise InputError(
        f"{field}: {name}: is not an image of {store.name}; give the {how} of a hit, as a search "
        "lists it"
    )
