"""Export a raw data set as the Market-1501 style tree other people's training code reads.

The names and folders are those of the public ADCA preparation scripts, with every listing sorted:
`ir_modify/` and `rgb_modify/`, each with `bounding_box_train/`, `query/`, `bounding_box_test/`.
visir itself reads the raw folders and needs no such tree.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

from visir.core.progress import bar
from visir.core.run import sweep
from visir.core.types import InputError
from visir.data import regdb, sysu
from visir.data.index_files import read_list
from visir.data.market import GALLERY, QUERY, TOPS, TRAIN
from visir.data.registry import resolve

_QUERIES = 4
"""As many images of each test identity become queries, the first ones in order."""


class _Copy(NamedTuple):
    """One file to copy, and its place below the output folder."""

    source: Path
    target: Path


def prepare(layout: str, data: Path, out: Path, *, progress: bool = True) -> None:
    """Copy the raw data set in `data` into a Market-1501 style tree in `out`.

    Every file appears under its name only when it is whole. A file already there in full size is
    skipped, so an interrupted copy is completed by running it again. Arguments are those
    of `visir.commands.prepare.prepare`; `progress` shows a progress bar.

    Raises:
        InputError: the layout is another one, the raw data set cannot be read, or the disk is
            full (what was copied until then stays, whole).
    """
    if layout not in _PLANS:
        raise InputError(f"layout {layout!r}: only {' and '.join(_PLANS)} can be prepared")
    sources: dict[Path, Path] = {}
    for source, target in _PLANS[layout](resolve(data)):
        if target in sources:
            raise InputError(
                f"{source}: {sources[target]} would take the same name, {target}; rename one"
            )
        sources[target] = source
    out = out.expanduser()
    for top in TOPS.values():
        sweep(out / top)
    for target, source in bar(sources.items(), "copying", unit="files", show=progress):
        _copy(source, out / target)
    os.sync()


def _plan_sysu(raw: Path) -> Iterator[_Copy]:
    benchmark = sysu.load(raw)
    for modality, top in TOPS.items():
        train = [record for record in benchmark.train if record.modality is modality]
        test = [record for record in benchmark.test if record.modality is modality]
        query = _first_of_each([record.pid for record in test])
        parts = {
            TRAIN: train,
            QUERY: [test[row] for row in query],
            GALLERY: [test[row] for row in sorted({*range(len(test))} - {*query})],
        }
        for part, records in parts.items():
            for path, pid, cam, *_ in records:
                yield _Copy(path, Path(top, part, f"{pid:04d}_c{cam}_{path.name}"))


def _plan_regdb(raw: Path) -> Iterator[_Copy]:
    for (modality, top), split in product(TOPS.items(), range(1, regdb.SPLITS + 1)):
        train, test = (
            read_list(raw, regdb.list_path(raw, part, modality, split))
            for part in ("train", "test")
        )
        parts = {
            TRAIN: train,
            QUERY: [test[row] for row in _first_of_each([label for _, label in test])],
            GALLERY: test,
        }
        for part, images in parts.items():
            for path, label in images:
                yield _Copy(path, Path(top, str(split), part, f"{label}_c1_{path.name}"))


_PLANS: dict[str, Callable[[Path], Iterator[_Copy]]] = {"sysu": _plan_sysu, "regdb": _plan_regdb}


def _first_of_each(pids: Iterable[int | None]) -> list[int]:
    """Row numbers of the first `_QUERIES` images of each identity, ascending."""
    seen: Counter[int | None] = Counter()
    rows = []
    for row, pid in enumerate(pids):
        seen[pid] += 1
        if seen[pid] <= _QUERIES:
            rows.append(row)
    return rows


def _copy(source: Path, target: Path) -> None:
    """Copy one file, whole or not at all.

    Unlike `core.run.atomic_write` it does not wait for the disk file by file (there are tens of
    thousands); after a power cut a file of the wrong size is copied again.
    """
    temporary = target.with_name(f".{target.name}.part")
    try:
        size = source.stat().st_size
        if target.exists() and target.stat().st_size == size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, temporary)
        if temporary.stat().st_size != size:
            raise OSError("the copy came out shorter or longer than the file")
        temporary.replace(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise InputError(
            f"{target}: copying {source} failed ({error.strerror or error}); all files there are "
            "whole, free space or repair the disk, and run the same command again"
        ) from error
