"""Verbs that look for people with what a run has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visir.commands.indexing import Kind, part_of
from visir.commands.terminal import on_terminal

if TYPE_CHECKING:
    from visir.gallery.ask import Wanted
    from visir.gallery.results import SearchResult


def search(
    run: Path,
    images: tuple[Path, ...],
    /,
    *,
    gallery: str,
    k: int = 10,
    modality: Kind | None = None,
    same_modality: bool = False,
    gallery_modality: Kind | None = None,
    together: bool = False,
    camera: tuple[str, ...] = (),
    since: str | None = None,
    until: str | None = None,
    tag: tuple[str, ...] = (),
    least: float = -1.0,
    rerank: Literal["none", "k-reciprocal", "random-walk"] = "none",
    mode: Literal["auto", "exact", "index"] = "auto",
    out: Path | None = None,
    json: bool = False,
    device: str = "auto",
) -> None:
    """Rank a gallery's images by likeness to the people on query images.

    Args:
        run: run folder or weights file.
        images: the query images.
        gallery: folder of images, or a gallery of `visir index`, a folder or postgresql://...
        k: hits to list for each query (also -k).
        modality: of the query images; found out for each where not given.
        same_modality: rank images of the query's own modality too.
        gallery_modality: of a folder's images no folder name says it of; of an index, the part.
        together: all queries show one person, who is looked for once; of an index.
        camera: images of these cameras; of an index.
        since: images from then on, as 2026-01-31T18:00; UTC where no zone is given; of an index.
        until: images up to then; of an index.
        tag: images with all these words; of an index.
        least: cosine below which nothing is listed; of an index.
        rerank: let the best hits heed their neighbours; of an index.
        mode: look at all images (exact), at likely ones (index), or as size says (auto).
        out: folder to write search.json and the contact sheet search.png to.
        json: print JSON instead of a table.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.gallery.ask import Wanted

    where = part_of(camera, gallery_modality, since, until, tag)
    wanted = Wanted(k, where, same_modality, least, rerank, mode)
    result = _searched(run, gallery, images, wanted, modality, together, out, device)
    if json:
        from json import dumps

        print(dumps(result.as_json(), indent=1))
    else:
        print(result.table())


def compare(
    run: Path,
    first: Path,
    second: Path,
    /,
    *,
    first_modality: Kind | None = None,
    second_modality: Kind | None = None,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Say how alike the people on two images are, and where.

    Args:
        run: run folder or weights file.
        first: an image.
        second: another.
        first_modality: of the first image; judged by its colours where not given.
        second_modality: of the second.
        out: picture (.png) to write, which shows what each image's parts add to the likeness.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.gallery.compare import compare as compare_images

    found = compare_images(run, (first, second), (first_modality, second_modality), out, device)
    print(found.text())


def calibrate(
    run: Path,
    /,
    *,
    data: Path,
    layout: str | None = None,
    split: int = 1,
    part: Literal["train", "test"] = "train",
    no_labels: bool = False,
    false_alarms: float = 0.1,
    device: str = "auto",
) -> None:
    """Learn what a run's scores are worth, so that "nobody here" can be an answer.

    Args:
        run: run folder.
        data: a data set, or a folder of one's own crops, of both modalities.
        layout: sysu, regdb, llcm or folder; found out where not given.
        split: of the data set.
        part: whose images, of those the data set keeps apart for training and for test.
        no_labels: go by clusters even where identities are known.
        false_alarms: share of queries about people who are not there that may still find somebody.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.evaluation.calibrate import calibrate as learn
    from visir.evaluation.confidence import FILE

    found = learn(
        run, data, layout, split, part, not no_labels, false_alarms, device, on_terminal()
    )
    who = "people by their labels" if found.identities == "labels" else "people by clusters"
    print(f"{run / FILE}: written, from {found.people} {who} on {found.images} images")
    print(
        f"nobody below a confidence of {found.threshold:.0%}: of people who are not there "
        f"{found.false_alarms:.0%} still find somebody, of those who are there {found.found:.0%} "
        "are found"
    )


def _searched(
    run: Path, gallery: str, images: tuple[Path, ...], wanted: Wanted, modality: Kind | None,
    together: bool, out: Path | None, device: str,
) -> SearchResult:  # fmt: skip
    from visir.core.types import InputError
    from visir.gallery.ask import Wanted, ask_run
    from visir.gallery.open import is_gallery
    from visir.gallery.results import write
    from visir.gallery.store import Where
    from visir.gallery.unindexed import search as search_folder

    if is_gallery(gallery):
        result = ask_run(run, gallery, images, wanted, modality, together, device)
        if out is not None:
            write(result, out)
        return result
    kind = wanted.where.modality
    heeded = Wanted(wanted.k, Where(modality=kind), wanted.same_modality)
    if together or wanted != heeded:
        raise InputError(
            f"{gallery}: is no gallery of `visir index`, and the options asked for need one; make "
            f"it with: visir index add GALLERY {gallery} --run {run}"
        )
    return search_folder(
        run, Path(gallery), images, modality, wanted.k, out, device,
        same_modality=wanted.same_modality, gallery_modality=kind and kind.value,
        progress=on_terminal(),
    )  # fmt: skip
