"""RGBNT201: `{train_171,test}/{RGB,NI,TI}/<identity>_cam<k>_*.jpg`, three sensors in four places.

Each person is seen at the same moment in visible, near-infrared (NI) and thermal (TI) light (Zheng
et al., AAAI 2021). NI and TI are both infrared here. A gallery image of the query's own identity in
the query's own place is ignored: it shows the same moment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from visir.core.types import Benchmark, Exclusion, InputError, Modality, Record
from visir.data.contract import DataSet
from visir.data.index_files import read_list
from visir.data.protocols import two_directions
from visir.data.tree import image_files

SENSORS = {"rgb": Modality.VISIBLE, "ni": Modality.INFRARED, "ti": Modality.INFRARED}
PARTS = {"train": ("train_171", "train"), "test": ("test",)}
_FIRST = {"rgb": 0, "ni": 100, "ti": 200}  # added to the number of a place: no two sensors are one
_NAME = re.compile(r"(\d+)_cam(\d+)_")


class _Shot(NamedTuple):
    """An image of one sensor; label: of a list, instead of the identity in the name."""

    path: Path
    sensor: str
    label: int | None = None


def load(root: Path) -> Benchmark:
    """Read RGBNT201, one of its parts, or its images with lists in `idx/`.

    The lists are `{train,test}_{rgb,ni,ti}.txt`, lines of `relative/path label`. Without lists and
    parts, every image is for training and for the test.

    Raises:
        InputError: a folder or list is missing, a file name says no identity and camera, or no test
            identity was seen in both modalities.
    """
    parts = {part: tuple(sorted(map(_record, _shots(root, part)))) for part in PARTS}
    test = parts["test"]
    cams = {record.cam for records in parts.values() for record in records}
    return Benchmark(
        name="RGBNT201",
        root=root,
        train=parts["train"],
        test=test,
        protocols=two_directions(
            root, test, "RGBNT201", "full gallery", exclusion=_same_place(cams)
        ),
        cameras={cam: _camera_name(cam) for cam in sorted(cams)},
    )


def recognises(root: Path) -> bool:
    """Whether a folder or one of its parts holds RGB beside NI or TI, with the form of names."""
    places = [root, *(root / name for names in PARTS.values() for name in names)]
    return any(_is_tree(place) for place in places)


def _is_tree(place: Path) -> bool:
    found = _sensors(place)
    if "rgb" not in found or len(found) < 2:
        return False
    first = next((path for path in image_files(found["rgb"])), None)
    return first is not None and _NAME.match(first.name) is not None


def _sensors(place: Path) -> dict[str, Path]:
    """The folders of the sensors, in any case of their names."""
    folders = sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else ()
    return {path.name.lower(): path for path in folders if path.name.lower() in SENSORS}


def _shots(root: Path, part: str) -> Iterator[_Shot]:
    direct = _sensors(root)
    if direct and (root / "idx").is_dir():
        for sensor in direct:
            listed = read_list(root, root / "idx" / f"{part}_{sensor}.txt")
            yield from (_Shot(path, sensor, label) for path, label in listed)
        return
    places = (root / name for name in PARTS[part])
    place = root if direct else next((one for one in places if one.is_dir()), None)
    found = {} if place is None else _sensors(place)
    if "rgb" not in found or len(found) < 2:
        raise InputError(
            f"{place or root / PARTS[part][0]}: no images of both modalities; copy the folders "
            "RGB, NI and TI of the data set there"
        )
    for sensor, folder in found.items():
        yield from (_Shot(path, sensor) for path in image_files(folder))


def _record(shot: _Shot) -> Record:
    match = _NAME.match(shot.path.name)
    if match is None:
        raise InputError(
            f"{shot.path}: its name says no identity and camera; restore it, such as "
            "000258_cam1_0_00.jpg"
        )
    pid = int(match[1]) if shot.label is None else shot.label
    cam = _FIRST[shot.sensor] + int(match[2])
    return Record(shot.path, pid, cam, SENSORS[shot.sensor])


def _camera_name(cam: int) -> str:
    sensor = next(name for name, first in reversed(_FIRST.items()) if cam > first)
    place = f"cam{cam - _FIRST[sensor]}"
    return place if sensor == "rgb" else f"{place}-{sensor}"


def _same_place(cams: set[int]) -> Exclusion:
    pairs = frozenset((a, b) for a in cams for b in cams if (a - b) % _FIRST["ni"] == 0)
    return Exclusion(pairs, same_identity_only=True)


DATASET = DataSet(
    load,
    marks=("train_171", "test/NI", "test/TI", "RGB beside NI or TI"),
    recognises=recognises,
)
