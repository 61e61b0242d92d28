"""Which data sets there are, how to tell them apart, and the one way to open them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from visir.core.types import Benchmark, InputError
from visir.data import crops, folder, llcm, regdb, sysu

SYNTHETIC = "visir-synth.json"
"""The file `visir synth` leaves in the root of what it made."""


def _one_split(load: Callable[[Path], Benchmark]) -> Callable[[Path, int], Benchmark]:
    def load_split(root: Path, split: int) -> Benchmark:
        if split != 1:
            raise InputError(f"split {split}: {root} has one split only; leave the option out")
        return load(root)

    return load_split


DATASETS: dict[str, Callable[[Path, int], Benchmark]] = {
    "sysu": _one_split(sysu.load),
    "regdb": regdb.load,
    "llcm": _one_split(llcm.load),
    "folder": _one_split(folder.load),
    "crops": _one_split(crops.load),
}
"""Layout name -> `load(root, split)`; "crops" has no mark and is never found out."""

_MARKS = {
    "sysu": ("exp", "cam1", "cam3"),
    "regdb": ("idx/train_visible_1.txt", "idx/train_thermal_1.txt", "Thermal/1"),
    "llcm": ("idx/train_vis.txt", "idx/train_nir.txt", "test_vis/cam1", "test_nir/cam1"),
    "folder": tuple(name for names in folder.FOLDER_NAMES.values() for name in names),
}


def open_benchmark(root: Path, layout: str | None = None, split: int = 1) -> Benchmark:
    """Read the data set in `root`.

    Args:
        root: its folder.
        layout: one of `DATASETS`; found out from what is in the folder when None.
        split: which of RegDB's ten fixed splits, from 1.

    Raises:
        InputError: the folder cannot be read as that layout; the message says what to mend.
    """
    root = resolve(root)
    benchmark = DATASETS[layout_of(root, layout)](root, split)
    if (root / SYNTHETIC).is_file():
        return replace(benchmark, name=f"synthetic {benchmark.name}")
    return benchmark


def open_own(root: Path, layout: str | None, dataset: str | None, split: str | None) -> Benchmark:
    """Read a data set at the split a network was trained on, where it was trained on this one.

    Args:
        root: its folder.
        layout: as for `open_benchmark`.
        dataset: name of what the network was trained on; None where unknown.
        split: of that; None where it has only one.
    """
    benchmark = open_benchmark(root, layout)
    if dataset == benchmark.name and split not in (None, benchmark.split):
        return open_benchmark(root, layout, int(split))
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
    """`layout` if it is known, what `detect` says if it is None.

    Raises:
        InputError: there is no such layout, or none fits.
    """
    if layout is None:
        return detect(root)
    if layout not in DATASETS:
        raise InputError(f"layout {layout!r}: there is none of that name; {', '.join(DATASETS)}")
    return layout


def detect(root: Path) -> str:
    """Name the layout of a folder by what is in it.

    Raises:
        InputError: nothing in it is known; the message lists what was looked for.
    """
    found = _fitting(root)
    if found is not None:
        return found
    below = [path for path in sorted(root.iterdir()) if path.is_dir() and _fitting(path)]
    if len(below) == 1:
        raise InputError(f"{root}: the data set lies one folder deeper; name {below[0]}")
    looked_for = "; ".join(f"{name}: {', '.join(marks)}" for name, marks in _MARKS.items())
    raise InputError(
        f"{root}: no known data set; name its folder or arrange it like one of these "
        f"(layout: a file or folder that marks it) {looked_for}"
    )


def fitting_layout(root: Path) -> str | None:
    """The layout whose marks lie in a folder, None where there is none.

    Raises:
        InputError: there is no such folder.
    """
    return _fitting(resolve(root))


def _fitting(root: Path) -> str | None:
    names = {path.name.lower() for path in root.iterdir()}
    for layout, marks in _MARKS.items():
        if layout == "folder" and names.intersection(marks):
            return layout
        if any((root / mark).exists() for mark in marks):
            return layout
    return None
