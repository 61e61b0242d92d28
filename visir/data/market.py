"""Market-1501's tree: folders for training, queries and gallery; the file names say the rest.

A name is `<identity>_c<camera>s<sequence>_<frame>_<box>.jpg`; -1 and 0000 are junk and distractors
(Zheng et al., ICCV 2015), which are left out. `rgb_modify/` and `ir_modify/` hold such a tree for
each modality, as `visir prepare` and the public ADCA scripts write them; RegDB has one a split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visir.core.types import Benchmark, Exclusion, InputError, Modality, Protocol, Record, Trial
from visir.data.contract import DataSet
from visir.data.tree import image_files

TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
TOPS = {Modality.INFRARED: "ir_modify", Modality.VISIBLE: "rgb_modify"}
_NAME = re.compile(r"(-?\d+)_c(\d+)(?:s\d+)?_")
_JUNK = ("-1", "0000")


class Named(NamedTuple):
    """What a file name says; pid: None for junk."""

    pid: int | None
    cam: int


def named(path: Path) -> Named | None:
    """What the name of an image in a folder of this tree says; None for all others."""
    match = _NAME.match(path.name)
    if match is None or path.parent.name not in (TRAIN, QUERY, GALLERY):
        return None
    return Named(None if match[1] in _JUNK else int(match[1]), int(match[2]))


def load(root: Path, split: int = 1) -> Benchmark:
    """Read a tree of one modality, taken as visible, or the trees of both.

    Raises:
        InputError: a folder is missing or empty, a file name says no identity and camera, there is
            no such split, or no query can be found in the gallery.
    """
    both = {modality: root / top for modality, top in TOPS.items() if (root / top).is_dir()}
    inside = [folder.name for top in both.values() for folder in top.iterdir()]
    splits = sorted({int(name) for name in inside if name.isdigit()})
    if split not in (splits or [1]):
        there = ", ".join(map(str, splits)) or "1"
        raise InputError(f"split {split}: {root} has only {there}; name one of these")
    trees = {m: top / str(split) if splits else top for m, top in both.items()}
    trees = trees or {Modality.VISIBLE: root}
    parts = {
        part: sorted(record for m, tree in trees.items() for record in _records(tree / part, m))
        for part in (TRAIN, QUERY, GALLERY)
    }
    test = (*parts[QUERY], *parts[GALLERY])
    return Benchmark(
        name=root.name,
        root=root,
        train=tuple(parts[TRAIN]),
        test=test,
        protocols=dict(_protocols(root, test, len(parts[QUERY]), len(trees) > 1)),
        cameras={cam: f"c{cam}" for cam in sorted({r.cam for r in (*parts[TRAIN], *test)})},
        split=str(split) if splits else None,
    )


def _records(folder: Path, modality: Modality) -> Iterator[Record]:
    if not folder.is_dir():
        raise InputError(f"{folder}: missing; copy the folder from the data set")
    for path in image_files(folder):
        said = named(path)
        if said is None:
            raise InputError(
                f"{path}: its name says no identity and camera; restore it, such as "
                "0002_c1s1_000451_03.jpg"
            )
        if said.pid is not None:
            yield Record(path, said.pid, said.cam, modality)


def _protocols(
    root: Path, test: tuple[Record, ...], queries: int, both: bool
) -> Iterator[tuple[str, Protocol]]:
    """Queries against the gallery of the other modality, or of the only one."""
    rows = np.arange(len(test))
    infrared = np.array([record.modality is Modality.INFRARED for record in test], bool)
    query, gallery = rows < queries, rows >= queries
    rule = f"folders {QUERY} and {GALLERY}"
    if not both:
        cams = frozenset((record.cam, record.cam) for record in test)
        trial = Trial(rows[query], rows[gallery])
        _require(root, test, trial)
        name = f"{root.name} query-to-gallery, {rule}"
        yield "query-to-gallery", Protocol(name, (trial,), Exclusion(cams, same_identity_only=True))
        return
    for modality in Modality:
        mine = infrared == (modality is Modality.INFRARED)
        trial = Trial(rows[query & mine], rows[gallery & ~mine])
        _require(root, test, trial)
        key = f"{modality.value}-to-{modality.other.value}"
        yield key, Protocol(f"{root.name} {key}, {rule}", (trial,))


def _require(root: Path, test: tuple[Record, ...], trial: Trial) -> None:
    for part, found in zip((QUERY, GALLERY), trial, strict=True):
        if not len(found):
            raise InputError(f"{root}: a folder {part} holds no image; copy it from the data set")
    if {test[row].pid for row in trial.query}.isdisjoint(test[row].pid for row in trial.gallery):
        raise InputError(
            f"{root}: no identity of {QUERY} is in its gallery, so nothing can be scored; copy the "
            f"folders {QUERY} and {GALLERY} of one data set"
        )


DATASET = DataSet(load, marks=(TRAIN, GALLERY, *TOPS.values()), splits=None)
