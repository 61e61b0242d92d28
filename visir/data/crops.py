"""Crops of people in folders of any nesting, all of one modality: for pre-training."""

from __future__ import annotations

from pathlib import Path

from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.contract import DataSet
from visir.data.images import image_tree


def load(root: Path) -> Benchmark:
    """Read every image below a folder as a visible, unlabelled one of a single camera.

    Raises:
        InputError: there is no image.
    """
    paths = image_tree(root)
    if not paths:
        raise InputError(f"{root}: no image in it or below; name the folder that holds the crops")
    train = tuple(Record(path, None, 1, Modality.VISIBLE) for path in paths)
    return Benchmark(name=root.name, root=root, train=train, test=(), cameras={1: root.name})


DATASET = DataSet(load)
"""Has no marks, so it is never detected."""
