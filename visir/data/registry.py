"""The data sets by layout name, their detection, and the one way to open them.

A data set outside this project is named by its address, `package.module:name`, or by the name under
which its package announces it in the entry point group `visir.datasets`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from visir.core.registry import Registry
from visir.core.types import Benchmark, InputError
from visir.data.contract import DataSet, require_data_set
from visir.data.ranges import NONE, Ranges, benchmark_with_spans

SYNTHETIC = "visir-synth.json"
"""The file `visir synth` leaves in the root of what it made."""


DATASETS: Registry[DataSet] = Registry(
    kind="layout",
    group="visir.datasets",
    entries={
        "sysu": "visir.data.sysu:DATASET",
        "regdb": "visir.data.regdb:DATASET",
        "llcm": "visir.data.llcm:DATASET",
        "rgbnt": "visir.data.rgbnt:DATASET",
        "market": "visir.data.market:DATASET",
        "folder": "visir.data.folder:DATASET",
        "crops": "visir.data.crops:DATASET",
    },
    check=require_data_set,
)
"""Layout name -> data set. Layouts are detected in this order."""


def open_benchmark(
    root: Path, layout: str | None = None, split: int = 1, known: Ranges = NONE
) -> Benchmark:
    """Read the data set in `root`.

    Args:
        root: its folder.
        layout: a name of `DATASETS` or an address; detected if None.
        split: which of the fixed splits, from 1 (RegDB has ten).
        known: ranges of cameras that a network was trained with, see `visir.data.ranges`.

    Raises:
        InputError: the folder cannot be read as that layout; the message says what to fix.
    """
    root = resolve(root)
    benchmark = benchmark_with_spans(open_layout(root, layout, split), known)
    if (root / SYNTHETIC).is_file():
        return replace(benchmark, name=f"synthetic {benchmark.name}")
    return benchmark


def open_layout(root: Path, layout: str | None = None, split: int = 1) -> Benchmark:
    """As `open_benchmark`, without the ranges of cameras and the word synthetic."""
    root = resolve(root)
    return DATASETS.find(layout_of(root, layout)).open(root, split)


def open_own(
    root: Path,
    layout: str | None,
    dataset: str | None,
    split: str | None,
    known: Ranges = NONE,
) -> Benchmark:
    """Read a data set, at the split a network was trained on if it was trained on this data set.

    Args:
        root: its folder.
        layout: as for `open_benchmark`.
        dataset: name of the data set the network was trained on; None if unknown.
        split: of that data set; None if it has only one.
        known: as for `open_benchmark`.
    """
    benchmark = open_benchmark(root, layout, known=known)
    if dataset == benchmark.name and split not in (None, benchmark.split):
        return open_benchmark(root, layout, int(split), known)
    return benchmark


def resolve(root: Path) -> Path:
    """The absolute path of a data set's folder.

    Raises:
        InputError: there is no such folder.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        what = "is a file; unpack it" if root.exists() else "does not exist; check the path"
        raise InputError(f"{root}: {what} and name the folder that holds the data set")
    return root


def layout_of(root: Path, layout: str | None) -> str:
    """`layout` if it is known, the detected one if it is None.

    Raises:
        InputError: there is no such layout, or none is detected.
    """
    if layout is None:
        return detect(root)
    if layout not in DATASETS and ":" not in layout:
        raise InputError(
            f"layout {layout!r} is unknown; known are {', '.join(DATASETS.names())}; one from "
            "another package is named package.module:name"
        )
    return layout


def detect(root: Path) -> str:
    """The layout of a folder, by what is in it.

    Raises:
        InputError: no layout is recognised; the message lists the marks of each.
    """
    found = _fitting(root)
    if found is not None:
        return found
    kind = _modality_of(root)
    if kind is not None:
        raise InputError(
            f"{root}: this is the folder of the {kind} images alone; name its parent, {root.parent}"
        )
    below = [path for path in sorted(root.iterdir()) if path.is_dir() and _fitting(path)]
    if len(below) == 1:
        raise InputError(f"{root}: the data set is one folder deeper; name {below[0]}")
    marks = "; ".join(
        f"{name}: {', '.join(DATASETS[name].marks)}"
        for name in DATASETS.names()
        if DATASETS[name].marks
    )
    raise InputError(
        f"{root}: no known data set; name its folder, or give it one of these layouts "
        f"(each with files or folders that mark it): {marks}"
    )


def _modality_of(root: Path) -> str | None:
    """The modality that a folder is named after, in a folder of crops."""
    from visir.data.folder import FOLDER_NAMES  # it is a data set of the registry

    named = (kind.value for kind, names in FOLDER_NAMES.items() if root.name.lower() in names)
    return next(named, None) if _fitting(root.parent) in ("folder", "rgbnt") else None


def fitting_layout(root: Path) -> str | None:
    """The layout of a folder, None if none is recognised.

    Raises:
        InputError: there is no such folder.
    """
    return _fitting(resolve(root))


def _fitting(root: Path) -> str | None:
    return next((name for name in DATASETS.names() if DATASETS[name].fits(root)), None)
