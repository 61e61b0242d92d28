"""A plain folder of crops: `<modality>/<camera>/...` or `<modality>/...`, labels optional.

`labels.csv` (`visir.data.table`), if there is one, says more:

- no column `pid`: every image is for training and unlabelled; there is nothing to score;
- `path,pid`: every image is for training, the labelled ones are also the test;
- `path,pid,split`: rows say so; images without a split are for training, unlabelled without a pid;
- `camera`: instead of the folder's name;
- `track` and `source`: which images of a camera show one person, and which show several people at
  one moment.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from visir.core.types import Benchmark, InputError, Modality, Protocol, Record, Trial
from visir.data.contract import DataSet
from visir.data.protocols import require_shared_identity, two_directions
from visir.data.table import LABELS, Table, read_table
from visir.data.tree import image_tree

FOLDER_NAMES = {
    Modality.VISIBLE: ("visible", "vis", "rgb", "color", "colour"),
    Modality.INFRARED: ("infrared", "ir", "nir", "ni", "ti", "thermal"),
}


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
    table = read_table(root, [path for paths in images.values() for path in paths])
    names = {
        path: table.of(path).camera or _camera_name(path.relative_to(root), modality)
        for modality, paths in images.items()
        for path in paths
    }
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())), start=1)}
    records = []
    for modality, paths in images.items():
        for path in paths:
            known = table.of(path)
            record = Record(path, known.pid, numbers[names[path]], modality)
            records.append(record._replace(track=known.track, frame=known.frame))
    records.sort(key=lambda record: record.path)
    test = tuple(record for record in records if _is_test(table, record))
    return Benchmark(
        name=root.name,
        root=root,
        train=tuple(r for r in records if table.of(r.path).split in (None, "train")),
        test=test,
        protocols=_protocols(root, test, table),
        cameras={number: name for name, number in numbers.items()},
    )


def _is_test(table: Table, record: Record) -> bool:
    if "split" in table.columns:
        return table.of(record.path).split not in (None, "train")
    return record.pid is not None


def _protocols(root: Path, test: tuple[Record, ...], table: Table) -> dict[str, Protocol]:
    """Both directions; of rows with the split query or gallery only these, where there are both.

    Raises:
        InputError: no identity can be found, or no query is left in either direction.
    """
    whole = two_directions(root / LABELS, test, root.name, "full gallery")
    splits = [table.of(record.path).split for record in test]
    if not {"query", "gallery"}.intersection(splits):
        return whole
    query = np.array([split != "gallery" for split in splits], bool)
    gallery = np.array([split != "query" for split in splits], bool)
    found = {}
    for key, protocol in whole.items():
        ((rows, others),) = protocol.trials
        trial = Trial(rows[query[rows]], others[gallery[others]])
        if len(trial.query) and len(trial.gallery):
            require_shared_identity(root / LABELS, test, *trial)
            name = protocol.name.replace("full gallery", "query and gallery of labels.csv")
            found[key] = replace(protocol, name=name, trials=(trial,))
    if not found:
        raise InputError(
            f"{root / LABELS}: column split has no query whose gallery is of the other modality; "
            "mark visible images as query and infrared ones as gallery, or the reverse"
        )
    return found


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


def _has_modality_folder(root: Path) -> bool:
    names = {path.name.lower() for path in root.iterdir()}
    return bool(names.intersection(DATASET.marks))


DATASET = DataSet(
    load,
    marks=tuple(name for names in FOLDER_NAMES.values() for name in names),
    recognises=_has_modality_folder,
)
