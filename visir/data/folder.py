"""A plain folder of crops: `<modality>/<camera>/...` or `<modality>/...`, labels optional.

`labels.csv`, if there is one, has the header `path,pid` or `path,pid,split`:

- no file: every image is for training and unlabelled; there is nothing to score;
- `path,pid`: every image is for training, the labelled ones are also the test;
- `path,pid,split` (train or test): rows say so; images without a row are for training, unlabelled.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.contract import DataSet
from visir.data.images import image_tree
from visir.data.protocols import two_directions

LABELS = "labels.csv"
FOLDER_NAMES = {
    Modality.VISIBLE: ("visible", "vis", "rgb", "color", "colour"),
    Modality.INFRARED: ("infrared", "ir", "nir", "thermal"),
}


class _Label(NamedTuple):
    pid: int
    train: bool
    test: bool


def load(root: Path) -> Benchmark:
    """Read a folder of crops, labelled or not.

    Cameras are numbered from 1 by sorted name over both modalities; a name found in both is one
    camera; images without a camera folder come from one named after their modality.

    Raises:
        InputError: a modality is missing, or `labels.csv` cannot be used.
    """
    images = {modality: image_tree(folder) for modality, folder in modality_folders(root).items()}
    for modality, paths in images.items():
        if not paths:
            raise InputError(f"{root}: no image in the {modality.value} folder; put some there")
    names = {
        path: _camera_name(path.relative_to(root), modality)
        for modality, paths in images.items()
        for path in paths
    }
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())), start=1)}
    labels = _labels(root, set(names))
    records = [
        Record(path, labels[path].pid if path in labels else None, numbers[names[path]], modality)
        for modality, paths in images.items()
        for path in paths
    ]
    records.sort(key=lambda record: record.path)
    test = tuple(r for r in records if r.path in labels and labels[r.path].test)
    return Benchmark(
        name=root.name,
        root=root,
        train=tuple(r for r in records if r.path not in labels or labels[r.path].train),
        test=test,
        protocols=two_directions(root / LABELS, test, root.name, "full gallery"),
        cameras={number: name for name, number in numbers.items()},
    )


def modality_folders(root: Path) -> dict[Modality, Path]:
    """The visible and the infrared folder directly in `root`, whatever the case of their names.

    Raises:
        InputError: one is missing or there are two of one kind.
    """
    found: dict[Modality, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        for modality, names in FOLDER_NAMES.items():
            if folder.name.lower() not in names:
                continue
            if modality in found:
                raise InputError(
                    f"{root}: {found[modality].name} and {folder.name} both hold "
                    f"{modality.value} images; merge them into one folder"
                )
            found[modality] = folder
    for modality, folder in found.items():
        if modality.other not in found:
            raise InputError(
                f"{root}: only {modality.value} images ({folder.name}); put the "
                f"{modality.other.value} ones beside them in a folder named "
                f"{_choice(modality.other)}"
            )
    if not found:
        raise InputError(
            f"{root}: no folder of visible or infrared images; name them "
            f"{_choice(Modality.VISIBLE)}, and {_choice(Modality.INFRARED)}"
        )
    return found


def _choice(modality: Modality) -> str:
    *names, last = FOLDER_NAMES[modality]
    return f"{', '.join(names)} or {last}"


def _camera_name(relative: Path, modality: Modality) -> str:
    return relative.parts[1] if len(relative.parts) > 2 else modality.value


def _labels(root: Path, images: set[Path]) -> dict[Path, _Label]:
    path = root / LABELS
    if not path.exists():
        return {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file, strict=True) if row] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as UTF-8 CSV") from error
    if sorted(header) not in (["path", "pid"], ["path", "pid", "split"]):
        raise InputError(
            f"{path}: the first line is {','.join(header)!r}; write path,pid or path,pid,split"
        )
    labels: dict[Path, _Label] = {}
    for number, row in enumerate(rows, start=1):
        where = f"{path}: row {number}"
        if len(row) != len(header):
            raise InputError(f"{where} has {len(row)} fields, not {len(header)}; correct it")
        name, label = _label(where, dict(zip(header, row, strict=True)))
        image = root / name
        if image not in images:
            raise InputError(
                f"{where} names {name!r}, which is not an image in the visible "
                "or infrared folder; correct the path or remove the row"
            )
        if image in labels:
            raise InputError(f"{where} names {name!r} again; keep one row")
        labels[image] = label
    if not labels:
        raise InputError(f"{path}: no rows; add some, or remove the file for unlabelled images")
    return labels


def _label(where: str, row: dict[str, str]) -> tuple[str, _Label]:
    pid, split = row["pid"].strip(), row.get("split", "train and test").strip()
    if not (pid.isascii() and pid.isdigit() and len(pid) <= 18):  # more digits overflow int64
        raise InputError(
            f"{where} has pid {pid!r}; write a whole number of at most 18 digits, or take the row "
            "out if the identity is unknown"
        )
    if "split" in row and split not in ("train", "test"):
        raise InputError(f"{where} has split {split!r}; write train or test")
    return row["path"].strip(), _Label(int(pid), "train" in split, "test" in split)


def _has_modality_folder(root: Path) -> bool:
    names = {path.name.lower() for path in root.iterdir()}
    return bool(names.intersection(DATASET.marks))


DATASET = DataSet(
    load,
    marks=tuple(name for names in FOLDER_NAMES.values() for name in names),
    recognises=_has_modality_folder,
)
