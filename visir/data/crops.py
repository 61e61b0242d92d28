"""Crops of people in whatever folders they lie, all of one kind of camera: for pre-training."""

from __future__ import annotations

from pathlib import Path

from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.images import image_tree


def load(root: Path) -> Benchmark:
    """Read every image below a folder as a visible one of a single camera; nobody is labelled.

    Raises:
        InputError: there is no image.
    """
    paths = image_tree(root)
    if not paths:
        raise InputError(f"{root}: no image in it or below; name the folder that holds the crops")
    train = tuple(Record(path, None, 1, Modality.VISIBLE) for path in paths)
    return Benchmark(name=root.name, root=root, train=train, test=(), cameras={1: root.name})
