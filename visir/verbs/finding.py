"""Verbs that look for people with what a run has learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from visir.verbs.terminal import on_terminal


def search(
    run: Path,
    images: tuple[Path, ...],
    /,
    *,
    gallery: Path,
    k: int = 10,
    modality: Literal["visible", "infrared"] | None = None,
    same_modality: bool = False,
    gallery_modality: Literal["visible", "infrared"] | None = None,
    out: Path | None = None,
    json: bool = False,
    device: str = "auto",
) -> None:
    """Rank a gallery's images by likeness to the people on query images.

    Args:
        run: run folder or weights file.
        images: the query images.
        gallery: folder of a data set, or of crops.
        k: hits to list for each query (also -k).
        modality: of the query images; found out for each where not given.
        same_modality: rank images of the query's own modality too.
        gallery_modality: of those gallery images no folder name says it of.
        out: folder to write search.json and the contact sheet search.png to.
        json: print JSON instead of a table.
        device: where the network runs: cpu, cuda, cuda:1; auto takes a GPU where there is one.
    """
    from visir.gallery import search as search_gallery

    result = search_gallery(
        run,
        gallery,
        images,
        modality,
        k,
        out,
        device,
        same_modality=same_modality,
        gallery_modality=gallery_modality,
        progress=on_terminal(),
    )
    if json:
        from json import dumps

        print(dumps(result.as_json(), indent=1))
    else:
        print(result.table())
