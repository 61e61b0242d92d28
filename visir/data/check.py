"""What a data set's folder holds, what is missing from it, and which files are broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from visir.core.run import quiet
from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data import folder, regdb
from visir.data.images import image_tree, read_image
from visir.data.index_files import identity_folders, read_ids
from visir.data.protocols import published_counts
from visir.data.registry import DATASETS, SYNTHETIC, layout_of, resolve

TINY = 16
"""A side shorter than this many pixels is reported."""
_SHOWN = 20
"""As many files of one kind of problem are listed one by one."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The layout found, the summary to print, and one sentence for each problem."""

    layout: str
    text: str
    problems: list[str]


class _Facts(NamedTuple):
    """What the published data set holds; images are (visible, infrared)."""

    folders: Mapping[str, int]
    train_images: tuple[int, int]
    test_images: tuple[int, int]
    train_ids: int
    test_ids: int


_FACTS = {
    "sysu": _Facts(
        {"cam1": 6289, "cam2": 7528, "cam3": 9812, "cam4": 8030, "cam5": 8224, "cam6": 5980},
        (22258, 11909),
        (6775, 3803),
        395,
        96,
    ),
    "regdb": _Facts({"Visible": 4120, "Thermal": 4120}, (2060, 2060), (2060, 2060), 206, 206),
    "llcm": _Facts(
        {"vis": 16946, "nir": 13975, "test_vis": 8680, "test_nir": 7166},
        (16946, 13975),
        (8680, 7166),
        713,
        351,
    ),
}


def check(root: Path, layout: str | None = None, progress: bool = True) -> CheckReport:
    """Count, compare with what is known of the data set, and decode every image.

    The published data sets are held against their published counts, what `visir synth` made
    against the counts it wrote down, a plain folder against nothing.

    Args:
        root: the data set's folder.
        layout: one of `DATASETS`; found out when None.
        progress: show a progress bar on stderr.

    Raises:
        InputError: there is no such folder, or its layout is not known. Anything wrong inside
            is a problem in the report, not an error.
    """
    root = resolve(root)
    layout = layout_of(root, layout)
    benchmarks, problems = _open(root, layout)
    images = _images(root, layout)
    problems += _count_problems(root, layout, benchmarks, images)
    problems += _file_problems(
        root, [path for paths in images.values() for path in paths], progress
    )
    lines = [f"{root}", f"layout {layout}" + (", synthetic" if _marker(root) else ""), ""]
    lines += [f"{name}: {len(paths):,} images" for name, paths in images.items()]
    lines += _table(benchmarks[0]) if benchmarks else []
    lines += ["", *_verdict(problems)]
    return CheckReport(layout, "\n".join(lines), problems)


def missing(root: Path, layout: str | None = None) -> list[str]:
    """The part of `check` that opens no image: what is absent or too much, a sentence each.

    Raises:
        InputError: as `check`.
    """
    root = resolve(root)
    layout = layout_of(root, layout)
    benchmarks, problems = _open(root, layout)
    return [*problems, *_count_problems(root, layout, benchmarks, _images(root, layout))]


def _open(root: Path, layout: str) -> tuple[list[Benchmark], list[str]]:
    benchmarks, problems = [], []
    for split in range(1, regdb.SPLITS + 1) if layout == "regdb" else [1]:
        try:
            benchmarks.append(DATASETS[layout](root, split))
        except InputError as error:
            problems.append(str(error))
    return benchmarks, problems


def _images(root: Path, layout: str) -> dict[str, list[Path]]:
    if layout in _FACTS:
        return {name: image_tree(root / name) for name in _FACTS[layout].folders}
    try:
        found = folder.modality_folders(root)
    except InputError:
        return {}
    return {path.name: image_tree(path) for path in found.values()}


def _marker(root: Path) -> dict[str, object]:
    try:
        value = json.loads((root / SYNTHETIC).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _count_problems(
    root: Path, layout: str, benchmarks: Sequence[Benchmark], images: Mapping[str, list[Path]]
) -> Iterator[str]:
    marker = _marker(root)
    counts = marker.get("counts")
    if isinstance(counts, dict):
        for name, expected in counts.items():
            yield from _compare(name, len(image_tree(root / name)), expected)
    elif not marker and layout in _FACTS:
        facts = _FACTS[layout]
        for name, expected in facts.folders.items():
            yield from _compare(name, len(images[name]), expected, _short_cells(root, layout, name))
        for benchmark in benchmarks:
            yield from _compare_parts(benchmark, facts)
    for benchmark in benchmarks:
        if not benchmark.train:
            yield f"{_where(benchmark)}no training images"
    if layout == "sysu" and benchmarks:
        yield from _absent_identities(root, benchmarks[0])


def _compare(what: str, found: int, expected: int, detail: str = "") -> Iterator[str]:
    if found < expected:
        yield f"{what}: {found:,} of {expected:,}, {expected - found:,} missing{detail}"
    elif found > expected:
        yield f"{what}: {found:,}, {found - expected:,} more than the expected {expected:,}"


def _compare_parts(benchmark: Benchmark, facts: _Facts) -> Iterator[str]:
    for part, records, images, identities in (
        ("training", benchmark.train, facts.train_images, facts.train_ids),
        ("test", benchmark.test, facts.test_images, facts.test_ids),
    ):
        where = f"{_where(benchmark)}{part}"
        for modality, expected in zip(Modality, images, strict=True):
            found = sum(record.modality is modality for record in records)
            yield from _compare(f"{where} {modality.value} images", found, expected)
        yield from _compare(f"{where} identities", len(_pids(records)), identities)


def _short_cells(root: Path, layout: str, camera: str) -> str:
    """Which identities of a SYSU-MM01 camera lack images, as the end of a sentence."""
    if layout != "sysu":
        return ""
    found = {pid: len(image_tree(path)) for pid, path in identity_folders(root / camera)}
    short = [
        f"{pid} ({found.get(pid, 0)} of {n})"
        for (pid, cam), n in published_counts().items()
        if f"cam{cam}" == camera and found.get(pid, 0) < n
    ]
    return f" (identities {_shorten(short)})" if short else ""


def _absent_identities(root: Path, benchmark: Benchmark) -> Iterator[str]:
    seen = _pids(benchmark.train) | _pids(benchmark.test)
    for part in ("train", "val", "test"):
        path = root / "exp" / f"{part}_id.txt"
        if absent := sorted(read_ids(path) - seen):
            yield f"{path}: no image in any camera of {_shorten([str(pid) for pid in absent])}"


def _file_problems(root: Path, paths: Sequence[Path], progress: bool) -> Iterator[str]:
    with ThreadPoolExecutor() as pool:
        looks = list(
            tqdm(
                pool.map(_look, paths), "reading", len(paths), unit="image", disable=quiet(progress)
            )
        )
    yield from _capped([look.problem for look in looks if look.problem], "unreadable images")
    same: dict[str, list[str]] = {}
    for path, look in zip(paths, looks, strict=True):
        if not look.problem:
            same.setdefault(look.digest, []).append(str(path.relative_to(root)))
    copies = [f"{' and '.join(group)}: the same file" for group in same.values() if len(group) > 1]
    yield from _capped(copies, "duplicated images")
    tiny = [
        f"{path.relative_to(root)}: only {look.width} x {look.height} pixels (width x height)"
        for path, look in zip(paths, looks, strict=True)
        if not look.problem and min(look.width, look.height) < TINY
    ]
    yield from _capped(tiny, "tiny images")


class _Look(NamedTuple):
    """One image decoded: its sides in pixels and the hash of its bytes, or what is wrong."""

    width: int
    height: int
    digest: str
    problem: str


def _look(path: Path) -> _Look:
    try:
        image = read_image(path)
    except InputError as error:
        return _Look(0, 0, "", str(error))
    return _Look(*image.size, hashlib.sha256(path.read_bytes()).hexdigest(), "")


def _capped(problems: list[str], kind: str) -> list[str]:
    if len(problems) <= _SHOWN:
        return problems
    return [*problems[:_SHOWN], f"{len(problems) - _SHOWN:,} more {kind}"]


def _shorten(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN:,} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more


def _table(benchmark: Benchmark) -> list[str]:
    """Images and identities per camera and modality, in training and in test."""
    lines = ["", f"{'camera':<16}{'modality':<10}{'train':>9}{'ids':>7}{'test':>9}{'ids':>7}"]
    kinds = {(r.cam, r.modality) for r in (*benchmark.train, *benchmark.test)}
    for cam, modality in sorted(kinds, key=lambda kind: (kind[0], kind[1].value)):
        lines.append(
            f"{benchmark.cameras[cam]:<16}{modality.value:<10}"
            + "".join(
                _cell([r for r in part if (r.cam, r.modality) == (cam, modality)])
                for part in (benchmark.train, benchmark.test)
            )
        )
    lines.append(f"{'all':<26}{_cell(benchmark.train)}{_cell(benchmark.test)}")
    lines += ["", "protocols: " + (", ".join(benchmark.protocols) or "none (no labelled test)")]
    return lines


def _cell(records: Sequence[Record]) -> str:
    return f"{len(records):>9,}{len(_pids(records)) or '-':>7}"


def _pids(records: Sequence[Record]) -> set[int]:
    return {record.pid for record in records if record.pid is not None}


def _where(benchmark: Benchmark) -> str:
    return f"split {benchmark.split}: " if benchmark.split else ""


def _verdict(problems: Sequence[str]) -> list[str]:
    if not problems:
        return ["No problems found."]
    count = f"{len(problems)} problems:" if len(problems) > 1 else "1 problem:"
    return [count, *(f"{number}. {text}" for number, text in enumerate(problems, start=1))]
