"""`visir check`: what a data set's folder holds, what is missing, and which files are broken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from tqdm import tqdm

from visir.core.run import quiet
from visir.core.types import Benchmark, InputError, Modality, Record
from visir.data.contract import SHOWN, DataSet, Facts
from visir.data.images import image_tree, read_image
from visir.data.registry import DATASETS, SYNTHETIC, layout_of, resolve

TINY = 16
"""A side shorter than this many pixels is reported."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The layout, the summary to print, and one sentence for each problem."""

    layout: str
    text: str
    problems: list[str]

    @property
    def exit_code(self) -> int:
        """Of the command: 1 if there are problems."""
        return 1 if self.problems else 0

    def __str__(self) -> str:
        return self.text


def check(root: Path, layout: str | None = None, progress: bool = True) -> CheckReport:
    """Count, compare with the published numbers, and decode every image.

    Every split is opened. The public data sets are compared with their published counts, a data set
    made by `visir synth` with the counts it wrote down; for others there is nothing to compare.
    Decoded are the images of all records and all others in the data set's folders.

    Args:
        root: the data set's folder.
        layout: a name of `DATASETS` or an address; detected if None.
        progress: show a progress bar on stderr.

    Raises:
        InputError: there is no such folder, or its layout is not known. Anything wrong inside
            is a problem in the report, not an error.
    """
    root = resolve(root)
    layout = layout_of(root, layout)
    data_set = DATASETS.find(layout)
    benchmarks, problems = _open(root, data_set)
    images = _images(root, data_set, benchmarks)
    problems += _count_problems(root, data_set, benchmarks, images)
    problems += _file_problems(
        root, [path for paths in images.values() for path in paths], progress
    )
    lines = [f"{root}", f"layout {layout}" + (", synthetic" if _marker(root) else ""), ""]
    lines += [f"{name}: {len(paths):,} images" for name, paths in images.items()]
    lines += _table(benchmarks[0]) if benchmarks else []
    lines += ["", *_verdict(problems)]
    return CheckReport(layout, "\n".join(lines), problems)


def missing_in_training(benchmark: Benchmark, layout: str | None = None) -> list[str]:
    """What an opened data set lacks for training, a sentence each; reads no file again.

    The training images and identities of a public data set are compared with the published numbers;
    of a data set made by `visir synth` the images of its folders are counted.

    Args:
        benchmark: what is about to be trained on.
        layout: as for `check`.
    """
    if _marker(benchmark.root):
        return list(_marker_problems(benchmark.root))
    facts = DATASETS.find(layout_of(benchmark.root, layout)).facts
    return [] if facts is None else list(_compare_part(benchmark, facts, "training"))


def _open(root: Path, data_set: DataSet) -> tuple[list[Benchmark], list[str]]:
    benchmarks, problems = [], []
    for split in range(1, (data_set.splits or 1) + 1):
        try:
            benchmarks.append(data_set.open(root, split))
        except InputError as error:
            problems.append(str(error))
    return benchmarks, problems


def _images(
    root: Path, data_set: DataSet, benchmarks: Sequence[Benchmark]
) -> dict[str, list[Path]]:
    """Images to decode by folder: those in the data set's folders, and those of all records."""
    if data_set.facts is not None:
        found = {name: image_tree(root / name) for name in data_set.facts.folders}
    else:
        found = {}
        for path in image_tree(root):
            found.setdefault(_folder_of(root, path), []).append(path)
    known = {path for paths in found.values() for path in paths}
    records = {record.path for one in benchmarks for record in (*one.train, *one.test)}
    for path in sorted(records - known):
        found.setdefault(_folder_of(root, path), []).append(path)
    return found


def _folder_of(root: Path, path: Path) -> str:
    """The folder below the root that holds an image; the image's own folder outside the root."""
    if not path.is_relative_to(root):
        return str(path.parent)
    inside = path.relative_to(root).parts
    return inside[0] if len(inside) > 1 else root.name


def _marker(root: Path) -> dict[str, object]:
    try:
        value = json.loads((root / SYNTHETIC).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _count_problems(
    root: Path,
    data_set: DataSet,
    benchmarks: Sequence[Benchmark],
    images: Mapping[str, list[Path]],
) -> Iterator[str]:
    facts = data_set.facts
    if _marker(root):
        yield from _marker_problems(root)
    elif facts is not None:
        for name, expected in facts.folders.items():
            yield from _compare(name, len(images[name]), expected, data_set.lacking(root, name))
        for benchmark in benchmarks:
            yield from _compare_part(benchmark, facts, "training")
            yield from _compare_part(benchmark, facts, "test")
    for benchmark in benchmarks:
        if not benchmark.train:
            yield f"{_where(benchmark)}no training images"
    if benchmarks:
        yield from data_set.problems(root, benchmarks[0])


def _marker_problems(root: Path) -> Iterator[str]:
    """Compare the images of each folder with the counts that `visir synth` wrote down."""
    counts = _marker(root).get("counts")
    if isinstance(counts, dict):
        for name, expected in counts.items():
            yield from _compare(name, len(image_tree(root / name)), expected)


def _compare(what: str, found: int, expected: int, detail: str = "") -> Iterator[str]:
    if found < expected:
        yield f"{what}: {found:,} of {expected:,}, {expected - found:,} missing{detail}"
    elif found > expected:
        yield f"{what}: {found:,}, {found - expected:,} more than the expected {expected:,}"


def _compare_part(
    benchmark: Benchmark, facts: Facts, part: Literal["training", "test"]
) -> Iterator[str]:
    if part == "training":
        records, images, identities = benchmark.train, facts.train_images, facts.train_ids
    else:
        records, images, identities = benchmark.test, facts.test_images, facts.test_ids
    where = f"{_where(benchmark)}{part}"
    for modality, expected in zip(Modality, images, strict=True):
        found = sum(record.modality is modality for record in records)
        yield from _compare(f"{where} {modality.value} images", found, expected)
    yield from _compare(f"{where} identities", len(_pids(records)), identities)


def _file_problems(root: Path, paths: Sequence[Path], progress: bool) -> Iterator[str]:
    with ThreadPoolExecutor() as pool:
        work = pool.map(_read, paths)
        found = list(tqdm(work, "reading", len(paths), unit="image", disable=quiet(progress)))
    yield from _capped([one.problem for one in found if one.problem], "unreadable images")
    readable = [
        (_short_name(root, path), one)
        for path, one in zip(paths, found, strict=True)
        if not one.problem
    ]
    same: dict[str, list[str]] = {}
    for name, one in readable:
        same.setdefault(one.digest, []).append(name)
    copies = [f"{' and '.join(group)}: the same file" for group in same.values() if len(group) > 1]
    yield from _capped(copies, "duplicated images")
    tiny = [
        f"{name}: only {one.width} x {one.height} pixels (width x height)"
        for name, one in readable
        if min(one.width, one.height) < TINY
    ]
    yield from _capped(tiny, "tiny images")


def _short_name(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


class _Image(NamedTuple):
    """A decoded image: its sides in pixels and the hash of its bytes; or what is wrong with it."""

    width: int
    height: int
    digest: str
    problem: str


def _read(path: Path) -> _Image:
    try:
        image = read_image(path)
    except InputError as error:
        return _Image(0, 0, "", str(error))
    return _Image(*image.size, hashlib.sha256(path.read_bytes()).hexdigest(), "")


def _capped(problems: list[str], kind: str) -> list[str]:
    if len(problems) <= SHOWN:
        return problems
    return [*problems[:SHOWN], f"{len(problems) - SHOWN:,} more {kind}"]


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
