"""LLCM: training lists `idx/train_{vis,nir}.txt`, test folders `test_{vis,nir}/cam<k>/<identity>/`.

Nine visible cameras, eight near-infrared ones (there is no near-infrared camera 3). A gallery
image of the query's own identity in the query's own camera is ignored (Zhang and Wang, CVPR 2023,
evaluation protocol); the gallery is one image per identity and camera, drawn ten times.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

from visir.core.types import Benchmark, Exclusion, InputError, IntArray, Modality, Record
from visir.data.contract import DataSet, Facts
from visir.data.index_files import identity_folders, read_ids, read_list
from visir.data.protocols import TRIALS, Rows, seeded_gallery, two_directions
from visir.data.tree import image_files

CAMS = tuple(range(1, 10))
SHORT = {Modality.VISIBLE: "vis", Modality.INFRARED: "nir"}
SAME_CAMERA = Exclusion(cam_pairs=frozenset((cam, cam) for cam in CAMS), same_identity_only=True)
_CAMERA = re.compile(r"_c(\d+)_")


def load(root: Path) -> Benchmark:
    """Read a raw LLCM folder (713 training identities, 351 test identities).

    Raises:
        InputError: a list is missing or malformed, a listed image is missing or its name holds no
            camera (`<identity>_c<camera>_...`), or no test identity was seen in both modalities.
    """
    train = tuple(sorted(record for modality in Modality for record in _train(root, modality)))
    ids = read_ids(root / "idx" / "test_id.txt")
    test = tuple(sorted(record for modality in Modality for record in _test(root, modality, ids)))
    return Benchmark(
        name="LLCM",
        root=root,
        train=train,
        test=test,
        protocols=two_directions(
            root,
            test,
            "LLCM",
            "single-shot, seeded gallery",
            draw=partial(_draws, test),
            exclusion=SAME_CAMERA,
            unique_identities=True,
        ),
        cameras={cam: f"cam{cam}" for cam in CAMS},
    )


def _train(root: Path, modality: Modality) -> list[Record]:
    path = root / "idx" / f"train_{SHORT[modality]}.txt"
    return [
        Record(image, label, _camera_in_name(image), modality)
        for image, label in read_list(root, path)
    ]


def _camera_in_name(image: Path) -> int:
    match = _CAMERA.search(image.name)
    if match is None or int(match[1]) not in CAMS:
        raise InputError(
            f"{image}: no camera from 1 to {CAMS[-1]} in the file name; restore its name, such as "
            "0001_c01_s185535_f7010_nir.jpg"
        )
    return int(match[1])


def _test(root: Path, modality: Modality, ids: set[int]) -> list[Record]:
    return [
        Record(path, pid, cam, modality)
        for cam in CAMS
        for pid, folder in identity_folders(root / f"test_{SHORT[modality]}" / f"cam{cam}")
        if pid in ids
        for path in image_files(folder)
    ]


def _draws(test: tuple[Record, ...], gallery: IntArray) -> list[IntArray]:
    rows = Rows(test, gallery.tolist())
    return [rows.of(seeded_gallery(rows.counts, CAMS, trial, shots=1)) for trial in range(TRIALS)]


DATASET = DataSet(
    load,
    marks=("idx/train_vis.txt", "idx/train_nir.txt", "test_vis/cam1", "test_nir/cam1"),
    facts=Facts(
        folders={"vis": 16946, "nir": 13975, "test_vis": 8680, "test_nir": 7166},
        train_images=(16946, 13975),
        test_images=(8680, 7166),
        train_ids=713,
        test_ids=351,
    ),
)
