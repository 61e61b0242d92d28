"""Crops of people in folders of any nesting, all of one modality: for pre-training."""

from __future__ import annotations

from pathlib import Path

from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.contract import DataSet
from visir.data.table import read_table
from visir.data.tree import image_tree


def load(root: Path) -> Benchmark:
    """Read every image below a folder as visible and unlabelled.

    The cameras are those of `labels.csv`; images without one there are of a camera named after the
    folder.

    Raises:
        InputError: there is no image, or `labels.csv` cannot be used.
    """
    paths = image_tree(root)
    if not paths:
        raise InputError(f"{root}: no image in it or below; name the folder that holds the crops")
    table = read_table(root, paths)
    names = [table.of(path).camera or root.name for path in paths]
    numbers = {name: number for number, name in enumerate(sorted({*names}), start=1)}
    train = tuple(
        Record(path, None, numbers[name], Modality.VISIBLE)
        for path, name in zip(paths, names, strict=True)
    )
    cameras = {number: name for name, number in numbers.items()}
    return Benchmark(name=root.name, root=root, train=train, test=(), cameras=cameras)


DATASET = DataSet(load)
"""Has no marks, so it is never detected."""
