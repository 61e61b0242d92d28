"""SYSU-MM01: `cam1..cam6/<identity>/<image>.jpg` and `exp/{train,val,test}_id.txt`.

Cameras 1, 2, 4, 5 are visible, 3 and 6 near-infrared; 2 and 3 stand in the same room, so a
camera-3 query is never compared with camera-2 images (Wu et al., ICCV 2017, evaluation protocol).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from visir.core.types import Benchmark, Exclusion, InputError, Modality, Protocol, Record, Trial
from visir.data.contract import DataSet, Facts, shorten
from visir.data.index_files import identity_folders, read_ids
from visir.data.protocols import (
    MULTI_SHOTS,
    TRIALS,
    Pick,
    Rows,
    official_counts,
    official_gallery,
    published_counts,
    require_shared_identity,
    seeded_gallery,
)
from visir.data.tree import image_files, image_tree

VISIBLE_CAMS = (1, 2, 4, 5)
INFRARED_CAMS = (3, 6)
SAME_ROOM = Exclusion(cam_pairs=frozenset({(3, 2)}))
_MODES = {"all": VISIBLE_CAMS, "indoor": (1, 2)}
_SHOTS = {"single": 1, "multi": MULTI_SHOTS}


def load(root: Path) -> Benchmark:
    """Read a raw SYSU-MM01 folder (395 training identities = train and val, 96 test).

    Raises:
        InputError: an identity list is missing or malformed, an identity is in training and test,
            or no test identity was seen in both modalities.
    """
    ids = {name: read_ids(root / "exp" / f"{name}_id.txt") for name in ("train", "val", "test")}
    train_ids = ids["train"] | ids["val"]
    if both := sorted(train_ids & ids["test"]):
        raise InputError(
            f"{root / 'exp' / 'test_id.txt'}: identity {both[0]} is also listed for training; "
            "remove it from one of the lists"
        )
    records = _records(root, train_ids | ids["test"])
    if not records:
        raise InputError(
            f"{root}: no image of any listed identity in cam1..cam6; "
            "expected files such as cam1/0001/0001.jpg"
        )
    train = tuple(record for record in records if record.pid in train_ids)
    test = tuple(record for record in records if record.pid in ids["test"])
    return Benchmark(
        name="SYSU-MM01",
        root=root,
        train=train,
        test=test,
        protocols=_protocols(root, test),
        cameras={cam: f"cam{cam}" for cam in range(1, 7)},
        validation=tuple(record for record in train if record.pid in ids["val"]),
    )


def modality_of(cam: int) -> Modality:
    """What SYSU-MM01's camera `cam` (1..6) sees."""
    return Modality.INFRARED if cam in INFRARED_CAMS else Modality.VISIBLE


def _records(root: Path, ids: set[int]) -> list[Record]:
    return sorted(
        Record(path, pid, cam, modality_of(cam))
        for cam in range(1, 7)
        for pid, folder in identity_folders(root / f"cam{cam}")
        if pid in ids
        for path in image_files(folder)
    )


def _protocols(root: Path, test: tuple[Record, ...]) -> dict[str, Protocol]:
    if not test:
        return {}
    query = np.array([i for i, r in enumerate(test) if r.cam in INFRARED_CAMS], dtype=np.int64)
    visible = np.array([i for i, r in enumerate(test) if r.cam in VISIBLE_CAMS], dtype=np.int64)
    require_shared_identity(root, test, query, visible)
    rows = Rows(test, visible.tolist())
    samplings: dict[str, Callable[[Sequence[int], int, int], list[Pick]]] = {
        "seeded": partial(seeded_gallery, rows.counts)
    }
    if rows.counts == official_counts():
        samplings["official"] = official_gallery
    modes = {mode: cams for mode, cams in _MODES.items() if any(c in cams for _, c in rows.counts)}
    return {
        f"{mode}-{shot}-{sampling}": Protocol(
            name=f"SYSU-MM01 {mode}-search {shot}-shot, {sampling} gallery",
            trials=tuple(
                Trial(query, rows.of(draw(cams, trial, shots))) for trial in range(TRIALS)
            ),
            exclusion=SAME_ROOM,
            unique_identities=True,
        )
        for (mode, cams), (shot, shots), (sampling, draw) in product(
            modes.items(), _SHOTS.items(), samplings.items()
        )
    }


def _absent_identities(root: Path, benchmark: Benchmark) -> Iterator[str]:
    """Listed identities without any image."""
    seen = {record.pid for record in (*benchmark.train, *benchmark.test)}
    for part in ("train", "val", "test"):
        path = root / "exp" / f"{part}_id.txt"
        if absent := sorted(read_ids(path) - seen):
            yield f"{path}: no image in any camera of {shorten([str(pid) for pid in absent])}"


def _short_identities(root: Path, camera: str) -> str:
    """Which identities of a camera have fewer images than published, as the end of a sentence."""
    found = {pid: len(image_tree(path)) for pid, path in identity_folders(root / camera)}
    short = [
        f"{pid} ({found.get(pid, 0)} of {n})"
        for (pid, cam), n in published_counts().items()
        if f"cam{cam}" == camera and found.get(pid, 0) < n
    ]
    return f" (identities {shorten(short)})" if short else ""


DATASET = DataSet(
    load,
    marks=("exp", "cam1", "cam3"),
    facts=Facts(
        folders={
            "cam1": 6289,
            "cam2": 7528,
            "cam3": 9812,
            "cam4": 8030,
            "cam5": 8224,
            "cam6": 5980,
        },
        train_images=(22258, 11909),
        test_images=(6775, 3803),
        train_ids=395,
        test_ids=96,
    ),
    lacking=_short_identities,
    problems=_absent_identities,
)
